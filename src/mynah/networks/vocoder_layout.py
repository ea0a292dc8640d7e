"""Sizes of the vocoder's layers that no configuration changes; free of torch.

The streaming stage computes receptive fields from these, the networks are built from them.
"""

from __future__ import annotations

import math

from mynah.config import VocoderConfig

PRE_KERNEL_SIZE = 7
POST_KERNEL_SIZE = 7
F0_CONVS = 5
F0_KERNEL_SIZE = 3


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


def source_padding(config: VocoderConfig, stage: int) -> int:
    """Zero columns before the spectrum in the stage's source convolution."""
    stride = source_stride(config, stage)
    return 0 if stride == 1 else stride // 2
