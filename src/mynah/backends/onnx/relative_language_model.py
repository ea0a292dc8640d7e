"""CosyVoice 1's language model by ONNX Runtime: mapped tables, text encoder and trunk as graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mynah.backends.base import Cursor, FloatArray, Segment, TokenArray, joined_text
from mynah.backends.onnx.embeddings import EmbeddingTables
from mynah.backends.onnx.graph import CachedGraph, Graph, GraphState
from mynah.config import LMConfig
from mynah.errors import BackendError


@dataclass(eq=False)
class RelativeLMState:
    """Everything one sequence needs: cached rows of the trunk, last hidden state."""

    cache: GraphState
    hidden: FloatArray
    """Hidden state of the last position (D,)."""


class OnnxRelativeLM:
    """``SpeechLM`` on the CPU.

    Sequences are stepped one after the other, so a sequence gives the same numbers alone and among
    others. Text of a later ``prefill`` is read as a text of its own.
    """

    def __init__(self, folder: Path, config: LMConfig, threads: int = 0) -> None:
        """Load the language model files of a model folder.

        Raises:
            ModelNotFoundError: if a file is missing.
            ModelFormatError: if a file is damaged or does not fit ``config``.
        """
        self._width = config.hidden_size
        self._tables = EmbeddingTables(folder / "lm_embeddings.safetensors", config)
        self._text_encoder = Graph(folder / "lm_text_encoder.onnx", threads)
        self._trunk = CachedGraph(folder / "lm.onnx", threads)

    def prefill(
        self,
        segments: Sequence[Segment],
        state: RelativeLMState | None = None,
        cursor: Cursor | None = None,
    ) -> tuple[FloatArray, RelativeLMState]:
        """Read segments; see ``SpeechLM.prefill``."""
        _refuse(cursor)
        if state is None:
            state = RelativeLMState(self._trunk.new_state(), np.zeros(self._width, np.float32))
        inputs = np.concatenate([self._embed(segment) for segment in joined_text(segments)])
        return self._run(inputs, state), state

    def step(
        self,
        tokens: TokenArray,
        states: Sequence[RelativeLMState],
        cursors: Sequence[Cursor] | None = None,
    ) -> FloatArray:
        """Advance each sequence by one token; see ``SpeechLM.step``."""
        _refuse(cursors)
        inputs = self._tables.speech(tokens)
        rows = [self._run(inputs[i : i + 1], state) for i, state in enumerate(states)]
        return np.stack(rows)

    def advance_logits(self, tokens: TokenArray, states: Sequence[RelativeLMState]) -> FloatArray:
        """Refuse: this kind of model has no pointer."""
        raise BackendError("this language model has no pointer")

    def fork(self, state: RelativeLMState) -> RelativeLMState:
        """Copy a state; the hidden state is never changed in place."""
        return RelativeLMState(state.cache.fork(), state.hidden)

    def _embed(self, segment: Segment) -> FloatArray:
        embedded = self._tables.segment(segment)
        if segment.kind != "text":
            return embedded
        text: FloatArray = self._text_encoder.run({"embedded": embedded[None]})["text"][0]
        return text

    def _run(self, inputs: FloatArray, state: RelativeLMState) -> FloatArray:
        outputs = self._trunk.run({"inputs_embeds": inputs[None]}, state.cache)
        state.hidden = outputs["hidden"][0]
        logits: FloatArray = outputs["logits"][0]
        return logits


def _refuse(cursor: object | None) -> None:
    if cursor is not None:
        raise BackendError("this language model has no pointer")
