"""Causal transformer trunk of the Qwen2 kind, with its key/value cache handed in and out.

RMSNorm, rotary positions (half-split layout), grouped-query attention with biases on q, k, v only,
SwiGLU. Keys are rotated before they are cached, so a cached row never changes again.
"""

# B batch, T new positions, S past positions, D model width, H heads, G query heads per key head

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.config import LMConfig


class RMSNorm(nn.Module):
    """Root mean square normalisation over the last axis."""

    def __init__(self, dim: int, eps: float) -> None:
        """Weight (dim,), starting at one."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * (x * scale)


class RotaryPositions(nn.Module):
    """Cosines and sines of rotary position embedding."""

    frequencies: Tensor

    def __init__(self, head_dim: int, theta: float) -> None:
        """``theta`` is the base of the geometric series of wavelengths."""
        super().__init__()
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
        self.register_buffer("frequencies", 1.0 / theta**exponents, persistent=False)

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (B or 1, T) -> cos, sin, each (B or 1, 1, T, head_dim)."""
        angles = positions[:, None, :, None].float() * self.frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate feature pairs (i, i + head_dim/2) of x (B, H, T, head_dim)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    """Grouped-query attention over cached and new positions."""

    def __init__(self, config: LMConfig) -> None:
        """Sizes from ``config``."""
        super().__init__()
        self.num_heads = config.num_heads
        self.num_kv_heads = config.num_kv_heads
        self.head_dim = config.head_dim
        queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.query = nn.Linear(config.hidden_size, queries)
        self.key = nn.Linear(config.hidden_size, keys)
        self.value = nn.Linear(config.hidden_size, keys)
        self.output = nn.Linear(queries, config.hidden_size, bias=False)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        past: Tensor | None,
        mask: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Attend from new positions to past and new ones.

        Args:
            x: (B, T, D).
            rope: cos and sin of the new positions.
            past: keys and values (S, B, 2, kv heads, head_dim), or None for no past.
            mask: bool (B or 1, T, S + T), True = may attend; None = causal without past.

        Returns:
            (B, T, D) and the new keys and values (T, B, 2, kv heads, head_dim).
        """
        batch, time, _ = x.shape
        q = self.query(x).view(batch, time, self.num_heads, self.head_dim).transpose(1, 2)
        k = self.key(x).view(batch, time, self.num_kv_heads, self.head_dim).transpose(1, 2)
        v = self.value(x).view(batch, time, self.num_kv_heads, self.head_dim).transpose(1, 2)
        q, k = rotate(q, *rope), rotate(k, *rope)
        new = torch.stack((k, v)).permute(3, 1, 0, 2, 4)  # (T, B, 2, kv heads, head_dim)
        if past is not None:
            past_k, past_v = past.permute(2, 1, 3, 0, 4).unbind(0)  # (B, kv heads, S, head_dim)
            k, v = torch.cat((past_k, k), dim=2), torch.cat((past_v, v), dim=2)
        attended = self._attend(q, k, v, mask)
        return self.output(attended.transpose(1, 2).reshape(batch, time, -1)), new

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        groups = self.num_heads // self.num_kv_heads
        if groups == 1:
            allowed = None if mask is None else mask[:, None]
            return F.scaled_dot_product_attention(q, k, v, allowed, is_causal=mask is None)
        if mask is None:
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        # The heads of a group become rows of one longer query: keys need no copies.
        batch, _, time, size = q.shape
        rows = q.reshape(batch, self.num_kv_heads, groups * time, size)
        allowed = mask[:, None].repeat(1, 1, groups, 1)
        return F.scaled_dot_product_attention(rows, k, v, allowed).reshape(q.shape)


class SwiGLU(nn.Module):
    """Gated feed-forward network."""

    def __init__(self, dim: int, inner: int) -> None:
        """Three matrices without biases."""
        super().__init__()
        self.gate = nn.Linear(dim, inner, bias=False)
        self.up = nn.Linear(dim, inner, bias=False)
        self.down = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        return self.down(F.silu(self.gate(x)) * self.up(x))  # type: ignore[no-any-return]  # nn.Module call


class Block(nn.Module):
    """One pre-norm layer: attention, then feed-forward."""

    def __init__(self, config: LMConfig) -> None:
        """Sizes from ``config``."""
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attention = Attention(config)
        self.feed_forward_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.feed_forward = SwiGLU(config.hidden_size, config.intermediate_size)

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], past: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """See ``Attention.forward``."""
        attended, new = self.attention(self.attention_norm(x), rope, past, mask)
        x = x + attended
        return x + self.feed_forward(self.feed_forward_norm(x)), new


class Transformer(nn.Module):
    """Stack of blocks with a final norm."""

    def __init__(self, config: LMConfig) -> None:
        """Sizes from ``config``."""
        super().__init__()
        self.rope = RotaryPositions(config.head_dim, config.rope_theta)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

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
            past: (S, B, layers, 2, kv heads, head_dim) or None.
            mask: bool (T, S + T) or (B, T, S + T), True = may attend; None = causal.
            positions: (B or 1, T); None = S, S + 1, ...

        Returns:
            Hidden states after the final norm (B, T, D), and the new rows of ``past``
            (T, B, layers, 2, kv heads, head_dim).
        """
        time = x.shape[1]
        length = 0 if past is None else past.shape[0]
        if positions is None:
            positions = torch.arange(length, length + time, device=x.device)[None]
        if mask is not None:
            mask = mask if mask.dim() == 3 else mask[None]
        elif past is not None:
            mask = causal_mask(time, length, x.device)[None]
        cos, sin = self.rope(positions)
        rope = (cos.to(x.dtype), sin.to(x.dtype))
        new = []
        for index, layer in enumerate(self.layers):
            x, rows = layer(x, rope, None if past is None else past[:, :, index], mask)
            new.append(rows)
        return self.norm(x), torch.stack(new, dim=2)


def causal_mask(time: int, past: int, device: torch.device) -> Tensor:
    """Bool (T, S + T): new position i sees the past and new positions up to itself."""
    columns = torch.arange(past + time, device=device)
    rows = torch.arange(past, past + time, device=device)
    return columns[None, :] <= rows[:, None]
