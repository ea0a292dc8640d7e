"""The speech language model by ONNX Runtime: mapped embedding tables, the trunk as a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mynah.backends.base import Cursor, FloatArray, Segment, TokenArray
from mynah.backends.onnx.graph import CachedGraph, Graph, GraphState
from mynah.backends.onnx.tensors import map_tensors
from mynah.config import LMConfig
from mynah.errors import BackendError, ModelFormatError


@dataclass(eq=False)
class OnnxLMState:
    """Everything one sequence needs: key/value cache, text seen, last hidden state."""

    cache: GraphState
    text: FloatArray
    """Embeddings of the text read so far (N, D); kept for pointer models only."""
    hidden: FloatArray
    """Hidden state of the last position (D,)."""


class OnnxSpeechLM:
    """``SpeechLM`` on the CPU.

    Sequences are stepped one after the other, so a sequence gives the same numbers alone and among
    others.
    """

    def __init__(self, folder: Path, config: LMConfig, threads: int = 0) -> None:
        """Load the language model files of a model folder.

        Raises:
            ModelNotFoundError: if a file is missing.
            ModelFormatError: if a file is damaged or does not fit ``config``.
        """
        self._config = config
        self._graph = CachedGraph(folder / "lm.onnx", threads)
        self._tables = map_tensors(folder / "lm_embeddings.safetensors")
        _check_tables(self._tables, config)
        self._features: Graph | None = None
        self._advance: Graph | None = None
        if config.pointer is not None:
            self._features = Graph(folder / "lm_pointer_features.onnx", threads)
            self._advance = Graph(folder / "lm_pointer_advance.onnx", threads)

    def prefill(
        self,
        segments: Sequence[Segment],
        state: OnnxLMState | None = None,
        cursor: Cursor | None = None,
    ) -> tuple[FloatArray, OnnxLMState]:
        """Read segments; see ``SpeechLM.prefill``."""
        width = self._config.hidden_size
        if state is None:
            empty = np.zeros((0, width), dtype=np.float32)
            state = OnnxLMState(self._graph.new_state(), empty, np.zeros(width, dtype=np.float32))
        parts = [self._embed(segment) for segment in segments]
        if self._features is not None:
            text = [p for p, s in zip(parts, segments, strict=True) if s.kind == "text"]
            state.text = np.concatenate([state.text, *text])
        inputs = np.concatenate(parts)
        if cursor is not None:
            inputs[-1] += self._pointer_features(state, cursor)
        return self._run(inputs, state), state

    def step(
        self,
        tokens: TokenArray,
        states: Sequence[OnnxLMState],
        cursors: Sequence[Cursor] | None = None,
    ) -> FloatArray:
        """Advance each sequence by one token; see ``SpeechLM.step``."""
        inputs = self._rows("speech_embedding.weight", tokens)
        rows = []
        for index, state in enumerate(states):
            if cursors is not None:
                inputs[index] += self._pointer_features(state, cursors[index])
            rows.append(self._run(inputs[index : index + 1], state))
        return np.stack(rows)

    def advance_logits(self, tokens: TokenArray, states: Sequence[OnnxLMState]) -> FloatArray:
        """Score pointer moves; see ``SpeechLM.advance_logits``."""
        if self._advance is None:
            raise BackendError("this language model has no pointer")
        rows = [
            self._advance.run({"hidden": state.hidden[None], "tokens": tokens[index : index + 1]})
            for index, state in enumerate(states)
        ]
        return np.concatenate([row["logits"] for row in rows])

    def fork(self, state: OnnxLMState) -> OnnxLMState:
        """Copy a state; text and hidden state are never changed in place."""
        return OnnxLMState(state.cache.fork(), state.text, state.hidden)

    def _run(self, inputs: FloatArray, state: OnnxLMState) -> FloatArray:
        outputs = self._graph.run({"inputs_embeds": inputs[None]}, state.cache)
        state.hidden = outputs["hidden"][0]
        logits: FloatArray = outputs["logits"][0]
        return logits

    def _pointer_features(self, state: OnnxLMState, cursor: Cursor) -> FloatArray:
        if self._features is None:
            raise BackendError("this language model has no pointer")
        inputs = {
            "text_embeddings": state.text[None],
            "position": np.array([[cursor.position]]),
            "dwell": np.array([[cursor.dwell]]),
        }
        features: FloatArray = self._features.run(inputs)["features"][0, 0]
        return features

    def _embed(self, segment: Segment) -> FloatArray:
        if segment.kind != "speaker":
            return self._rows(f"{segment.kind}_embedding.weight", segment.ids)
        if segment.vector is None or self._config.speaker_dim is None:
            raise BackendError("this language model reads no speaker vector")
        weight = self._tables["speaker_affine.weight"].astype(np.float32)
        bias = self._tables["speaker_affine.bias"].astype(np.float32)
        length = max(float(np.linalg.norm(segment.vector)), 1e-12)
        projected: FloatArray = (weight @ (segment.vector / np.float32(length)) + bias)[None]
        return projected

    def _rows(self, table: str, ids: TokenArray) -> FloatArray:
        rows = self._tables[table]
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < len(rows):
            raise BackendError(f"an id for {table} is outside 0 .. {len(rows) - 1}")
        return rows[ids].astype(np.float32)  # a copy: callers add to it


def _check_tables(tables: Mapping[str, npt.NDArray[Any]], config: LMConfig) -> None:
    width = config.hidden_size
    expected: dict[str, tuple[int, ...]] = {
        "text_embedding.weight": (config.text_vocab_size, width),
        "speech_embedding.weight": (config.head_size, width),
        "marker_embedding.weight": (2, width),
    }
    if config.speaker_dim is not None:
        expected["speaker_affine.weight"] = (width, config.speaker_dim)
        expected["speaker_affine.bias"] = (width,)
    found = {name: table.shape for name, table in tables.items()}
    if found != expected:
        raise ModelFormatError(
            f"lm_embeddings.safetensors holds {found}, the configuration needs {expected}",
            hint="config.json and the weights belong to different models",
        )
