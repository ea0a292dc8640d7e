"""The speech language model by torch: sequences of unequal length are stepped as one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mynah.backends.base import Cursor, FloatArray, Segment, TokenArray, joined_text
from mynah.backends.torch.state import CachedModule, ModuleState
from mynah.errors import BackendError
from mynah.networks.build import LanguageModel
from mynah.networks.language_model import PAST, TextPointer


@dataclass(eq=False)
class TorchLMState:
    """Everything one sequence needs: key/value cache, text seen, last hidden state."""

    cache: ModuleState
    text: Tensor
    """Embeddings of the text read so far (1, N, D); kept for pointer models only."""
    hidden: Tensor
    """Hidden state of the last position (1, D)."""


class TorchSpeechLM:
    """``SpeechLM`` wherever the module's weights are."""

    def __init__(self, module: LanguageModel) -> None:
        """Use ``module`` as it is; it is put in evaluation mode."""
        self._module = module.eval()
        self._runner = CachedModule(module)

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
        return self._run(inputs, state)[0], state

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
        if len(states) == 1:
            return self._run(inputs, states[0])
        return self._run_batch(inputs, states)

    @torch.inference_mode()
    def advance_logits(self, tokens: TokenArray, states: Sequence[TorchLMState]) -> FloatArray:
        """Score pointer moves; see ``SpeechLM.advance_logits``."""
        hidden = torch.cat([state.hidden for state in states])
        return _numpy(self._pointer().advance_logits(hidden, self._ids(tokens)))

    @torch.inference_mode()
    def fork(self, state: TorchLMState) -> TorchLMState:
        """Copy a state; text and hidden state are never changed in place."""
        return TorchLMState(state.cache.fork(), state.text, state.hidden)

    def _run(self, inputs: Tensor, state: TorchLMState) -> FloatArray:
        hidden = self._runner.run({"inputs_embeds": inputs}, state.cache)
        state.hidden = hidden[:, -1]
        return _numpy(self._module.logits(state.hidden))

    def _run_batch(self, inputs: Tensor, states: Sequence[TorchLMState]) -> FloatArray:
        """One new position (B, 1, D) of each sequence, pasts padded to the longest.

        Padding comes first, so that a distance of columns is a distance of positions.
        """
        lengths = torch.tensor([s.cache.length(PAST) for s in states], device=inputs.device)
        longest = int(lengths.max())
        shape = states[0].cache.view()[PAST].shape
        past = inputs.new_zeros(longest, len(states), *shape[2:])
        for index, state in enumerate(states):
            rows = state.cache.view()[PAST]
            past[longest - len(rows) :, index] = rows[:, 0]
        columns = torch.arange(longest + 1, device=inputs.device)
        mask = columns >= longest - lengths[:, None]
        hidden, new = self._module(inputs, {PAST: past}, mask[:, None], lengths[:, None])
        for index, state in enumerate(states):
            state.cache.update({PAST: new[PAST][:, index : index + 1]})
            state.hidden = hidden[index : index + 1, -1]
        return _numpy(self._module.logits(hidden[:, -1]))

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
        return torch.from_numpy(np.array(ids, dtype=np.int64)).to(
            self._module.speech_head.weight.device
        )


def _numpy(tensor: Tensor) -> FloatArray:
    array: FloatArray = tensor.float().cpu().numpy()
    return array
