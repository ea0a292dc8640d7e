"""HiFT vocoder: mel and a harmonic source to waveform, upsampling plus inverse STFT."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from mynah.config import VocoderConfig
from mynah.errors import ModelFormatError
from mynah.networks.harmonic_source import Excitation, F0Predictor, PulseAndNoise
from mynah.networks.stft import STFT, InverseSTFT
from mynah.networks.vocoder_convs import PaddedConv, RepeatUpsample, same_length_conv
from mynah.networks.vocoder_layout import (
    POST_KERNEL_SIZE,
    block_reach,
    pre_reach,
    source_kernel_size,
    source_padding,
    source_stride,
    upsample_padding,
)

_POST_SLOPE = 0.01
_MAX_MAGNITUDE = 100.0


class Snake(nn.Module):
    """Periodic activation x + sin(a x)^2 / a with one trained a for each channel."""

    def __init__(self, channels: int) -> None:
        """Start with a = 1."""
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        alpha = self.alpha[:, None]
        return x + torch.sin(alpha * x).square() / (alpha + 1e-9)


class ResidualUnit(nn.Module):
    """Snake, dilated convolution, snake, convolution, around a skip connection."""

    def __init__(self, channels: int, kernel_size: int, dilation: int, is_causal: bool) -> None:
        """Both convolutions keep the length; ``kernel_size`` is odd."""
        super().__init__()
        conv = partial(same_length_conv, channels, channels, kernel_size, is_causal=is_causal)
        self.snake1 = Snake(channels)
        self.conv1 = conv(dilation)
        self.snake2 = Snake(channels)
        self.conv2 = conv()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        branch: Tensor = self.conv2(self.snake2(self.conv1(self.snake1(x))))
        return x + branch


def residual_block(
    channels: int, kernel_size: int, dilations: Sequence[int], *, is_causal: bool
) -> nn.Sequential:
    """One residual unit for each dilation."""
    return nn.Sequential(*(ResidualUnit(channels, kernel_size, d, is_causal) for d in dilations))


class PolarHead(nn.Module):
    """Spectrum from log magnitude and the sine of the phase angle."""

    def __init__(self, channels: int, n_fft: int, *, is_causal: bool) -> None:
        """Read ``channels`` features for each spectrum column."""
        super().__init__()
        self.conv = same_length_conv(channels, n_fft + 2, POST_KERNEL_SIZE, is_causal=is_causal)

    def forward(self, x: Tensor, source_spectrum: Tensor) -> Tensor:
        """(B, C, T) -> spectrum (B, n_fft + 2, T), real parts then imaginary parts."""
        log_magnitude, phase = self.conv(functional.leaky_relu(x, _POST_SLOPE)).chunk(2, dim=1)
        magnitude = log_magnitude.exp().clamp(max=_MAX_MAGNITUDE)
        # The sine itself is the angle: released weights are trained that way.
        angle = torch.sin(phase)
        return torch.cat([magnitude * torch.cos(angle), magnitude * torch.sin(angle)], dim=1)


class SourceFilterHead(nn.Module):
    """Spectrum as filtered source: complex gain on the pulse train, real gain on the noise.

    The harmonic-plus-noise model of DDSP (Engel et al. 2020) and neural source-filter vocoders
    (Wang et al. 2019), with the filters in the STFT domain.
    """

    def __init__(self, channels: int, n_fft: int, *, is_causal: bool) -> None:
        """Read ``channels`` features for each spectrum column."""
        super().__init__()
        self.bins = n_fft // 2 + 1
        self.conv = same_length_conv(channels, 3 * self.bins, POST_KERNEL_SIZE, is_causal=is_causal)

    def forward(self, x: Tensor, source_spectrum: Tensor) -> Tensor:
        """(B, C, T), (B, 4 bins, T) of pulses and noise -> (B, n_fft + 2, T)."""
        gains = self.conv(functional.leaky_relu(x, _POST_SLOPE))
        pulse_gain, angle, noise_gain = torch.split(gains, self.bins, dim=1)
        pulse_gain = pulse_gain.exp().clamp(max=_MAX_MAGNITUDE)
        noise_gain = noise_gain.exp().clamp(max=_MAX_MAGNITUDE)
        real, imaginary = pulse_gain * torch.cos(angle), pulse_gain * torch.sin(angle)
        pulse_re, pulse_im, noise_re, noise_im = torch.split(source_spectrum, self.bins, dim=1)
        out_re = real * pulse_re - imaginary * pulse_im + noise_gain * noise_re
        out_im = real * pulse_im + imaginary * pulse_re + noise_gain * noise_im
        return torch.cat([out_re, out_im], dim=1)


class UpsampleStage(nn.Module):
    """One up-sampling step: raise the rate, add the source, mean of residual blocks."""

    def __init__(self, config: VocoderConfig, stage: int) -> None:
        """Build stage number ``stage`` of the configuration; channels halve at each."""
        super().__init__()
        channels = config.base_channels >> (stage + 1)
        self.slope = config.leaky_slope
        # a centred STFT has one column more than the signal has hops
        self.extra_columns = int(stage == len(config.upsample_rates) - 1)
        self.up = _upsampling(config, stage, channels)
        self.reads_source = config.head == "polar"
        if self.reads_source:
            left, right = source_padding(config, stage)
            self.source_down = PaddedConv(
                config.n_fft + 2,
                channels,
                source_kernel_size(config, stage),
                left=left,
                right=right,
                stride=source_stride(config, stage),
            )
            self.source_reach = block_reach(
                config,
                config.source_resblock_kernel_sizes[stage],
                config.source_resblock_dilations[stage],
            )
            self.source_block = residual_block(
                channels,
                config.source_resblock_kernel_sizes[stage],
                config.source_resblock_dilations[stage],
                is_causal=config.is_causal,
            )
        self.blocks = nn.ModuleList(
            residual_block(channels, size, dilations, is_causal=config.is_causal)
            for size, dilations in zip(
                config.resblock_kernel_sizes, config.resblock_dilations, strict=True
            )
        )

    def forward(self, x: Tensor, source_spectrum: Tensor, offset: Tensor | None = None) -> Tensor:
        """(B, 2C, T), (B, n_fft + 2, columns) -> (B, C, rate * T), last stage + 1.

        ``offset`` () is the position of the first result; None = the start of the spectrum.
        """
        x = self.up(functional.leaky_relu(x, self.slope))
        if self.extra_columns:
            x = functional.pad(x, [self.extra_columns, 0], mode="reflect")
        if self.reads_source:
            source = self.source_down(source_spectrum)
            x = x + self._source_features(source, x.shape[2], offset)
        total: Tensor = self.blocks[0](x)
        for block in self.blocks[1:]:
            total = total + block(x)
        return total / len(self.blocks)

    def _source_features(self, source: Tensor, length: int, offset: Tensor | None) -> Tensor:
        """(B, C, T) to ``length`` features from ``offset`` on, with all that they depend on."""
        if offset is None:
            features: Tensor = self.source_block(source)
            return features
        left, right = self.source_reach
        first = (offset - left).clamp(min=0)
        features = self.source_block(source[:, :, first : offset + length + right])
        return features[:, :, offset - first : offset - first + length]


def _upsampling(config: VocoderConfig, stage: int, channels: int) -> nn.Module:
    rate, kernel = config.upsample_rates[stage], config.upsample_kernel_sizes[stage]
    if config.is_causal:
        return RepeatUpsample(2 * channels, channels, kernel, rate)
    padding = upsample_padding(config, stage)
    return nn.ConvTranspose1d(2 * channels, channels, kernel, stride=rate, padding=padding)


class HiFT(nn.Module):
    """Vocoder with an F0 predictor, a harmonic source and an inverse STFT head.

    Between ``f0`` and ``excitation`` stands the harmonic generator, which has no weights and
    lives in the pipeline. Frames are mel frames; N = F * config.samples_per_frame samples.
    """

    def __init__(self, config: VocoderConfig) -> None:
        """Build all networks with fresh weights.

        Raises:
            ModelFormatError: if the configuration's sizes do not fit each other.
        """
        super().__init__()
        _check(config)
        self.config = config
        self.f0_predictor = F0Predictor(config)
        polar = config.head == "polar"
        self.source_filter = Excitation(config.num_harmonics) if polar else PulseAndNoise()
        self.stft = STFT(config.n_fft, config.hop_length)
        self.inverse_stft = InverseSTFT(config.n_fft, config.hop_length)
        left, right = pre_reach(config)
        self.rates = config.upsample_rates
        self.conv_pre = PaddedConv(
            config.n_mels, config.base_channels, left + 1 + right, left=left, right=right
        )
        stages = len(config.upsample_rates)
        self.stages = nn.ModuleList(UpsampleStage(config, stage) for stage in range(stages))
        head = PolarHead if polar else SourceFilterHead
        self.head = head(config.base_channels >> stages, config.n_fft, is_causal=config.is_causal)

    def f0(self, mel: Tensor, mask: Tensor | None = None) -> Tensor:
        """Fundamental frequency in Hz: (B, F, n_mels) -> (B, F).

        ``mask`` (B, F) is 1 where a frame exists; padding behind the last frame has 0.
        """
        frequency: Tensor = self.f0_predictor(mel, mask)
        return frequency

    def excitation(self, harmonics: Tensor) -> Tensor:
        """Source signal: (B, N, num_harmonics + 1) -> (B, N)."""
        source: Tensor = self.source_filter(harmonics)
        return source

    def features(self, mel: Tensor, source: Tensor) -> Tensor:
        """What the head reads: (B, C, N / hop + 1), one column for each inverse STFT frame."""
        return self._features(mel, self.stft(source))[0]

    def _normalised(self, mel: Tensor) -> Tensor:
        return (mel - self.config.mel_mean) / self.config.mel_std

    def _features(
        self, mel: Tensor, source_spectrum: Tensor, crops: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Features (B, C, T), and the column of the first one; None = the first of all."""
        x: Tensor = self.conv_pre(self._normalised(mel).transpose(1, 2))
        x = self.stages[0](x, source_spectrum)
        if crops is None or len(self.rates) == 1:
            for stage in self.stages[1:]:
                x = stage(x, source_spectrum)
            return x, None
        offset = crops.new_zeros(())
        for index, stage in enumerate(self.stages[1:]):
            first, stop = crops[index, 0], crops[index, 1]
            x = x[:, :, first - offset : stop - offset]
            offset = first * self.rates[index + 1]
            x = stage(x, source_spectrum, offset)
        return x, offset

    def decode(self, mel: Tensor, source: Tensor, crops: Tensor | None = None) -> Tensor:
        """Waveform within +-audio_limit: mel (B, F, n_mels), source (B, N) -> (B, N).

        With the source-filter head the source is (B, N, 2): pulse train, noise. ``crops``
        (stages - 1, 2) int64 holds the first position that each stage but the first reads, and
        the one behind the last; then the waveform begins and ends where the last stage does,
        and is right as far as the positions it depends on were read.
        """
        if source.dim() == 3:
            source_spectrum = torch.cat([self.stft(part) for part in source.unbind(2)], dim=1)
        else:
            source_spectrum = self.stft(source)
        features, offset = self._features(mel, source_spectrum, crops)
        if offset is not None:
            source_spectrum = source_spectrum[:, :, offset : offset + features.shape[2]]
        spectrum = self.head(features, source_spectrum)
        signal: Tensor = self.inverse_stft(spectrum)
        return signal.clamp(-self.config.audio_limit, self.config.audio_limit)

    def forward(self, mel: Tensor, source: Tensor, crops: Tensor | None = None) -> Tensor:
        """Same as ``decode``."""
        return self.decode(mel, source, crops)


def _check(config: VocoderConfig) -> None:
    stages = len(config.upsample_rates)
    lengths = {
        stages,
        len(config.upsample_kernel_sizes),
        len(config.source_resblock_kernel_sizes),
        len(config.source_resblock_dilations),
    }
    if len(lengths) != 1 or len(config.resblock_kernel_sizes) != len(config.resblock_dilations):
        raise ModelFormatError("vocoder configuration: lists of stages differ in length")
    if not stages or config.base_channels % (1 << stages):
        raise ModelFormatError(
            f"vocoder base_channels {config.base_channels} cannot be halved {stages} times"
        )
    for rate, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
        if kernel < rate or (kernel - rate) % 2:
            raise ModelFormatError(
                f"vocoder upsampling by {rate} needs a kernel of {rate} + an even number, "
                f"not {kernel}"
            )
    kernels = (*config.resblock_kernel_sizes, *config.source_resblock_kernel_sizes)
    if any(kernel % 2 == 0 for kernel in kernels):
        raise ModelFormatError(f"vocoder residual kernels must be odd: {kernels}")
