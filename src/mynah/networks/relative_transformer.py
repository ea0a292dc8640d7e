"""Causal transformer trunk with relative positions, its cache on a tape (CosyVoice 1).

A score adds a content term and a distance term. What the distance term needs of a distance does
not depend on the input, so a cached row holds, beside key and value, the projection of its own
distance from the start: distances 0 .. S are then the rows 0 .. S, and none is projected twice.
"""

# B batch, T new positions, S past positions, K = S + T, D model width, H heads

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.config import LMConfig
from mynah.networks.relative import BLOCK_NORM_EPS, InputLayer, sinusoids
from mynah.networks.state import Tape
from mynah.networks.transformer import PAST, visible_mask

PARTS = 3
"""Vectors in a cached row: key, value, projected distance."""


class CachedRelativeAttention(nn.Module):
    """Multi-head attention over cached and new positions; weights as of ``RelativeAttention``."""

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
        self, x: Tensor, distances: Tensor, columns: Tensor, mask: Tensor, tape: Tape
    ) -> Tensor:
        """Attend from new positions to past and new ones.

        Args:
            x: (B, T, D).
            distances: sinusoids (B or 1, T, D) of the new positions' distances from the start.
            columns: int64 (B or 1, T, K), which row holds the distance of a query to a key.
            mask: bool (B or 1, 1, T, K), True = may attend.
            tape: holds the rows of the past.

        Returns:
            (B, T, D).
        """
        shape = (*x.shape[:2], self.num_heads, self.head_dim)
        query = self.query(x).view(shape)
        projected = self.position(distances).expand_as(x).reshape(shape)
        key, value, position = tape.extend(
            PAST, self.key(x).view(shape), self.value(x).view(shape), projected
        )
        by_row = (query + self.position_bias).transpose(1, 2) @ position.transpose(2, 3)
        index = columns[:, None].expand(by_row.shape)
        bias = by_row.gather(3, index) / math.sqrt(self.head_dim)
        bias = bias.masked_fill(~mask, float("-inf"))
        content = (query + self.content_bias).transpose(1, 2)
        heads = F.scaled_dot_product_attention(content, key, value, attn_mask=bias)
        merged: Tensor = self.output(heads.transpose(1, 2).flatten(2))
        return merged


class RelativeBlock(nn.Module):
    """One pre-norm layer: attention, then a ReLU feed-forward network."""

    def __init__(self, config: LMConfig) -> None:
        """Sizes from ``config``."""
        super().__init__()
        width = config.hidden_size
        self.norm_attention = nn.LayerNorm(width, eps=BLOCK_NORM_EPS)
        self.attention = CachedRelativeAttention(width, config.num_heads)
        self.norm_feed_forward = nn.LayerNorm(width, eps=BLOCK_NORM_EPS)
        self.expand = nn.Linear(width, config.intermediate_size)
        self.contract = nn.Linear(config.intermediate_size, width)

    def forward(
        self, x: Tensor, distances: Tensor, columns: Tensor, mask: Tensor, tape: Tape
    ) -> Tensor:
        """See ``CachedRelativeAttention.forward``."""
        x = x + self.attention(self.norm_attention(x), distances, columns, mask, tape)
        hidden: Tensor = self.contract(F.relu(self.expand(self.norm_feed_forward(x))))
        return x + hidden


class RelativeTransformer(nn.Module):
    """Input layer, blocks and a final norm."""

    def __init__(self, config: LMConfig) -> None:
        """Sizes from ``config``."""
        super().__init__()
        self.width = config.hidden_size
        self.input = InputLayer(self.width, self.width)
        self.layers = nn.ModuleList(RelativeBlock(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(self.width)

    def forward(self, x: Tensor, tape: Tape, mask: Tensor | None = None) -> Tensor:
        """Run new positions after the past.

        Args:
            x: (B, T, D).
            tape: holds the past under ``PAST``, (S, B, layers, 3, H, head_dim). Pasts of unequal
                length end together: padding comes first.
            mask: bool (B or 1, 1, K), False = a position that does not exist; None = all do.

        Returns:
            Hidden states after the final norm (B, T, D).
        """
        time, length = x.shape[1], tape.past_length(PAST)
        places = torch.arange(length + time, device=x.device)
        positions = tape.positions(PAST, x)
        visible = visible_mask(time, length, mask, x.device)[:, None]
        # Padding shifts the rows that hold distances; hidden keys may point anywhere.
        distance = places[length:, None] - places[None, :]
        padding = length - positions[:, :1, None]
        columns = (distance[None].clamp(min=0) + padding).clamp(max=length + time - 1)
        table = sinusoids(positions, self.width).to(x.dtype)
        x = F.relu(self.input(x))
        for layer in self.layers:
            x = layer(x, table, columns, visible, tape)
        return self.norm(x)  # type: ignore[no-any-return]  # nn.Module call
