"""The HiFT decoder as a program of incremental convolutions; see ``mynah.networks.vocoder``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mynah.backends.native.kernels import AnyArray
from mynah.backends.native.matrices import Matrix, pack_floats
from mynah.backends.native.row_convolutions import (
    LEAKY,
    Convolution,
    FoldedConvolution,
    Scratch,
    Snake,
    Window,
    fold_kernel,
)
from mynah.backends.native.row_operations import Join, Mirror, Output, Spectrum
from mynah.backends.native.row_program import RowProgram, RowSequence, padded
from mynah.backends.native.traced_weights import TracedWeights
from mynah.config import VocoderConfig
from mynah.networks.vocoder_layout import (
    POST_KERNEL_SIZE,
    post_reach,
    pre_reach,
    source_kernel_size,
    source_padding,
    source_stride,
    upsample_padding,
)
from mynah.types import FloatArray

_POST_SLOPE = 0.01
_MOST_MAGNITUDE = 100.0


class DecoderProgram(RowProgram):
    """Mel rows and source samples to windowed frames of the signal, (columns, n_fft)."""

    def __init__(self, config: VocoderConfig, weights: TracedWeights) -> None:
        """Describe the network and pack its weights; ``build`` makes it run.

        Raises:
            ModelFormatError: if a weight is missing.
        """
        super().__init__()
        self.config, self._weights = config, weights
        self._scratch = Scratch()
        self.mel = self.input(padded(config.n_mels), "mel")
        signals = 1 if config.head == "polar" else 2
        self.signals = [self.input(1, f"signal{index}") for index in range(signals)]
        bins = padded(config.n_fft // 2 + 1)
        self._spectra = self._source_spectra(bins)
        x = self._first()
        for stage in range(len(config.upsample_rates)):
            x = self._stage(stage, x)
        self.frames = self._head(x, bins)

    def _source_spectra(self, bins: int) -> RowSequence:
        """Spectrum columns of the source, those of pulses and noise side by side."""
        config = self.config
        window = Window(config.n_fft, 0, 0, config.hop_length)
        if config.head == "polar":
            y = self.sequence(padded(config.n_fft), "spectra")
            told = _analysis(config.n_fft)[_told_bins(config.n_fft)]
            self._convolve(self.signals[0], y, window, pack_floats(told))
            return y
        y = self.sequence(4 * bins, "spectra")
        halves = _spread(_analysis(config.n_fft), bins)
        for index, signal in enumerate(self.signals):
            basis = pack_floats(halves)
            self._convolve(signal, y, window, basis, column=2 * bins * index)
        return y

    def _first(self) -> RowSequence:
        config = self.config
        left, right = pre_reach(config)
        y = self.sequence(padded(config.base_channels), "joined")
        matrix = self._kernel("conv_pre", self.mel.width)
        window = Window(left + 1 + right, left, right)
        self._convolve(self.mel, y, window, matrix, act=LEAKY, slope=config.leaky_slope)
        return y

    def _stage(self, stage: int, x: RowSequence) -> RowSequence:
        config, name = self.config, f"stages.{stage}."
        width = padded(config.base_channels >> (stage + 1))
        last = stage == len(config.upsample_rates) - 1
        parts = []
        if config.head == "polar":
            parts.append(self._source_features(stage, width))
        up = self._upsample(stage, x, width)
        y = self.sequence(width, "input")
        join = Join([up, *parts], y, mirrored=up if last else None)
        if last:
            self.add(Mirror(up, join), up)
        self.add(join, up, *parts)
        outputs = [
            self._block(f"{name}blocks.{index}.", y, size, dilations, f"block{index}")
            for index, (size, dilations) in enumerate(
                zip(config.resblock_kernel_sizes, config.resblock_dilations, strict=True)
            )
        ]
        slope = _POST_SLOPE if last else config.leaky_slope
        joined = self.sequence(width, "joined")
        self.add(Join(outputs, joined, scale=1 / len(outputs), slope=slope), *outputs)
        return joined

    def _upsample(self, stage: int, x: RowSequence, width: int) -> RowSequence:
        """Rows at the higher rate: one product makes all that read the same rows."""
        config, name = self.config, f"stages.{stage}.up."
        rate = config.upsample_rates[stage]
        weight = self._weights[name + "weight"]
        if config.is_causal:
            kernels, cut = _repeated(weight, rate), 0
        else:
            kernels, cut = _transposed(weight, rate), upsample_padding(config, stage)
        taps = kernels.shape[3]
        spread = np.zeros((rate, width, taps, x.width), dtype=np.float32)
        spread[:, : kernels.shape[1], :, : kernels.shape[2]] = kernels.transpose(0, 1, 3, 2)
        bias = np.zeros((rate, width), dtype=np.float32)
        bias[:, : kernels.shape[1]] = self._weights[name + "bias"].reshape(-1)
        matrix = pack_floats(spread.reshape(rate * width, -1), bias=bias.reshape(-1))
        y = self.sequence(width, "up", lead=cut)
        window = Window(taps, taps - 1, -(-cut // rate))
        self._convolve(x, y, window, matrix, rate=rate, cut=cut)
        return y

    def _source_features(self, stage: int, width: int) -> RowSequence:
        config, name = self.config, f"stages.{stage}."
        left, right = source_padding(config, stage)
        window = Window(
            source_kernel_size(config, stage), left, right, source_stride(config, stage)
        )
        weight = self._weights[name + "source_down.weight"][:, _told_bins(config.n_fft)]
        matrix = _packed(weight, self._weights[name + "source_down.bias"], self._spectra.width)
        y = self.sequence(width, "input")
        self._convolve(self._spectra, y, window, matrix)
        size = config.source_resblock_kernel_sizes[stage]
        dilations = config.source_resblock_dilations[stage]
        return self._block(f"{name}source_block.", y, size, dilations, "features")

    def _block(
        self, name: str, x: RowSequence, size: int, dilations: Sequence[int], role: str
    ) -> RowSequence:
        """Residual units; the last one's rows are of that role."""
        for unit, dilation in enumerate(dilations):
            middle = self.sequence(x.width, "middle")
            self._folded(f"{name}{unit}.", 1, x, middle, size, dilation)
            last = unit == len(dilations) - 1
            y = self.sequence(x.width, role if last else f"unit{unit % 2}")
            self._folded(f"{name}{unit}.", 2, middle, y, size, 1, addend=x)
            x = y
        return x

    def _folded(
        self,
        unit: str,
        half: int,
        x: RowSequence,
        y: RowSequence,
        size: int,
        dilation: int,
        addend: RowSequence | None = None,
    ) -> None:
        weights, reach = self._weights, dilation * (size - 1)
        right = 0 if self.config.is_causal else reach // 2
        alpha = weights[f"{unit}snake{half}.alpha"].reshape(-1)
        spread = np.zeros(x.width, np.float32)
        spread[: alpha.size] = alpha
        inverse = np.float32(1) / (spread + np.float32(1e-9))
        inverse[alpha.size :] = 0
        name = f"{unit}conv{half}."
        matrix = fold_kernel(weights[name + "weight"], x.width, weights[name + "bias"])
        operation = FoldedConvolution(
            x, y, Window(reach + 1, reach - right, right), matrix,
            snake=Snake(spread, inverse), distance=dilation, scratch=self._scratch, addend=addend,
        )  # fmt: skip
        self.add(operation, *([x] if addend is None else [x, addend]))

    def _head(self, x: RowSequence, bins: int) -> RowSequence:
        config = self.config
        parts = 2 if config.head == "polar" else 3
        left, right = post_reach(config)
        weight = _spread(self._weights["head.conv.weight"], bins, parts)
        bias = _spread(self._weights["head.conv.bias"], bins, parts)
        gains = self.sequence(parts * bins, "gains")
        window = Window(POST_KERNEL_SIZE, left, right)
        self._convolve(x, gains, window, _packed(weight, bias, x.width))
        spectra = self.sequence(2 * bins, "filtered")
        source = None if config.head == "polar" else self._spectra
        operation = Spectrum(gains, spectra, bins=bins, most=_MOST_MAGNITUDE, source=source)
        self.add(operation, gains, *([] if source is None else [source]))
        frames = self.sequence(padded(config.n_fft), "frames")
        basis = np.ascontiguousarray(_spread(_synthesis(config.n_fft), bins).T)
        self._convolve(spectra, frames, Window(1, 0, 0), pack_floats(basis))
        self.add(Output(frames), frames)
        return frames

    def _kernel(self, name: str, width: int) -> Matrix:
        return _packed(self._weights[f"{name}.weight"], self._weights[f"{name}.bias"], width)

    def _convolve(
        self,
        x: RowSequence,
        y: RowSequence,
        window: Window,
        matrix: Matrix,
        *,
        act: int = 0,
        slope: float = 1.0,
        rate: int = 1,
        cut: int = 0,
        column: int = 0,
    ) -> None:
        operation = Convolution(
            x, y, window, matrix, act=act, slope=slope, rate=rate, cut=cut, column=column
        )
        self.add(operation, x)


