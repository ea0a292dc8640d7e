"""Text-speech language model: embeddings, a Qwen2 trunk and a speech head (CosyVoice 2 and 3).

One sequence holds ``sos | (speaker) | text | task | speech``. Small models may add a pointer: an
explicit monotonic position in the text that is read at every speech position and moved after it.
"""

# B batch, T positions, S speech tokens, N text positions, D model width

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.config import LMConfig, PointerConfig
from mynah.networks.state import State, Tape, open_tape
from mynah.networks.transformer import PAST, Transformer

_BEFORE, _AFTER = 1, 2  # text positions the pointer sees around its own


class TextPointer(nn.Module):
    """Reads the text around a position, and decides how far to move after a token."""

    def __init__(self, config: PointerConfig, dim: int, num_speech_tokens: int) -> None:
        """``dim`` is the model width D."""
        super().__init__()
        self.config = config
        self.window = nn.Linear((_BEFORE + 1 + _AFTER) * dim, dim)
        self.dwell = nn.Embedding(config.max_dwell + 1, dim)
        self.token = nn.Embedding(num_speech_tokens, dim)
        self.advance = nn.Sequential(
            nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, config.max_advance + 2)
        )

    def features(
        self,
        text_embeddings: Tensor,
        position: Tensor,
        dwell: Tensor,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """What is added to the input of a speech position.

        Args:
            text_embeddings: (B, N, D).
            position: (B, T) int64, index into the text.
            dwell: (B, T) int64, tokens already spent there; counted up to ``max_dwell``.
            lengths: (B,) text positions of each row, when rows are padded.

        Returns:
            (B, T, D).
        """
        if lengths is not None:
            inside = (
                torch.arange(text_embeddings.shape[1], device=lengths.device) < lengths[:, None]
            )
            text_embeddings = text_embeddings * inside[..., None]
        padded = F.pad(text_embeddings, (0, 0, _BEFORE, _AFTER))
        batch = torch.arange(padded.shape[0], device=padded.device)[:, None]
        seen = [padded[batch, position + offset] for offset in range(_BEFORE + 1 + _AFTER)]
        return self.window(torch.cat(seen, dim=-1)) + self.dwell(  # type: ignore[no-any-return]  # nn.Module call
            dwell.clamp(max=self.config.max_dwell)
        )

    def advance_logits(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Scores of the moves 0 .. max_advance and of the end of speech.

        ``hidden`` (..., D) at the position that made ``tokens`` (...); returns
        (..., max_advance + 2).
        """
        return self.advance(hidden + self.token(tokens))  # type: ignore[no-any-return]  # nn.Module call


class SpeechLanguageModel(nn.Module):
    """The language model without any loop: embed, run, score."""

    def __init__(self, config: LMConfig) -> None:
        """Build with random weights."""
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.text_embedding = nn.Embedding(config.text_vocab_size, width)
        self.speech_embedding = nn.Embedding(config.head_size, width)
        self.marker_embedding = nn.Embedding(2, width) if config.marker_offsets is None else None
        self.trunk = Transformer(config)
        self.speech_head = nn.Linear(width, config.head_size, bias=config.has_head_bias)
        self.speaker_affine = (
            None if config.speaker_dim is None else nn.Linear(config.speaker_dim, width)
        )
        self.pointer = (
            None
            if config.pointer is None
            else TextPointer(config.pointer, width, config.speech_vocab_size)
        )

    def embed_text(self, ids: Tensor) -> Tensor:
        """Text ids (B, N) -> (B, N, D)."""
        return self.text_embedding(ids)  # type: ignore[no-any-return]  # nn.Module call

    def embed_speech(self, ids: Tensor) -> Tensor:
        """Speech ids (B, T) -> (B, T, D)."""
        return self.speech_embedding(ids)  # type: ignore[no-any-return]  # nn.Module call

    def embed_marker(self, ids: Tensor) -> Tensor:
        """Marker ids (B, T), 0 = sos and 1 = task -> (B, T, D)."""
        if self.marker_embedding is None:
            rows = torch.tensor(self.config.marker_offsets, device=ids.device)[ids]
            return self.embed_speech(self.config.speech_vocab_size + rows)
        return self.marker_embedding(ids)  # type: ignore[no-any-return]  # nn.Module call

    def embed_speaker(self, vector: Tensor) -> Tensor:
        """Speaker vectors (B, speaker_dim), of any length -> (B, 1, D)."""
        if self.speaker_affine is None:
            raise ValueError("this language model reads no speaker vector")
        return self.speaker_affine(F.normalize(vector, dim=-1))[:, None]  # type: ignore[no-any-return]  # nn.Module call

    def initial_state(self, batch: int = 1) -> State:
        """State of a sequence that has read nothing."""
        c, weight = self.config, self.speech_head.weight
        shape = (0, batch, c.num_layers, 2, c.num_kv_heads, c.head_dim)
        return {PAST: weight.new_zeros(shape)}

    def forward(
        self,
        inputs_embeds: Tensor,
        state: State | Tape | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Run the trunk on new positions.

        A batch padded at its right end needs no mask: no position sees what comes after it.

        Args:
            inputs_embeds: (B, T, D).
            state: as returned, with new rows appended; None = nothing before. A tape keeps it
                elsewhere.
            mask: bool (B or 1, 1, S + T), False = a position that does not exist; None = all do.

        Returns:
            Hidden states (B, T, D) and the new rows of the state.
        """
        begun = self.initial_state(len(inputs_embeds)) if state is None else state
        tape = open_tape(begun)
        return self.trunk(inputs_embeds, tape, mask), tape.new()

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next speech token, (..., D) -> (..., V)."""
        return self.speech_head(hidden)  # type: ignore[no-any-return]  # nn.Module call
