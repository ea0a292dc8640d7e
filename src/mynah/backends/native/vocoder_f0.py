"""The F0 predictor on the native kernels; see ``mynah.networks.harmonic_source``.

F0 errors add up in the phase. A row of a plain product is the same, bit for bit, whatever rows are
computed with it, and so is a frame's F0 in every window that holds its field.
"""

from __future__ import annotations

import numpy as np

from mynah.backends.native.kernels import AnyArray, Guard, Threads
from mynah.backends.native.matrices import pack_floats
from mynah.backends.native.row_convolutions import (
    ELU,
    PLAIN,
    Convolution,
    DoubleConvolution,
    Window,
    pack_doubles,
)
from mynah.backends.native.row_operations import Output
from mynah.backends.native.row_program import RowProgram, RowSequence, padded
from mynah.backends.native.traced_weights import TracedWeights
from mynah.backends.native.vocoder_weights import f0_prefix
from mynah.config import VocoderConfig
from mynah.errors import BackendError
from mynah.networks.vocoder_layout import f0_reaches
from mynah.types import FloatArray

_FRAMES_AT_ONCE = 96


class NativeF0:
    """Mel frames (F, n_mels) to F0 (F,) in Hz; what stands outside of them counts as zero."""

    def __init__(self, weights: TracedWeights, config: VocoderConfig, threads: Threads) -> None:
        """Read and pack the weights.

        Raises:
            ModelFormatError: if one is missing.
        """
        self._config, self._threads = config, threads
        self._guard = Guard()
        self._is_double = config.f0_float64
        self._dtype = np.dtype(np.float64 if config.f0_float64 else np.float32)
        self._program = RowProgram()
        x = self._mel = self._program.input(self._width(config.n_mels), "mel")
        for index, (left, right) in enumerate(f0_reaches(config)):
            weight, bias = _convolution(weights, config, index, left + 1 + right)
            x = self._convolve(x, weight, bias, Window(left + 1 + right, left, right), ELU)
        prefix = f0_prefix(config)
        output = weights[prefix + "output.weight"].reshape(1, -1, 1)
        self._y = self._convolve(x, output, weights[prefix + "output.bias"], Window(1, 0, 0), PLAIN)
        self._program.add(Output(self._y), self._y)
        counts = [self._counts(rows, final=False) for rows in (0, _FRAMES_AT_ONCE)]
        whole = [self._counts(rows, final=True) for rows in (0, _FRAMES_AT_ONCE)]
        far = self._counts(2 * _FRAMES_AT_ONCE, final=True)
        self._program.build(
            [
                self._program.piece(counts[0], counts[1], final=False),
                self._program.piece(counts[0], whole[1], final=True),
                self._program.piece(counts[1], far, final=True),
                self._program.piece(
                    counts[1], self._counts(2 * _FRAMES_AT_ONCE, final=False), final=False
                ),
            ]
        )

    def __call__(self, mel: FloatArray) -> FloatArray:
        """Compute it.

        Raises:
            BackendError: if the shape is wrong.
        """
        program, config = self._program, self._config
        counts = [0] * len(program.sequences)
        kept = np.zeros(program.state_floats, np.float32)
        if mel.ndim != 2 or mel.shape[1] != config.n_mels:
            raise BackendError(f"mel has shape {mel.shape}, not (frames, {config.n_mels})")
        wide = mel.astype(self._dtype)
        rows = (wide - self._dtype.type(config.mel_mean)) / self._dtype.type(config.mel_std)
        parts = [np.zeros(0, np.float32)]
        with self._guard:
            for start in range(0, len(mel), _FRAMES_AT_ONCE):
                new = rows[start : start + _FRAMES_AT_ONCE]
                final = start + len(new) == len(mel)
                after = self._counts(start + len(new), final=final)
                piece = program.piece(counts, after, final=final)
                at = start - piece.bases[self._mel.index]
                self._mel.rows(at, len(new)).view(self._dtype)[:, : config.n_mels] = new
                program.run(self._threads, piece, kept)
                made = after[self._y.index] - counts[self._y.index]
                parts.append(self._y.rows(0, made).view(self._dtype)[:, 0].astype(np.float32))
                counts = after
        f0: FloatArray = np.abs(np.concatenate(parts))
        return f0

    def _counts(self, rows: int, *, final: bool) -> list[int]:
        return self._program.advance([rows], final=final)

    def _width(self, columns: int) -> int:
        """Floats of a row."""
        return padded(columns) * self._dtype.itemsize // 4

    def _convolve(
        self, x: RowSequence, weight: AnyArray, bias: AnyArray, window: Window, act: int
    ) -> RowSequence:
        columns, inner, taps = weight.shape
        y = self._program.sequence(self._width(columns), f"row{x.index + 1}")
        spread = np.zeros((columns, taps, x.width * 4 // self._dtype.itemsize), self._dtype)
        spread[:, :, :inner] = weight.transpose(0, 2, 1)
        rows = spread.reshape(columns, -1)
        if self._is_double:
            matrix = pack_doubles(rows, bias)
            self._program.add(DoubleConvolution(x, y, window, matrix, act=act), x)
        else:
            matrix = pack_floats(rows, bias=bias)
            self._program.add(Convolution(x, y, window, matrix, act=act), x)
        return y


def _convolution(
    weights: TracedWeights, config: VocoderConfig, index: int, taps: int
) -> tuple[AnyArray, AnyArray]:
    """Weight (N, C, taps) and bias (N,); in float64 the graph has a matrix for each tap."""
    name = f"{f0_prefix(config)}convs.{index}"
    bias = weights[f"{name}.bias"]
    if not config.f0_float64:
        return weights[f"{name}.weight"], bias
    kernels = [weights[f"{name}.weight.{tap}"].T for tap in range(taps)]
    return np.stack(kernels, axis=2), bias
