"""The speech language model by torch: sequences of unequal length are stepped as one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mynah.backends.base import Cursor, FloatArray, Segment, TokenArray, joined_text
from mynah.backends.torch.blocks import upload
from mynah.backends.torch.paged import PagedModule, PagedState
from mynah.errors import BackendError
from mynah.networks.build import LanguageModel
from mynah.networks.language_model import TextPointer

_BLOCK = 32
"""Positions of a block: half of one lies idle for each sequence, and lists stay short."""


@dataclass(eq=False)
class TorchLMState:
    """Everything one sequence needs: key/value cache, text seen, last hidden state."""

    cache: PagedState
    text: Tensor
    """Embeddings of the text read so far (1, N, D); kept for pointer models only."""
    hidden: Tensor
    """Hidden state of the last position (1, D)."""


class TorchSpeechLM:
    """``SpeechLM`` wherever the module's weights are."""

    def __init__(self, module: LanguageModel) -> None:
        """Use ``module`` as it is; it is put in evaluation mode."""
        self._module = module.eval()
        self._runner = PagedModule(module, {}, _BLOCK, mask="mask")

    @torch.inference_mode()
    def prefill(
        self,
        segments: Sequence[Segment],
        state: TorchLMState | None = None,
        cursor: Cursor | None = None,
    ) -> tuple[FloatArray, TorchLMState]:
        """Read segments; see ``SpeechLM.prefill``."""
        if state is None:
            none = self._module.speech_head.weight.new_zeros(1, 0, self._module.config.hidden_size)
            state = TorchLMState(self._runner.new_state(), none, none[:, 0:0])
        segments = joined_text(segments)
        parts = [self._embed(segment) for segment in segments]
        if self._module.pointer is not None:
            text = [p for p, s in zip(parts, segments, strict=True) if s.kind == "text"]
            state.text = torch.cat([state.text, *text], dim=1)
        inputs = torch.cat(parts, dim=1)
        if cursor is not None:
            inputs[:, -1:] += self._pointer_features(state, cursor)
        return self._run(inputs, [state])[0], state

    @torch.inference_mode()
    def step(
        self,
        tokens: TokenArray,
        states: Sequence[TorchLMState],
        cursors: Sequence[Cursor] | None = None,
    ) -> FloatArray:
        """Advance each sequence by one token; see ``SpeechLM.step``."""
        inputs = self._module.embed_speech(self._ids(tokens)[:, None])
        if cursors is not None:
            pairs = zip(states, cursors, strict=True)
            inputs = inputs + torch.cat([self._pointer_features(s, c) for s, c in pairs])
        return self._run(inputs, states)

    @torch.inference_mode()
    def advance_logits(self, tokens: TokenArray, states: Sequence[TorchLMState]) -> FloatArray:
        """Score pointer moves; see ``SpeechLM.advance_logits``."""
        hidden = torch.cat([state.hidden for state in states])
        return _numpy(self._pointer().advance_logits(hidden, self._ids(tokens)))

    @torch.inference_mode()
    def fork(self, state: TorchLMState) -> TorchLMState:
        """Share what was read; text and hidden state are never changed in place."""
        return TorchLMState(state.cache.fork(), state.text, state.hidden)

    def _run(self, inputs: Tensor, states: Sequence[TorchLMState]) -> FloatArray:
        """New positions (B, T, D) of B sequences, whose pasts may have any length."""
        lengths = [inputs.shape[1]] * len(states)
        caches = [state.cache for state in states]
        hidden = self._runner.run({"inputs_embeds": inputs}, caches, lengths)[:, -1]
        for index, state in enumerate(states):
            state.hidden = hidden[index : index + 1]
        return _numpy(self._module.logits(hidden))

    def _pointer_features(self, state: TorchLMState, cursor: Cursor) -> Tensor:
        position = self._ids(np.array([[cursor.position]]))
        dwell = self._ids(np.array([[cursor.dwell]]))
        return self._pointer().features(state.text, position, dwell)

    def _pointer(self) -> TextPointer:
        if self._module.pointer is None:
            raise BackendError("this language model has no pointer")
        return self._module.pointer

    def _embed(self, segment: Segment) -> Tensor:
        if segment.kind == "speaker":
            if segment.vector is None or self._module.speaker_affine is None:
                raise BackendError("this language model reads no speaker vector")
            vector = torch.from_numpy(np.array(segment.vector, dtype=np.float32))[None]
            return self._module.embed_speaker(vector.to(self._module.speech_head.weight))
        embed = {
            "text": self._module.embed_text,
            "speech": self._module.embed_speech,
            "marker": self._module.embed_marker,
        }[segment.kind]
        try:
            return embed(self._ids(segment.ids)[None])
        except IndexError as error:
            raise BackendError(f"a {segment.kind} id is out of range: {error}") from error

    def _ids(self, ids: TokenArray) -> Tensor:
        return upload(np.array(ids, dtype=np.int64), self._module.speech_head.weight.device)


def _numpy(tensor: Tensor) -> FloatArray:
    array: FloatArray = tensor.float().cpu().numpy()
    return array
