"""Causal transformer trunk with relative positions, its cache handed in and out (CosyVoice 1).

A score adds a content term and a distance term. What the distance term needs of a distance does
not depend on the input, so a cached row holds, beside key and value, the projection of its own
distance from the start: distances 0 .. S are then the rows 0 .. S, and none is projected twice.
"""

# B batch, T new positions, S past positions, K = S + T, D model width, H heads

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.config import LMConfig
from mynah.networks.relative import BLOCK_NORM_EPS, InputLayer, sinusoids
from mynah.networks.transformer import causal_mask

PARTS = 3
"""Vectors in a cached row: key, value, projected distance."""

Rows: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Keys, values and projected distances of one layer, each (positions, B, H, head_dim)."""


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
        self, x: Tensor, distances: Tensor, columns: Tensor, past: Rows | None, mask: Tensor
    ) -> tuple[Tensor, Rows]:
        """Attend from new positions to past and new ones.

        Args:
            x: (B, T, D).
            distances: sinusoids (B or 1, T, D) of the new positions' distances from the start.
            columns: int64 (B or 1, T, K), which row holds the distance of a query to a key.
            past: rows of S positions, or None for no past.
            mask: bool (B or 1, 1, T, K), True = may attend.

        Returns:
            (B, T, D) and the new rows.
        """
        shape = (*x.shape[:2], self.num_heads, self.head_dim)
        query = self.query(x).view(shape)
        projected = self.position(distances).expand_as(x).reshape(shape)
        parts = (self.key(x).view(shape), self.value(x).view(shape), projected)
        new: Rows = (parts[0].transpose(0, 1), parts[1].transpose(0, 1), parts[2].transpose(0, 1))
        key, value, position = (
            rows if past is None else torch.cat([before, rows])
            for before, rows in zip(past or new, new, strict=True)
        )
        by_row = (query + self.position_bias).transpose(1, 2) @ position.permute(1, 2, 3, 0)
        index = columns[:, None].expand(by_row.shape)
        bias = by_row.gather(3, index) / math.sqrt(self.head_dim)
        bias = bias.masked_fill(~mask, float("-inf"))
        content = (query + self.content_bias).transpose(1, 2)
        heads = F.scaled_dot_product_attention(
            content, key.permute(1, 2, 0, 3), value.permute(1, 2, 0, 3), attn_mask=bias
        )
        merged: Tensor = self.output(heads.transpose(1, 2).flatten(2))
        return merged, new


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
        self, x: Tensor, distances: Tensor, columns: Tensor, past: Rows | None, mask: Tensor
    ) -> tuple[Tensor, Rows]:
        """See ``CachedRelativeAttention.forward``."""
        attended, new = self.attention(self.norm_attention(x), distances, columns, past, mask)
        x = x + attended
        return x + self.contract(F.relu(self.expand(self.norm_feed_forward(x)))), new


class RelativeTransformer(nn.Module):
    """Input layer, blocks and a final norm."""

    def __init__(self, config: LMConfig) -> None:
        """Sizes from ``config``."""
        super().__init__()
        self.width = config.hidden_size
        self.input = InputLayer(self.width, self.width)
        self.layers = nn.ModuleList(RelativeBlock(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(self.width)

    def forward(
        self,
        x: Tensor,
        past: Tensor | None = None,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run new positions after the past.

        Args:
            x: (B, T, D).
            past: (S, B, layers, 3, H, head_dim) or None. Pasts of unequal length end together:
                padding comes first.
            mask: bool (T, K) or (B, T, K), True = may attend; None = causal.
            positions: (B or 1, T), positions from the start; None = S, S + 1, ...

        Returns:
            Hidden states after the final norm (B, T, D), and the new rows of ``past``
            (T, B, layers, 3, H, head_dim).
        """
        layers = None
        if past is not None:
            layers = [
                (past[:, :, index, 0], past[:, :, index, 1], past[:, :, index, 2])
                for index in range(len(self.layers))
            ]
        hidden, new = self.run(x, layers, mask, positions)
        return hidden, torch.stack([torch.stack(rows, dim=2) for rows in new], dim=2)

    def run(
        self,
        x: Tensor,
        past: Sequence[Rows] | None = None,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> tuple[Tensor, list[Rows]]:
        """As ``forward`` with the past's rows layer by layer, which costs a graph no copies."""
        time = x.shape[1]
        length = 0 if past is None else past[0][0].shape[0]
        places = torch.arange(length + time, device=x.device)
        if positions is None:
            positions = places[None, length:]
        if mask is None:
            mask = causal_mask(time, length, x.device)
        visible = mask[None, None] if mask.dim() == 2 else mask[:, None]
        # Padding shifts the rows that hold distances; hidden keys may point anywhere.
        distance = places[length:, None] - places[None, :]
        padding = length - positions[:, :1, None]
        columns = (distance[None].clamp(min=0) + padding).clamp(max=length + time - 1)
        table = sinusoids(positions, self.width).to(x.dtype)
        x = F.relu(self.input(x))
        new = []
        for index, layer in enumerate(self.layers):
            before = None if past is None else past[index]
            x, rows = layer(x, table, columns, before, visible)
            new.append(rows)
        return self.norm(x), new