def hann(n_fft: int) -> AnyArray:
    """The periodic window, float64."""
    window: AnyArray = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    return window


def _packed(weight: FloatArray, bias: FloatArray | None, width: int) -> Matrix:
    """(N, C, taps) for windows of rows ``width`` wide."""
    columns, inner, taps = weight.shape
    spread = np.zeros((columns, taps, width), dtype=np.float32)
    spread[:, :, :inner] = weight.transpose(0, 2, 1)
    return pack_floats(spread.reshape(columns, -1), bias=bias)


def _angles(n_fft: int) -> AnyArray:
    turns = np.outer(np.arange(n_fft // 2 + 1), np.arange(n_fft)) % n_fft
    angles: AnyArray = 2 * np.pi * turns / n_fft
    return angles


def _analysis(n_fft: int) -> FloatArray:
    """Windowed Fourier basis (n_fft + 2, n_fft): real parts, then imaginary parts."""
    angles = _angles(n_fft)
    basis = np.concatenate([np.cos(angles), -np.sin(angles)]) * hann(n_fft)
    return basis.astype(np.float32)


def _synthesis(n_fft: int) -> FloatArray:
    """The same for the way back."""
    angles, weight = _angles(n_fft), np.full((n_fft // 2 + 1, 1), 2 / n_fft)
    weight[0] = weight[-1] = 1 / n_fft
    basis = np.concatenate([weight * np.cos(angles), -weight * np.sin(angles)]) * hann(n_fft)
    return basis.astype(np.float32)


def _told_bins(n_fft: int) -> list[int]:
    """Rows of a spectrum that are not always zero, as the imaginary parts at both ends are."""
    bins = n_fft // 2 + 1
    return [row for row in range(2 * bins) if row not in (bins, 2 * bins - 1)]


def _spread(rows: FloatArray, bins: int, parts: int = 2) -> FloatArray:
    """Parts of a spectrum, each of them padded with zeros to ``bins``."""
    split = rows.reshape(parts, -1, *rows.shape[1:])
    made = np.zeros((parts, bins, *rows.shape[1:]), dtype=np.float32)
    made[:, : split.shape[1]] = split
    return made.reshape(parts * bins, *rows.shape[1:])


def _transposed(weight: FloatArray, rate: int) -> FloatArray:
    """Kernel (C, N, size) of a transposed convolution to one for each phase (rate, N, C, taps)."""
    inner, columns, size = weight.shape
    taps = -(-size // rate)
    whole = np.zeros((inner, columns, taps * rate), dtype=np.float32)
    whole[:, :, :size] = weight
    # the newest row meets the first ``rate`` elements of the kernel, older ones those that follow
    phases = whole.reshape(inner, columns, taps, rate)[:, :, ::-1]
    return phases.transpose(3, 1, 0, 2)


def _repeated(weight: FloatArray, rate: int) -> FloatArray:
    """Kernel (N, C, size) after repetition of each row to the same; see ``RepeatUpsample``."""
    columns, inner, size = weight.shape
    reach = -((1 - size) // rate)
    kernels = np.zeros((rate, columns, inner, reach + 1), dtype=np.float64)
    for phase in range(rate):
        for tap in range(size):
            kernels[phase, :, :, reach + (phase - size + 1 + tap) // rate] += weight[:, :, tap]
    return kernels.astype(np.float32)
