"""Pronunciation of unknown English words from their letters: a small network in plain NumPy.

Every letter gets a chunk of zero, one or two phonemes. Residual convolutions read the letters; a
small head chooses the chunks from left to right, knowing the previous chunks and the number of
stressed vowels so far; a beam search finds the likeliest word. Trained by
``recipes/nano/train_letter_to_sound.py``.
"""

from __future__ import annotations

import functools
import importlib.resources
import io
import json
from typing import Final

import numpy as np
import numpy.typing as npt

from mynah.errors import ModelFormatError
from mynah.text.lexicon import Pronunciation

FloatArray = npt.NDArray[np.float32]

LETTERS: Final = "'abcdefghijklmnopqrstuvwxyz"
"""Letter ids are 1 + the index here; 0 is padding."""
PREVIOUS_CHUNKS: Final = 3
MAX_STRESSES: Final = 2
BEAM: Final = 4
LONGEST_WORD: Final = 60


def gelu(x: FloatArray) -> FloatArray:
    """Gaussian error linear unit, tanh form."""
    inner = np.float32(0.7978845608) * (x + np.float32(0.044715) * x * x * x)
    result: FloatArray = np.float32(0.5) * x * (1 + np.tanh(inner))
    return result


def normalize(x: FloatArray) -> FloatArray:
    """Root-mean-square norm over the last axis, without gain."""
    result: FloatArray = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(1e-6))
    return result


def dilated_neighbours(x: FloatArray, dilation: int, width: int = 5) -> FloatArray:
    """Concatenate ``width`` neighbours at distance ``dilation``: (L, C) -> (L, width * C)."""
    reach = dilation * (width // 2)
    padded = np.pad(x, ((reach, reach), (0, 0)))
    length = len(x)
    return np.concatenate([padded[i * dilation : i * dilation + length] for i in range(width)], 1)


class LetterToSound:
    """The network with its weights. Immutable; thread-safe."""

    def __init__(self, weights: dict[str, FloatArray], chunks: list[Pronunciation]) -> None:
        """Take float32 weights and the phonemes of every chunk (chunk 0 is "before the word")."""
        self._weights = weights
        self._chunks = chunks
        self._dilations = [int(d) for d in weights["dilations"]]
        self._stresses = np.array([sum(p.endswith("1") for p in chunk) for chunk in chunks])

    @classmethod
    @functools.cache
    def english(cls) -> LetterToSound:
        """The network of the package, read at the first call."""
        data = importlib.resources.files("mynah.text") / "data" / "letter_to_sound_en.npz"
        return cls.from_bytes(data.read_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> LetterToSound:
        """Read the file: int8 arrays with one scale per row (``NAME.scale``), others as they are.

        Raises:
            ModelFormatError: if the file is damaged.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            chunks = [tuple(c.split()) for c in json.loads(arrays.pop("chunks").tobytes())]
            weights = {
                name: array.astype(np.float32) * arrays[f"{name}.scale"].astype(np.float32)
                if array.dtype == np.int8
                else array.astype(np.float32)
                for name, array in arrays.items()
                if not name.endswith(".scale")
            }
        except (OSError, ValueError, KeyError) as error:
            raise ModelFormatError(
                f"cannot read the letter-to-sound weights: {error}", hint="reinstall mynah"
            ) from error
        return cls(weights, chunks)

    def _features(self, letters: npt.NDArray[np.int64]) -> FloatArray:
        """Letter ids (L,) -> inputs of the head (L, hidden), before the previous chunks."""
        weights = self._weights
        x = weights["letters"][letters]
        for index, dilation in enumerate(self._dilations):
            wide = dilated_neighbours(normalize(x), dilation)
            hidden = gelu(
                wide @ weights[f"blocks.{index}.conv"].T + weights[f"blocks.{index}.bias"]
            )
            x = x + hidden @ weights[f"blocks.{index}.out"].T
        features: FloatArray = normalize(x) @ weights["head.features"].T + weights["head.bias"]
        return features

    def __call__(self, word: str) -> Pronunciation:
        """Phonemes of one word; characters outside ``LETTERS`` are ignored, case too.

        Words longer than ``LONGEST_WORD`` are read in pieces.
        """
        known = "".join(c for c in word.lower() if c in LETTERS)
        phonemes: list[str] = []
        for start in range(0, len(known), LONGEST_WORD):
            phonemes.extend(self._predict(known[start : start + LONGEST_WORD]))
        return tuple(phonemes)

    def _predict(self, word: str) -> list[str]:
        weights = self._weights
        features = self._features(np.array([1 + LETTERS.index(c) for c in word]))
        history = np.zeros((1, PREVIOUS_CHUNKS), np.int64)
        stresses = np.zeros(1, np.int64)
        scores = np.zeros(1, np.float32)
        paths: list[list[int]] = [[]]
        for row in features:
            hidden = row + weights["head.stress"][np.minimum(stresses, MAX_STRESSES)]
            for index in range(PREVIOUS_CHUNKS):
                hidden = hidden + weights[f"head.previous.{index}"][history[:, index]]
            logits = gelu(hidden) @ weights["head.out"].T + weights["head.out_bias"]
            logits = logits - logits.max(axis=1, keepdims=True)
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
            total = (scores[:, None] + logits).ravel()
            best = np.argsort(-total, kind="stable")[:BEAM]
            parents, chunks = np.divmod(best, logits.shape[1])
            scores = total[best]
            history = np.concatenate([chunks[:, None], history[parents, :-1]], axis=1)
            stresses = stresses[parents] + self._stresses[chunks]
            paths = [[*paths[p], int(c)] for p, c in zip(parents, chunks, strict=True)]
        return [phoneme for chunk in paths[0] for phoneme in self._chunks[chunk]]
