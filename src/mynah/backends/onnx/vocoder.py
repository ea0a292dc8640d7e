"""The vocoder's networks run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mynah.backends.base import CropArray, FloatArray
from mynah.backends.onnx.graph import AnyArray, Graph
from mynah.backends.onnx.tensors import map_tensors
from mynah.errors import ModelFormatError

# ONNX Runtime rounds short convolutions (up to 64 positions), and those shared between threads, in
# another order than long ones. F0 errors add up in the phase, so windows are padded and run by one
# thread: a frame then gets the same F0, bit for bit, whatever window it is computed in.
_MIN_F0_FRAMES = 96

_CROPS = "crops"
_ANY_LENGTH = 1 << 40


class OnnxVocoder:
    """``VocoderNetwork`` on the graphs ``vocoder_f0`` and ``vocoder_decode`` of a model folder.

    Raises:
        ModelNotFoundError: if a file is missing.
        ModelFormatError: if a file cannot be read.
    """

    def __init__(self, folder: Path, *, threads: int = 0) -> None:
        """Load from ``folder``; ``threads`` = 0 lets ONNX Runtime choose."""
        self._f0 = Graph(folder / "vocoder_f0.onnx", threads=1)
        self._decode = Graph(folder / "vocoder_decode.onnx", threads)
        path = folder / "vocoder_source.safetensors"
        tensors = map_tensors(path)
        if tensors and set(tensors) != {"weight", "bias"}:
            raise ModelFormatError(f"{path} holds {sorted(tensors)}, not weight and bias")
        # copies: a handful of numbers, and no file stays mapped
        self._weight: FloatArray | None = None
        if tensors:
            self._weight = np.array(tensors["weight"][0], np.float32)
            self._bias: FloatArray = np.array(tensors["bias"], np.float32)

    def f0(self, mel: FloatArray) -> FloatArray:
        """Fundamental frequency in Hz, (F, n_mels) -> (F,)."""
        frames = len(mel)
        padding = max(_MIN_F0_FRAMES - frames, 0)
        mask = np.pad(np.ones(frames, np.float32), (0, padding))
        padded = np.pad(mel, [(0, padding), (0, 0)])
        f0: FloatArray = self._f0.run({"mel": padded[None], "mask": mask[None]})["f0"][0]
        return f0[:frames]

    def excitation(self, harmonics: FloatArray) -> FloatArray:
        """Mix harmonics to one source signal, (N, num_harmonics + 1) -> (N,).

        Where the model keeps pulses and noise apart, (N, 2) is returned as it is.
        """
        if self._weight is None:
            return harmonics
        source: FloatArray = np.tanh(harmonics @ self._weight + self._bias)
        return source

    def decode(
        self, mel: FloatArray, source: FloatArray, crops: CropArray | None = None
    ) -> FloatArray:
        """Waveform from mel (F, n_mels) and source (N,), or (N, 2); see ``VocoderNetwork``."""
        inputs: dict[str, AnyArray] = {"mel": mel[None], "source": source[None]}
        if _CROPS in self._decode.inputs:  # not in graphs of one stage
            everything = [[0, _ANY_LENGTH]] * (self._decode.inputs[_CROPS].shape[0] or 0)
            inputs[_CROPS] = np.array(everything) if crops is None else crops
        audio: FloatArray = self._decode.run(inputs)["audio"][0]
        return audio
