"""The pointer of small language models on the native kernels, in float32.

Its graphs are a matrix or two each; a call is over sooner than ONNX Runtime has begun one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mynah.backends.base import Cursor, TokenArray
from mynah.backends.native.kernels import TILE, Guard, Threads
from mynah.backends.native.matrices import Matrix, pack_floats
from mynah.backends.native.program import Act, Program
from mynah.backends.native.traced_weights import StoredRows, TracedWeights
from mynah.backends.trunk_language_model import POINTER_ADVANCE, POINTER_FEATURES
from mynah.config import LMConfig
from mynah.errors import BackendError
from mynah.types import FloatArray

_BEFORE, _AFTER = 1, 2
"""Text positions that are seen around its own, as in ``mynah.networks.language_model``."""
_WINDOW, _DWELL = "pointer.window", "pointer.dwell.weight"
_TOKEN, _FIRST, _LAST = "pointer.token.weight", "pointer.advance.0", "pointer.advance.2"
_NUMBERED = {"MatMul": [f"{_WINDOW}.weight"]}


class NativePointer:
    """``Pointer`` on the weights of the ONNX graphs."""

    def __init__(self, folder: Path, config: LMConfig, threads: Threads) -> None:
        """Read and pack the weights.

        Raises:
            ModelNotFoundError: if a graph is missing.
            ModelFormatError: if it is damaged, or lacks a weight.
        """
        features, advance = _weights(folder)
        width = config.hidden_size
        self._threads, self._guard = threads, Guard()
        self._dwell, self._token = features[_DWELL], StoredRows(advance, _TOKEN)
        self._around = Program(1)
        self._seen = self._around.rows((_BEFORE + 1 + _AFTER) * width)
        self._made = self._around.rows(width)
        kernel, scale = features.stored(f"{_WINDOW}.weight")  # (inner, outer)
        window = kernel * (np.float32(1) if scale is None else scale)
        matrix = pack_floats(window.T, bias=features[f"{_WINDOW}.bias"])
        self._around.product(self._seen, matrix, self._made)
        first, last = (_packed(advance, name) for name in (_FIRST, _LAST))
        self._moves, self._moving = last.columns, Program(1)
        self._hidden, middle = self._moving.rows(width), self._moving.rows(width)
        self._scores = self._moving.rows(-(-last.columns // TILE) * TILE)
        self._moving.product(self._hidden, first, middle)
        self._moving.map(middle, act=Act.GELU, y=middle)
        self._moving.product(middle, last, self._scores)

    def features(self, text: FloatArray, cursor: Cursor) -> FloatArray:
        """See ``Pointer``.

        Raises:
            BackendError: if the text has no such position.
        """
        if not 0 <= cursor.position < len(text):
            raise BackendError(f"there is no position {cursor.position} in {len(text)}")
        first = cursor.position - _BEFORE
        seen = text[max(first, 0) : cursor.position + _AFTER + 1].reshape(-1)
        skipped = max(-first, 0) * text.shape[1]
        with self._guard:
            self._seen.memory[0] = 0  # what is outside of the text
            self._seen.memory[0, skipped : skipped + seen.size] = seen
            self._around.run(self._threads, np.array([1, 1], dtype=np.int64))
            made = self._made.memory[0].copy()
        features: FloatArray = made + self._dwell[min(cursor.dwell, len(self._dwell) - 1)]
        return features

    def advance(self, hidden: FloatArray, tokens: TokenArray) -> FloatArray:
        """See ``Pointer``.

        Raises:
            BackendError: if a token has no vector.
        """
        inputs = hidden + self._token(tokens)
        scores = np.empty((len(inputs), self._moves), dtype=np.float32)
        with self._guard:
            for row, made in zip(inputs, scores, strict=True):
                self._hidden.memory[0] = row
                self._moving.run(self._threads, np.array([1, 1], dtype=np.int64))
                made[:] = self._scores.memory[0, : self._moves]
        return scores


def missing_pointer_weight(folder: Path) -> str | None:
    """The first weight that the graphs lack.

    Raises:
        ModelNotFoundError: if one is missing.
        ModelFormatError: if one is damaged.
    """
    linears = (_FIRST, _LAST)
    names = (
        [f"{_WINDOW}.weight", f"{_WINDOW}.bias", _DWELL],
        [_TOKEN, *(f"{linear}.{kind}" for linear in linears for kind in ("weight", "bias"))],
    )
    for weights, wanted in zip(_weights(folder), names, strict=True):
        missing = next((name for name in wanted if name not in weights), None)
        if missing is not None:
            return missing
    return None


def _weights(folder: Path) -> tuple[TracedWeights, TracedWeights]:
    features = TracedWeights(folder / POINTER_FEATURES, _NUMBERED)
    return features, TracedWeights(folder / POINTER_ADVANCE, {})


def _packed(weights: TracedWeights, name: str) -> Matrix:
    values, scale = weights.stored(f"{name}.weight")
    rows = values.T if weights.is_dynamic(f"{name}.weight") else values  # (outer, inner)
    scales = np.float32(1) if scale is None else scale[:, None]
    return pack_floats(rows * scales, bias=weights[f"{name}.bias"])
