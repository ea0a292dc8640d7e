"""A speech language model of mapped tables and two networks, a trunk and (in some) a pointer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from mynah.backends.base import Cursor, FloatArray, Segment, TokenArray
from mynah.backends.onnx.embeddings import EmbeddingTables
from mynah.config import LMConfig
from mynah.errors import BackendError

POINTER_FEATURES, POINTER_ADVANCE = "lm_pointer_features.onnx", "lm_pointer_advance.onnx"


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


class Pointer(Protocol):
    """Reads the text around a position, and scores how far to move after a token."""

    def features(self, text: FloatArray, cursor: Cursor) -> FloatArray:
        """What is added to the input of a speech position (D,); ``text`` is (N, D)."""
        ...

    def advance(self, hidden: FloatArray, tokens: TokenArray) -> FloatArray:
        """Scores of moves (B, moves) after ``tokens`` (B,), from hidden states (B, D)."""
        ...


@dataclass(eq=False)
class LMState:
    """Everything one sequence needs: key/value cache, text seen, last hidden state."""

    cache: CachedSequence
    text: FloatArray
    """Embeddings of the text read so far (N, D); kept for pointer models only."""
    hidden: FloatArray
    """Hidden state of the last position (D,)."""


class TrunkSpeechLM:
    """``SpeechLM`` on the CPU.

    Sequences that are stepped together go through the network in one run, yet none sees the others:
    each row has its own scales where there are any, and is added up in the same order.
    """

    def __init__(
        self, folder: Path, config: LMConfig, trunk: Trunk, pointer: Pointer | None = None
    ) -> None:
        """Map the tables of a model folder; ``pointer`` as ``config`` says.

        Raises:
            ModelNotFoundError: if their file is missing.
            ModelFormatError: if it is damaged or does not fit ``config``.
        """
        self._config = config
        self._trunk = trunk
        self._pointer = pointer
        self._tables = EmbeddingTables(folder / "lm_embeddings.safetensors", config)

    def prefill(
        self,
        segments: Sequence[Segment],
        state: LMState | None = None,
        cursor: Cursor | None = None,
    ) -> tuple[FloatArray, LMState]:
        """Read segments; see ``SpeechLM.prefill``."""
        width = self._config.hidden_size
        if state is None:
            empty = np.zeros((0, width), dtype=np.float32)
            state = LMState(self._trunk.new_sequence(), empty, np.zeros(width, dtype=np.float32))
        parts = [self._tables.segment(segment) for segment in segments]
        if self._pointer is not None:
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
        states: Sequence[LMState],
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

    def advance_logits(self, tokens: TokenArray, states: Sequence[LMState]) -> FloatArray:
        """Score pointer moves; see ``SpeechLM.advance_logits``."""
        if self._pointer is None:
            raise BackendError("this language model has no pointer")
        hidden = np.stack([state.hidden for state in states])
        return self._pointer.advance(hidden, tokens)

    def fork(self, state: LMState) -> LMState:
        """A state that goes on alone; what was read is copied when it is first added to."""
        return LMState(state.cache.fork(), state.text, state.hidden)

    def _pointer_features(self, state: LMState, cursor: Cursor) -> FloatArray:
        if self._pointer is None:
            raise BackendError("this language model has no pointer")
        return self._pointer.features(state.text, cursor)
