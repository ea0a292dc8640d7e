"""Causal transformer trunk of the Qwen2 kind, with its key/value cache on a tape.

RMSNorm, rotary positions (half-split layout), grouped-query attention with biases on q, k, v only,
SwiGLU. Keys are rotated before they are cached, so a cached row never changes again.
"""

# B batch, T new positions, S past positions, D model width, H heads, G query heads per key head

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.config import LMConfig
from mynah.networks.state import Tape

PAST = "past_kv"
"""State key of a trunk's cache: (positions, B, layers, 2, kv heads, head_dim)."""


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
        mask: Tensor | None,
        tape: Tape,
    ) -> Tensor:
        """Attend from new positions to past and new ones.

        Args:
            x: (B, T, D).
            rope: cos and sin of the new positions.
            mask: bool (B or 1, T, S + T), True = may attend; None = causal, where there is no past
                or one new position.
            tape: holds keys and values of the past.

        Returns:
            (B, T, D).
        """
        batch, time, _ = x.shape
        q = self.query(x).view(batch, time, self.num_heads, self.head_dim).transpose(1, 2)
        k = self.key(x).view(batch, time, self.num_kv_heads, self.head_dim).transpose(1, 2)
        v = self.value(x).view(batch, time, self.num_kv_heads, self.head_dim)
        keys, values = tape.extend(PAST, rotate(k, *rope).transpose(1, 2), v)
        attended = self._attend(rotate(q, *rope), keys, values, mask)
        return self.output(attended.transpose(1, 2).reshape(batch, time, -1))  # type: ignore[no-any-return]  # nn.Module call

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        batch, _, time, size = q.shape
        groups = self.num_heads // self.num_kv_heads
        is_causal = mask is None and time > 1
        allowed = None if mask is None else mask[:, None]
        if groups == 1:
            return F.scaled_dot_product_attention(q, k, v, allowed, is_causal=is_causal)
        if is_causal:
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        # The heads of a group become rows of one longer query: keys need no copies.
        rows = q.reshape(batch, self.num_kv_heads, groups * time, size)
        allowed = None if allowed is None else allowed.repeat(1, 1, groups, 1)
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
        self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None, tape: Tape
    ) -> Tensor:
        """See ``Attention.forward``."""
        x = x + self.attention(self.attention_norm(x), rope, mask, tape)
        return x + self.feed_forward(self.feed_forward_norm(x))  # type: ignore[no-any-return]  # nn.Module call


class Transformer(nn.Module):
    """Stack of blocks with a final norm."""

    def __init__(self, config: LMConfig) -> None:
        """Sizes from ``config``."""
        super().__init__()
        self.rope = RotaryPositions(config.head_dim, config.rope_theta)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, tape: Tape, mask: Tensor | None = None) -> Tensor:
        """Run new positions after the past.

        Args:
            x: (B, T, D).
            tape: holds the past under ``PAST``.
            mask: bool (B or 1, 1, S + T), False = a position that does not exist; None = all do.

        Returns:
            Hidden states after the final norm (B, T, D).
        """
        time, length = x.shape[1], tape.past_length(PAST)
        cos, sin = self.rope(tape.positions(PAST, x))
        rope = (cos.to(x.dtype), sin.to(x.dtype))
        if time > 1 and (length or mask is not None):
            mask = visible_mask(time, length, mask, x.device)
        for layer in self.layers:
            x = layer(x, rope, mask, tape)
        return self.norm(x)  # type: ignore[no-any-return]  # nn.Module call


def visible_mask(time: int, past: int, mask: Tensor | None, device: torch.device) -> Tensor:
    """Bool (B or 1, T, S + T): which positions a new one sees, of those that ``mask`` has."""
    causal = causal_mask(time, past, device)[None]
    return causal if mask is None else causal & mask


def causal_mask(time: int, past: int, device: torch.device) -> Tensor:
    """Bool (T, S + T): new position i sees the past and new positions up to itself."""
    columns = torch.arange(past + time, device=device)
    rows = torch.arange(past, past + time, device=device)
    return columns[None, :] <= rows[:, None]
