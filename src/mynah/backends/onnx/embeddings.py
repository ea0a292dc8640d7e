"""Embedding tables of a language model, mapped from a file: rows are read when they are asked for.

A lookup is one line of NumPy, so it needs no graph; and of a large vocabulary only the rows that
were ever read become resident.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mynah.backends.base import FloatArray, Segment, TokenArray
from mynah.backends.onnx.tensors import map_tensors
from mynah.config import LMConfig
from mynah.errors import BackendError, ModelFormatError

_TEXT, _SPEECH, _MARKER = "text_embedding", "speech_embedding", "marker_embedding"
_SPEAKER = "speaker_affine"
_NUM_MARKERS = 2


class EmbeddingTables:
    """Text, speech, marker and speaker vectors of one model; float32 out, whatever is stored.

    A table may be float32, float16, or int8 with one scale per row (``<table>.scale``).
    """

    def __init__(self, path: Path, config: LMConfig) -> None:
        """Map the file; nothing is read yet.

        Raises:
            ModelNotFoundError: if there is no such file.
            ModelFormatError: if it is damaged or does not fit ``config``.
        """
        self._tensors = map_tensors(path)
        self._config = config
        self._offsets: TokenArray | None = None
        if config.marker_offsets is not None:
            rows = [config.speech_vocab_size + offset for offset in config.marker_offsets]
            self._offsets = np.array(rows, dtype=np.int64)
        _check(self._tensors, config, path.name)

    def text(self, ids: TokenArray) -> FloatArray:
        """Text ids (N,) -> (N, width of the text table).

        Raises:
            BackendError: if an id has no row; the other lookups raise the same.
        """
        return self._rows(_TEXT, ids)

    def speech(self, ids: TokenArray) -> FloatArray:
        """Speech ids (T,), control tokens among them -> (T, D)."""
        return self._rows(_SPEECH, ids)

    def marker(self, ids: TokenArray) -> FloatArray:
        """Marker ids (T,), 0 = sos and 1 = task -> (T, D)."""
        if self._offsets is None:
            return self._rows(_MARKER, ids)
        _check_range(_MARKER, ids, _NUM_MARKERS)
        return self._rows(_SPEECH, self._offsets[ids])

    def speaker(self, vector: FloatArray | None) -> FloatArray:
        """Speaker vector (speaker_dim,) of any length but zero -> (1, D)."""
        if vector is None or self._config.speaker_dim is None:
            raise BackendError("this language model reads no speaker vector")
        weight = self._tensors[f"{_SPEAKER}.weight"].astype(np.float32)
        bias = self._tensors[f"{_SPEAKER}.bias"].astype(np.float32)
        length = max(float(np.linalg.norm(vector)), 1e-12)
        projected: FloatArray = (weight @ (vector / np.float32(length)) + bias)[None]
        return projected

    def segment(self, segment: Segment) -> FloatArray:
        """A segment of the language model's input, (T,) ids -> (T, width of its table)."""
        if segment.kind == "speaker":
            return self.speaker(segment.vector)
        lookups = {"text": self.text, "speech": self.speech, "marker": self.marker}
        return lookups[segment.kind](segment.ids)

    def _rows(self, table: str, ids: TokenArray) -> FloatArray:
        weight = self._tensors[f"{table}.weight"]
        _check_range(table, ids, len(weight))
        rows: FloatArray = weight[ids].astype(np.float32)  # a copy: callers add to it
        if weight.dtype == np.int8:
            rows *= self._tensors[f"{table}.scale"][ids].astype(np.float32)[:, None]
        return rows


def _check_range(table: str, ids: TokenArray, rows: int) -> None:
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < rows:
        bad = int(ids.min()) if ids.min() < 0 else int(ids.max())
        raise BackendError(f"id {bad} for {table} is outside 0 .. {rows - 1}")


def _check(tensors: Mapping[str, npt.NDArray[Any]], config: LMConfig, name: str) -> None:
    width, encoder = config.hidden_size, config.text_encoder
    expected: dict[str, tuple[int, ...]] = {
        f"{_TEXT}.weight": (config.text_vocab_size, encoder.input_size if encoder else width),
        f"{_SPEECH}.weight": (_speech_rows(tensors, config), width),
    }
    if config.marker_offsets is None:
        expected[f"{_MARKER}.weight"] = (_NUM_MARKERS, width)
    if config.speaker_dim is not None:
        expected[f"{_SPEAKER}.weight"] = (width, config.speaker_dim)
        expected[f"{_SPEAKER}.bias"] = (width,)
    for key, shape in list(expected.items()):
        if key in tensors and tensors[key].dtype == np.int8:
            expected[key.replace(".weight", ".scale")] = shape[:1]
    found = {key: table.shape for key, table in tensors.items()}
    if found != expected:
        raise ModelFormatError(
            f"{name} holds {found}, the configuration needs {expected}",
            hint="config.json and the weights belong to different models",
        )


def _speech_rows(tensors: Mapping[str, npt.NDArray[Any]], config: LMConfig) -> int:
    """Rows the speech table must have: all logits, or (CosyVoice 1) only what is ever read."""
    table = tensors.get(f"{_SPEECH}.weight")
    reads_control = config.fill_offset is not None or config.marker_offsets is not None
    if not reads_control and table is not None and len(table) == config.speech_vocab_size:
        return config.speech_vocab_size
    return config.head_size
