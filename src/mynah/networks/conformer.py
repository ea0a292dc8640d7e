"""Token encoder: speech tokens to one mean mel frame sequence at twice the token rate.

Look-ahead convolution, conformer blocks at the token rate, upsampling, conformer blocks at the
frame rate. Attention uses relative positions, written for T queries that follow S known keys.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.config import FlowConfig
from mynah.networks.conv import TimeConv
from mynah.networks.masks import attention_mask
from mynah.networks.state import State, Tape

_BLOCK_NORM_EPS = 1e-12
_UPSAMPLE_KERNEL = 5


def relative_positions(num_queries: int, num_keys: int, dim: int, like: Tensor) -> Tensor:
    """Sinusoidal table of the distances query - key, from the largest to the smallest.

    Args:
        num_queries: T, the last T of the keys' positions.
        num_keys: S + T.
        dim: width of the table.
        like: gives device and dtype.

    Returns:
        (S + 2T - 1, dim): row r is the distance S + T - 1 - r; sines and cosines interleaved.
    """
    distance = torch.arange(num_keys - 1, -num_queries, -1, device=like.device).float()
    steps = torch.arange(0, dim, 2, device=like.device).float()
    angle = distance[:, None] * torch.exp(steps * (-math.log(10000.0) / dim))
    table = torch.stack([angle.sin(), angle.cos()], dim=-1).reshape(-1, dim)
    return table.to(like.dtype)


def _align(scores: Tensor, num_keys: int) -> Tensor:
    """Scores by distance (B, H, T, S + 2T - 1) to scores by key (B, H, T, S + T)."""
    batch, heads, queries, distances = scores.shape
    # A row longer by one makes each row of the flat array start one distance later.
    flat = F.pad(scores, (1, 0)).reshape(batch, heads, distances + 1, queries)
    return flat[:, :, 1:].reshape(batch, heads, queries, distances)[..., :num_keys]


class RelativeAttention(nn.Module):
    """Multi-head attention whose score adds a content term and a distance term."""

    def __init__(self, dim: int, num_heads: int) -> None:
        """``dim`` is shared evenly by the heads."""
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.position = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim)
        self.content_bias = nn.Parameter(torch.zeros(num_heads, self.head_dim))
        self.position_bias = nn.Parameter(torch.zeros(num_heads, self.head_dim))

    def forward(
        self, x: Tensor, positions: Tensor, mask: Tensor | None, tape: Tape, name: str
    ) -> Tensor:
        """x (B, T, C), positions (S + 2T - 1, C), mask as of ``attention_mask`` -> (B, T, C)."""
        shape = (*x.shape[:2], self.num_heads, self.head_dim)
        query = self.query(x).view(shape)
        key, value = tape.extend(name, self.key(x).view(shape), self.value(x).view(shape))
        table = self.position(positions).view(-1, self.num_heads, self.head_dim)
        by_distance = (query + self.position_bias).transpose(1, 2) @ table.permute(1, 2, 0)
        bias = _align(by_distance, key.shape[2]) / math.sqrt(self.head_dim)
        if mask is not None:
            bias = bias.masked_fill(~mask, float("-inf"))
        content = (query + self.content_bias).transpose(1, 2)
        heads = F.scaled_dot_product_attention(content, key, value, attn_mask=bias)
        merged: Tensor = self.output(heads.transpose(1, 2).flatten(2))
        return merged


class ConformerBlock(nn.Module):
    """Pre-norm attention and feed-forward layer (no convolution module)."""

    def __init__(self, dim: int, num_heads: int, feed_forward: int) -> None:
        """``feed_forward`` is the inner width."""
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim, eps=_BLOCK_NORM_EPS)
        self.attention = RelativeAttention(dim, num_heads)
        self.norm_feed_forward = nn.LayerNorm(dim, eps=_BLOCK_NORM_EPS)
        self.expand = nn.Linear(dim, feed_forward)
        self.contract = nn.Linear(feed_forward, dim)

    def forward(
        self, x: Tensor, positions: Tensor, mask: Tensor | None, tape: Tape, name: str
    ) -> Tensor:
        """Arguments and result as of ``RelativeAttention``."""
        x = x + self.attention(self.norm_attention(x), positions, mask, tape, name)
        hidden: Tensor = self.contract(F.silu(self.expand(self.norm_feed_forward(x))))
        return x + hidden


class InputLayer(nn.Module):
    """Linear, layer norm, then scaled by sqrt(dim) as the position encoding expects."""

    def __init__(self, in_features: int, dim: int) -> None:
        """Sizes as of ``nn.Linear``."""
        super().__init__()
        self.linear = nn.Linear(in_features, dim)
        self.norm = nn.LayerNorm(dim)
        self.scale = math.sqrt(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, in_features) -> (B, T, dim)."""
        scaled: Tensor = self.norm(self.linear(x)) * self.scale
        return scaled


class TokenEncoder(nn.Module):
    """Speech tokens (B, T) to mean mel frames (B, 2T, n_mels)."""

    def __init__(self, config: FlowConfig) -> None:
        """Build with random weights."""
        super().__init__()
        sizes = config.encoder
        self.sizes = sizes
        self.ratio = config.token_mel_ratio
        self.embedding = nn.Embedding(config.speech_vocab_size, config.input_size)
        self.input = InputLayer(config.input_size, sizes.dim)
        self.lookahead_conv = TimeConv(sizes.dim, sizes.dim, sizes.lookahead_tokens + 1)
        self.lookahead_output = TimeConv(sizes.dim, sizes.dim, 3)
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
            "context_lookahead": like.new_zeros(batch, 2, sizes.dim),
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
        state: State | None = None,
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
        state: State | None = None,
        chunk_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """As ``forward``, from embedded tokens (B, T, input_size), to hidden (B, 2T, dim)."""
        tape = Tape(state)
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
        count = x.shape[1]
        parts = [x] if lookahead is None else [x, self.input(lookahead)]
        end = x.new_zeros(x.shape[0], self.sizes.lookahead_tokens, x.shape[2])
        ahead = torch.cat([*parts, end], dim=1)[:, : count + self.sizes.lookahead_tokens]
        hidden = F.leaky_relu(self.lookahead_conv(ahead), 0.01)
        conv = self.lookahead_output
        padded = tape.pad("context_lookahead", hidden, conv.kernel_size - 1, conv.in_channels)
        result: Tensor = x + conv(padded)
        return result

    def _run(
        self, blocks: nn.ModuleList, x: Tensor, mask: Tensor | None, tape: Tape, name: str
    ) -> Tensor:
        queries = x.shape[1]
        keys = tape.past_length(name) + queries
        positions = relative_positions(queries, keys, self.sizes.dim, x)
        for block in blocks:
            x = block(x, positions, mask, tape, name)
        return x
