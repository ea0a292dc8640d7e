"""Initial noise of the flow, addressed by absolute frame so that slicing never changes it."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mynah.backends.base import FloatArray
from mynah.config import FlowConfig
from mynah.errors import GenerationLimitError, ModelFormatError

_BLOCK_FRAMES = 256


class NoiseSource(Protocol):
    """Noise of every frame, counted from the start of the prompt."""

    def frames(self, start: int, stop: int) -> FloatArray:
        """Standard normal values (stop - start, n_mels)."""
        ...


class SeededNoise:
    """Endless noise drawn by NumPy in blocks, each from its own seed, so any frame is reachable.

    The legacy generator is used on purpose: its stream is guaranteed never to change.
    """

    def __init__(self, n_mels: int = 80, seed: int = 0) -> None:
        """Noise of ``n_mels`` values per frame; equal seeds give equal noise."""
        self._n_mels = n_mels
        self._seed = seed

    def frames(self, start: int, stop: int) -> FloatArray:
        """Standard normal values (stop - start, n_mels)."""
        first, last = start // _BLOCK_FRAMES, -(-stop // _BLOCK_FRAMES)
        blocks = [self._block(index) for index in range(first, max(last, first + 1))]
        offset = first * _BLOCK_FRAMES
        return np.concatenate(blocks)[start - offset : stop - offset]

    def _block(self, index: int) -> FloatArray:
        generator = np.random.RandomState([self._seed, index])
        return generator.standard_normal((_BLOCK_FRAMES, self._n_mels)).astype(np.float32)


class ArrayNoise:
    """Noise from a file, for models whose noise was drawn elsewhere."""

    def __init__(self, array: FloatArray) -> None:
        """``array`` is (frames, n_mels)."""
        self._array = array

    def frames(self, start: int, stop: int) -> FloatArray:
        """Noise values (stop - start, n_mels).

        Raises:
            GenerationLimitError: past the end of the file.
        """
        if stop > len(self._array):
            raise GenerationLimitError(
                f"the model's noise covers {len(self._array)} frames, frame {stop} was asked for",
                hint="split the text into shorter parts",
            )
        return self._array[start:stop]


def noise_source(config: FlowConfig, array: FloatArray | None = None) -> NoiseSource:
    """The noise a model was made for; ``array`` (frames, n_mels) is its noise file, if any.

    Raises:
        ModelFormatError: if the model needs a noise file and has none, or one of a wrong shape.
    """
    if array is not None:
        if array.ndim != 2 or array.shape[1] != config.n_mels:
            raise ModelFormatError(
                f"the noise has shape {array.shape}, expected (frames, {config.n_mels})"
            )
        return ArrayNoise(array)
    if config.noise == "numpy":
        return SeededNoise(config.n_mels)
    raise ModelFormatError(
        "this model needs its noise file", hint="download or convert the model again"
    )
