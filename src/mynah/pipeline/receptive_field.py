"""Which mel frames and source samples a vocoder output sample depends on.

Intervals of positions are followed backwards through every layer, exactly. Utterance ends are not
considered: there the layers pad, and the field is only smaller.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mynah.backends.base import CropArray
from mynah.config import VocoderConfig
from mynah.networks.vocoder_layout import (
    block_reach,
    f0_reaches,
    post_reach,
    pre_reach,
    source_kernel_size,
    source_padding,
    source_stride,
    upsample_padding,
)

_FRAME = 1_000_000  # far from position 0: intervals never meet the utterance's start


class Interval(NamedTuple):
    """Positions ``first`` to ``last``, both included."""

    first: int
    last: int

    def widened(self, reach: tuple[int, int]) -> Interval:
        """The same, so many positions more before the first and behind the last."""
        return Interval(self.first - reach[0], self.last + reach[1])

    def joined(self, other: Interval | None) -> Interval:
        """The smallest interval that holds both."""
        if other is None:
            return self
        return Interval(min(self.first, other.first), max(self.last, other.last))

    def divided(self, by: int) -> Interval:
        """Interval of groups of ``by`` positions."""
        return Interval(self.first // by, self.last // by)


class Field(NamedTuple):
    """Frames to the left and to the right of a decoded frame that its samples depend on."""

    left: int
    right: int


def receptive_field(config: VocoderConfig) -> tuple[int, int]:
    """Frames (left, right) that ``decode`` must see beside the frames it makes, mel or source."""
    mel, source = decode_fields(config)
    return max(mel.left, source.left), max(mel.right, source.right)


def lookahead_frames(config: VocoderConfig) -> int:
    """Mel frames that must be known beyond a frame before its samples are certain.

    Through the decoder directly, or through source, harmonics and F0.
    """
    mel, source = decode_fields(config)
    return max(mel.right, source.right + harmonics_ahead(config) + f0_field(config).right)


def harmonics_ahead(config: VocoderConfig) -> int:
    """Frames behind a frame whose F0 its harmonics depend on."""
    # Only where the phase runs from frame centre to frame centre, it runs towards the next one.
    return int(config.sine_phase == "frame_linear" or config.head == "source_filter")


def f0_field(config: VocoderConfig) -> Field:
    """Frames to the left and to the right that the F0 of a frame depends on."""
    left, right = zip(*f0_reaches(config), strict=True)
    return Field(sum(left), sum(right))


@lru_cache
def decode_fields(config: VocoderConfig) -> tuple[Field, Field]:
    """Field of ``decode`` on its mel input, and on its source input, in frames."""
    size = config.samples_per_frame
    stages, spectrum = _inputs_of(config, Interval(_FRAME * size, (_FRAME + 1) * size - 1))
    hop, reach = config.hop_length, _column_reach(config)
    mel = stages[0].widened(pre_reach(config))
    source = Interval(spectrum.first * hop - reach, spectrum.last * hop + reach).divided(size)
    return _field(mel), _field(source)


def stage_crops(config: VocoderConfig, first: int, stop: int, frames: int) -> CropArray:
    """What the up-sampling stages but the first must read for the samples of some frames.

    The first stages look far, the last ones cost most: reading less in these saves most of what
    a window's context costs.

    Args:
        config: of the vocoder.
        first: frame of the window whose samples are wanted.
        stop: frame behind the last one.
        frames: of the whole window.

    Returns:
        (stages - 1, 2): positions of each stage's input, from and up to, counted from the start
        of the window.
    """
    size = config.samples_per_frame
    stages, _ = _inputs_of(config, Interval(first * size, stop * size - 1))
    crops, length = [], frames
    for interval, rate in zip(stages[1:], config.upsample_rates, strict=False):
        length *= rate
        crops.append([max(interval.first, 0), min(interval.last + 1, length)])
    return np.array(crops, dtype=np.int64).reshape(-1, 2)


def first_sample(config: VocoderConfig, crops: CropArray) -> int:
    """Sample of the window that a waveform decoded with ``crops`` starts with."""
    if not len(crops):
        return 0
    return int(crops[-1, 0]) * config.upsample_rates[-1] * config.hop_length


def _column_reach(config: VocoderConfig) -> int:
    # the window's first coefficient is zero: a column reaches half a window minus one sample
    return config.n_fft // 2 - 1


def _inputs_of(config: VocoderConfig, samples: Interval) -> tuple[list[Interval], Interval]:
    """Positions of each stage's input, and columns of the source, that samples depend on."""
    reach, hop = _column_reach(config), config.hop_length
    columns = Interval(-((reach - samples.first) // hop), (samples.last + reach) // hop)
    # Some heads read the source spectrum beside the features; counting it for all costs nothing.
    spectrum = columns
    x = columns.widened(post_reach(config))
    inputs: list[Interval] = []
    last = len(config.upsample_rates) - 1
    for stage in range(last, -1, -1):
        x = x.widened(
            max(
                block_reach(config, size, dilations)
                for size, dilations in zip(
                    config.resblock_kernel_sizes, config.resblock_dilations, strict=True
                )
            )
        )
        if config.head == "polar":
            spectrum = spectrum.joined(_source_columns(config, stage, x))
        if stage == last:  # one column is put in front
            x = Interval(x.first - 1, x.last - 1)
        x = _upsampled_from(config, stage, x)
        inputs.insert(0, x)
    return inputs, spectrum


def _upsampled_from(config: VocoderConfig, stage: int, x: Interval) -> Interval:
    """Positions before a stage's up-sampling that reach positions ``x`` behind it."""
    rate, kernel = config.upsample_rates[stage], config.upsample_kernel_sizes[stage]
    if config.is_causal:
        return x.widened((kernel - 1, 0)).divided(rate)
    padding = upsample_padding(config, stage)
    return Interval(-((kernel - 1 - padding - x.first) // rate), (x.last + padding) // rate)


def _source_columns(config: VocoderConfig, stage: int, x: Interval) -> Interval:
    """Spectrum columns that reach positions ``x`` of a stage through its source branch."""
    x = x.widened(
        block_reach(
            config,
            config.source_resblock_kernel_sizes[stage],
            config.source_resblock_dilations[stage],
        )
    )
    stride = source_stride(config, stage)
    padding, kernel = source_padding(config, stage)[0], source_kernel_size(config, stage)
    return Interval(x.first * stride - padding, x.last * stride - padding + kernel - 1)


def _field(frames: Interval) -> Field:
    return Field(_FRAME - frames.first, frames.last - _FRAME)
