"""Token encoder: speech tokens to one mean mel frame sequence at twice the token rate.

Look-ahead convolution, conformer blocks at the token rate, upsampling, conformer blocks at the
frame rate.
"""

from __future__ import annotations

from torch import Tensor, nn

from mynah.config import FlowConfig, TokenEncoderConfig
from mynah.networks.conv import TimeConv
from mynah.networks.lookahead import OUTPUT_KERNEL, look_ahead
from mynah.networks.masks import attention_mask
from mynah.networks.relative import ConformerBlock, InputLayer, relative_positions
from mynah.networks.state import State, Tape, open_tape

_UPSAMPLE_KERNEL = 5


class TokenEncoder(nn.Module):
    """Speech tokens (B, T) to mean mel frames (B, 2T, n_mels)."""

    def __init__(self, config: FlowConfig, sizes: TokenEncoderConfig) -> None:
        """Build with random weights; ``sizes`` is the configuration's encoder part."""
        super().__init__()
        self.sizes = sizes
        self.ratio = config.frames_per_token
        self.embedding = nn.Embedding(config.speech_vocab_size, config.input_size)
        self.input = InputLayer(config.input_size, sizes.dim)
        self.lookahead_conv = TimeConv(sizes.dim, sizes.dim, sizes.lookahead_tokens + 1)
        self.lookahead_output = TimeConv(sizes.dim, sizes.dim, OUTPUT_KERNEL)
        block = (sizes.dim, sizes.num_heads, sizes.feed_forward)
        self.blocks = nn.ModuleList(ConformerBlock(*block) for _ in range(sizes.num_blocks))
        self.upsample = TimeConv(sizes.dim, sizes.dim, _UPSAMPLE_KERNEL)
        self.up_input = InputLayer(sizes.dim, sizes.dim)
        self.up_blocks = nn.ModuleList(ConformerBlock(*block) for _ in range(sizes.num_up_blocks))
        self.norm = nn.LayerNorm(sizes.dim)
        self.projection = nn.Linear(sizes.dim, config.n_mels)

    def initial_state(self, batch: int = 1) -> State:
        """State before the first token."""
        sizes, like = self.sizes, self.projection.weight
        heads = (2, sizes.num_heads, sizes.dim // sizes.num_heads)
        return {
            "past_tokens": like.new_zeros(0, batch, sizes.num_blocks, *heads),
            "past_frames": like.new_zeros(0, batch, sizes.num_up_blocks, *heads),
            "context_lookahead": like.new_zeros(batch, OUTPUT_KERNEL - 1, sizes.dim),
            "context_upsample": like.new_zeros(batch, _UPSAMPLE_KERNEL - 1, sizes.dim),
        }

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, T) int64 -> (B, T, input_size)."""
        embedded: Tensor = self.embedding(tokens)
        return embedded

    def forward(
        self,
        tokens: Tensor,
        lookahead: Tensor | None = None,
        state: State | Tape | None = None,
        chunk_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Mean mel frames of the tokens.

        Args:
            tokens: int64 (B, T).
            lookahead: int64 (B, L), the tokens that follow; missing ones (L less than
                ``lookahead_tokens``, or None) count as the end of the utterance.
            state: what earlier calls left; None = start of an utterance, keep nothing.
            chunk_mask: bool (T, S + T) or (B, T, S + T) at the token rate; None = all visible.
            mask: bool (B, T), False = padding at the end of a row; only with an empty past.

        Returns:
            frames (B, 2T, n_mels) and the new state parts (empty when ``state`` is None).
        """
        ahead = None if lookahead is None else self.embed(lookahead)
        hidden, new = self.encode(self.embed(tokens), ahead, state, chunk_mask, mask)
        return self.projection(hidden), new

    def encode(
        self,
        embedded: Tensor,
        lookahead: Tensor | None = None,
        state: State | Tape | None = None,
        chunk_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """As ``forward``, from embedded tokens (B, T, input_size), to hidden (B, 2T, dim)."""
        tape = open_tape(state)
        x = self._look_ahead(embedded, lookahead, mask, tape)
        visible = attention_mask(chunk_mask, mask)
        x = self._run(self.blocks, x, visible, tape, "past_tokens")
        x = x[:, :, None].expand(-1, -1, self.ratio, -1).flatten(1, 2)
        left = self.upsample.kernel_size - 1
        x = self.up_input(
            self.upsample(tape.pad("context_upsample", x, left, self.upsample.in_channels))
        )
        if visible is not None:
            visible = visible.repeat_interleave(self.ratio, dim=-1)
            if visible.shape[2] > 1:
                visible = visible.repeat_interleave(self.ratio, dim=2)
        x = self._run(self.up_blocks, x, visible, tape, "past_frames")
        return self.norm(x), tape.new()

    def _look_ahead(
        self, embedded: Tensor, lookahead: Tensor | None, mask: Tensor | None, tape: Tape
    ) -> Tensor:
        x = self.input(embedded)
        if mask is not None:  # a padded token must look like the end of the utterance
            x = x * mask[:, :, None]
        following = None if lookahead is None else self.input(lookahead)
        return look_ahead(x, following, self.lookahead_conv, self.lookahead_output, tape)

    def _run(
        self, blocks: nn.ModuleList, x: Tensor, mask: Tensor | None, tape: Tape, name: str
    ) -> Tensor:
        queries = x.shape[1]
        keys = tape.past_length(name) + queries
        positions = relative_positions(queries, keys, self.sizes.dim, x)
        for block in blocks:
            x = block(x, positions, mask, tape, name)
        return x
