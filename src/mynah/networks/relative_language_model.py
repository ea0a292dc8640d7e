"""Text-speech language model of CosyVoice 1: text encoder, relative trunk, speech head.

One sequence holds ``sos | speaker | text | task | speech``, as in later generations; the text is
read by a strictly causal conformer first, and the trunk has relative positions.
"""

# B batch, T positions, N text positions, D model width

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mynah.config import LMConfig, TextEncoderConfig
from mynah.networks.relative import ConformerBlock, InputLayer, relative_positions
from mynah.networks.relative_transformer import PARTS, RelativeTransformer
from mynah.networks.state import State, Tape, open_tape
from mynah.networks.transformer import PAST, causal_mask


class TextEncoder(nn.Module):
    """Strictly causal conformer over the text, projected to the language model's width."""

    def __init__(self, sizes: TextEncoderConfig, width: int) -> None:
        """``width`` is D."""
        super().__init__()
        self.dim = sizes.dim
        self.input = InputLayer(sizes.input_size, sizes.dim)
        block = (sizes.dim, sizes.num_heads, sizes.feed_forward)
        self.blocks = nn.ModuleList(ConformerBlock(*block) for _ in range(sizes.num_blocks))
        self.norm = nn.LayerNorm(sizes.dim)
        self.projection = nn.Linear(sizes.dim, width)

    def forward(self, embedded: Tensor) -> Tensor:
        """Text embeddings (B, N, input_size) -> (B, N, D)."""
        x = self.input(embedded)
        count = x.shape[1]
        mask = causal_mask(count, 0, x.device)[None, None]
        positions = relative_positions(count, count, self.dim, x)
        tape = Tape(None)
        for block in self.blocks:
            x = block(x, positions, mask, tape, "")
        projected: Tensor = self.projection(self.norm(x))
        return projected


class RelativeLanguageModel(nn.Module):
    """The language model without any loop; the same interface as ``SpeechLanguageModel``."""

    def __init__(self, config: LMConfig) -> None:
        """Build with random weights.

        Raises:
            ValueError: if ``config`` has no text encoder, or a pointer, or shares keys.
        """
        super().__init__()
        if config.text_encoder is None or config.pointer is not None:
            raise ValueError("a relative trunk needs a text encoder and reads no pointer")
        if config.num_kv_heads != config.num_heads:
            raise ValueError("a relative trunk has keys of its own for every head")
        self.config = config
        width = config.hidden_size
        self.text_embedding = nn.Embedding(config.text_vocab_size, config.text_encoder.input_size)
        self.text_encoder = TextEncoder(config.text_encoder, width)
        self.speech_embedding = nn.Embedding(config.speech_vocab_size, width)
        self.marker_embedding = nn.Embedding(2, width)
        self.trunk = RelativeTransformer(config)
        self.speech_head = nn.Linear(width, config.head_size, bias=config.has_head_bias)
        self.speaker_affine = (
            None if config.speaker_dim is None else nn.Linear(config.speaker_dim, width)
        )
        self.pointer = None

    def embed_text(self, ids: Tensor) -> Tensor:
        """Text ids (B, N) -> (B, N, D); all text of a sequence belongs into one call."""
        return self.text_encoder(self.text_embedding(ids))  # type: ignore[no-any-return]  # nn.Module call

    def embed_speech(self, ids: Tensor) -> Tensor:
        """Speech ids (B, T) -> (B, T, D)."""
        return self.speech_embedding(ids)  # type: ignore[no-any-return]  # nn.Module call

    def embed_marker(self, ids: Tensor) -> Tensor:
        """Marker ids (B, T), 0 = sos and 1 = task -> (B, T, D)."""
        return self.marker_embedding(ids)  # type: ignore[no-any-return]  # nn.Module call

    def embed_speaker(self, vector: Tensor) -> Tensor:
        """Speaker vectors (B, speaker_dim), of any length -> (B, 1, D)."""
        if self.speaker_affine is None:
            raise ValueError("this language model reads no speaker vector")
        return self.speaker_affine(F.normalize(vector, dim=-1))[:, None]  # type: ignore[no-any-return]  # nn.Module call

    def initial_state(self, batch: int = 1) -> State:
        """State of a sequence that has read nothing."""
        c, weight = self.config, self.speech_head.weight
        shape = (0, batch, c.num_layers, PARTS, c.num_heads, c.hidden_size // c.num_heads)
        return {PAST: weight.new_zeros(shape)}

    def forward(
        self,
        inputs_embeds: Tensor,
        state: State | Tape | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Run the trunk on new positions; see ``RelativeTransformer.forward``.

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
