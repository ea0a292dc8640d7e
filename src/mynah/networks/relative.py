"""Layers with relative positions, shared by the conformers of all generations.

Scores add a content term and a distance term (Transformer-XL, as in ESPnet); written for T queries
that follow S known keys.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.networks.state import Tape

BLOCK_NORM_EPS = 1e-12
"""Of the layer norms inside a block; those around a stack have torch's default."""


def sinusoids(distance: Tensor, dim: int) -> Tensor:
    """Distances (...) to sines and cosines, interleaved, (..., dim) float32."""
    steps = torch.arange(0, dim, 2, device=distance.device).float()
    angle = distance[..., None].float() * torch.exp(steps * (-math.log(10000.0) / dim))
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


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
    distance = torch.arange(num_keys - 1, -num_queries, -1, device=like.device)
    return sinusoids(distance, dim).to(like.dtype)


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
        self.norm_attention = nn.LayerNorm(dim, eps=BLOCK_NORM_EPS)
        self.attention = RelativeAttention(dim, num_heads)
        self.norm_feed_forward = nn.LayerNorm(dim, eps=BLOCK_NORM_EPS)
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
