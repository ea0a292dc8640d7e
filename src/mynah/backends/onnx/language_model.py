"""The speech language model by ONNX Runtime: mapped embedding tables, the trunk as a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from mynah.backends.base import Cursor, FloatArray, Segment, TokenArray
from mynah.backends.onnx.embeddings import EmbeddingTables
from mynah.backends.onnx.graph import Graph
from mynah.backends.onnx.trunk import TrunkGraph
from mynah.config import LMConfig
from mynah.errors import BackendError


class CachedSequence(Protocol):
    """What a trunk keeps of one sequence."""

    def fork(self) -> Self:
        """A sequence that goes on alone."""
        ...


class Trunk(Protocol):
    """Input vectors in, scores and hidden states of last positions out."""

    def new_sequence(self) -> CachedSequence:
        """A sequence that has read nothing."""
        ...

    def read(self, inputs: FloatArray, sequence: Any) -> tuple[FloatArray, FloatArray]:
        """Append positions (T, D) to a sequence; logits (V,) and hidden (D,) of the last one."""
        ...

    def step(self, inputs: FloatArray, sequences: Sequence[Any]) -> tuple[FloatArray, FloatArray]:
        """Append one position (B, D) to each sequence; logits (B, V) and hidden (B, D)."""
        ...


@dataclass(eq=False)
class OnnxLMState:
    """Everything one sequence needs: key/value cache, text seen, last hidden state."""

    cache: CachedSequence
    text: FloatArray
    """Embeddings of the text read so far (N, D); kept for pointer models only."""
    hidden: FloatArray
    """Hidden state of the last position (D,)."""


class OnnxSpeechLM:
    """``SpeechLM`` on the CPU.

    Sequences that are stepped together go through the network in one run, yet none sees the others:
    each row has its own scales where there are any, and is added up in the same order.
    """

    def __init__(
        self, folder: Path, config: LMConfig, threads: int = 0, trunk: Trunk | None = None
    ) -> None:
        """Load the language model files of a model folder; ``lm.onnx`` only without a ``trunk``.

        Raises:
            ModelNotFoundError: if a file is missing.
            ModelFormatError: if a file is damaged or does not fit ``config``.
        """
        self._config = config
        self._trunk: Trunk = trunk or TrunkGraph(folder / "lm.onnx", config, threads)
        self._tables = EmbeddingTables(folder / "lm_embeddings.safetensors", config)
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
            state = OnnxLMState(
                self._trunk.new_sequence(), empty, np.zeros(width, dtype=np.float32)
            )
        parts = [self._tables.segment(segment) for segment in segments]
        if self._features is not None:
            text = [p for p, s in zip(parts, segments, strict=True) if s.kind == "text"]
            state.text = np.concatenate([state.text, *text])
        inputs = np.concatenate(parts)
        if cursor is not None:
            inputs[-1] += self._pointer_features(state, cursor)
        logits, state.hidden = self._trunk.read(inputs, state.cache)
        return logits, state

    def step(
        self,
        tokens: TokenArray,
        states: Sequence[OnnxLMState],
        cursors: Sequence[Cursor] | None = None,
    ) -> FloatArray:
        """Advance each sequence by one token; see ``SpeechLM.step``."""
        inputs = self._tables.speech(tokens)
        for index, cursor in enumerate(cursors or ()):
            inputs[index] += self._pointer_features(states[index], cursor)
        logits, hidden = self._trunk.step(inputs, [state.cache for state in states])
        for state, row in zip(states, hidden, strict=True):
            state.hidden = row
        return logits

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
        """A state that goes on alone; what was read is copied when it is first added to."""
        return OnnxLMState(state.cache.fork(), state.text, state.hidden)

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
