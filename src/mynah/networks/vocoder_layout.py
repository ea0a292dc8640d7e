"""Sizes of the vocoder's layers that no configuration changes; free of torch.

The streaming stage computes receptive fields from these, the networks are built from them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mynah.config import VocoderConfig

POST_KERNEL_SIZE = 7
F0_CONVS = 5

_PRE_KERNEL_SIZE = 7
_F0_KERNEL_SIZE = 3


def pre_reach(config: VocoderConfig) -> tuple[int, int]:
    """Frames before and behind its own that the first convolution sees."""
    if config.is_causal:
        return 0, config.lookahead_frames
    return _PRE_KERNEL_SIZE // 2, _PRE_KERNEL_SIZE // 2


def post_reach(config: VocoderConfig) -> tuple[int, int]:
    """Columns before and behind its own that the last convolution sees."""
    return _reach(POST_KERNEL_SIZE, config)


def block_reach(
    config: VocoderConfig, kernel_size: int, dilations: Sequence[int]
) -> tuple[int, int]:
    """Positions before and behind its own that a residual block sees."""
    left, right = _reach(kernel_size, config)
    steps = sum(dilation + 1 for dilation in dilations)
    return left * steps, right * steps


def f0_reaches(config: VocoderConfig) -> list[tuple[int, int]]:
    """The same for each convolution of the F0 predictor."""
    reaches = [_reach(_F0_KERNEL_SIZE, config)] * F0_CONVS
    if config.is_causal:
        reaches[0] = (0, config.f0_lookahead_frames)
    return reaches


def _reach(kernel_size: int, config: VocoderConfig) -> tuple[int, int]:
    if config.is_causal:
        return kernel_size - 1, 0
    return kernel_size // 2, kernel_size // 2


def upsample_padding(config: VocoderConfig, stage: int) -> int:
    """Samples cut off at each end of an up-sampling stage's transposed convolution."""
    return (config.upsample_kernel_sizes[stage] - config.upsample_rates[stage]) // 2


def source_stride(config: VocoderConfig, stage: int) -> int:
    """Spectrum columns for one feature column after up-sampling stage ``stage``."""
    return math.prod(config.upsample_rates[stage + 1 :])


def source_kernel_size(config: VocoderConfig, stage: int) -> int:
    """Spectrum columns that the stage's source convolution reads at once."""
    stride = source_stride(config, stage)
    return 1 if stride == 1 else 2 * stride


def source_padding(config: VocoderConfig, stage: int) -> tuple[int, int]:
    """Zero columns before and behind the spectrum in the stage's source convolution."""
    stride = source_stride(config, stage)
    if config.is_causal:
        return stride - 1, 0
    return (0, 0) if stride == 1 else (stride // 2, stride // 2)
