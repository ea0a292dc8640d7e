"""Velocity network: causal, chunk-aware diffusion transformer (CosyVoice 3 flow decoder).

Adaptive layer norm as in DiT (Peebles and Xie 2023), grouped convolutions that encode positions
as in wav2vec 2.0 (Baevski et al. 2020), rotary positions (Su et al. 2021) on the first head only.
"""

# B batch, F new frames, S past frames, D model width, H heads

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.config import DiTConfig, FlowConfig
from mynah.networks.masks import attention_mask
from mynah.networks.state import State, Tape, open_tape
from mynah.networks.unet import time_embedding

_TIME_FEATURES = 256
_NORM_EPS = 1e-6
_ROTARY_THETA = 10000.0
_PAST = "past_attention"
_CONTEXT = "context_convs"
_POSITION = "context_position"

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of the new frames' positions, each (B or 1, F, head_dim)."""


def rotate_pairs(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate the feature pairs (2i, 2i + 1) of x (B, F, head_dim)."""
    cos, sin = rotation
    turned = torch.stack([-x[..., 1::2], x[..., 0::2]], dim=-1).reshape(x.shape)
    return x * cos + turned * sin


class Modulation(nn.Module):
    """Layer norm without weights of its own: vectors made from the flow time scale and shift it."""

    def __init__(self, dim: int, parts: int) -> None:
        """Make ``parts`` vectors; ``dim`` is the width of frames and of time embedding alike."""
        super().__init__()
        self.parts = parts
        self.norm = nn.LayerNorm(dim, eps=_NORM_EPS, elementwise_affine=False)
        self.linear = nn.Linear(dim, parts * dim)

    def forward(self, time: Tensor) -> tuple[Tensor, ...]:
        """Activated time (B, D) to ``parts`` vectors (B, 1, D)."""
        return self.linear(time)[:, None].chunk(self.parts, dim=-1)  # type: ignore[no-any-return]  # nn.Module call

    def apply_to(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """Normalise x (B, F, D), then scale and shift it by vectors (B, 1, D)."""
        normed: Tensor = self.norm(x)
        return normed * (1 + scale) + shift


class DiTBlock(nn.Module):
    """Attention and feed-forward, both modulated and gated by the flow time."""

    def __init__(self, sizes: DiTConfig) -> None:
        """Sizes of the configuration's velocity part."""
        super().__init__()
        dim, inner = sizes.dim, sizes.num_heads * sizes.head_dim
        self.num_heads = sizes.num_heads
        self.head_dim = sizes.head_dim
        self.modulation = Modulation(dim, 6)
        self.query = nn.Linear(dim, inner)
        self.key = nn.Linear(dim, inner)
        self.value = nn.Linear(dim, inner)
        self.output = nn.Linear(inner, dim)
        self.expand = nn.Linear(dim, sizes.feed_forward_factor * dim)
        self.contract = nn.Linear(sizes.feed_forward_factor * dim, dim)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        rotation: Rotation,
        mask: Tensor | None,
        padding: Tensor | None,
        tape: Tape,
    ) -> Tensor:
        """One layer.

        Args:
            x: (B, F, D).
            time: activated flow time (B, D).
            rotation: of the new frames.
            mask: as of ``attention_mask``.
            padding: bool (B, F), False = padding, which no attention is added to.
            tape: holds keys and values of the past.

        Returns:
            (B, F, D).
        """
        shift, scale, gate, shift_ff, scale_ff, gate_ff = self.modulation(time)
        normed = self.modulation.apply_to(x, shift, scale)
        attended = self._attend(normed, rotation, mask, tape)
        if padding is not None:
            attended = attended * padding[:, :, None]
        x = x + gate * attended
        hidden = self.expand(self.modulation.apply_to(x, shift_ff, scale_ff))
        hidden = F.gelu(hidden, approximate="tanh")
        result: Tensor = x + gate_ff * self.contract(hidden)
        return result

    def _attend(self, x: Tensor, rotation: Rotation, mask: Tensor | None, tape: Tape) -> Tensor:
        shape = (*x.shape[:2], self.num_heads, self.head_dim)
        query = self._rotate(self.query(x), rotation).view(shape).transpose(1, 2)
        key, value = self._rotate(self.key(x), rotation).view(shape), self.value(x).view(shape)
        keys, values = tape.extend(_PAST, key, value)
        heads = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        output: Tensor = self.output(heads.transpose(1, 2).flatten(2))
        return output

    def _rotate(self, x: Tensor, rotation: Rotation) -> Tensor:
        """Rotate the first head; the released model was trained with no positions in the rest."""
        first, rest = x[..., : self.head_dim], x[..., self.head_dim :]
        return torch.cat([rotate_pairs(first, rotation), rest], dim=-1)


class PositionConvs(nn.Module):
    """Two causal grouped convolutions whose result is added to the frames as their position."""

    def __init__(self, sizes: DiTConfig) -> None:
        """Sizes of the configuration's velocity part."""
        super().__init__()
        self.left = sizes.conv_kernel - 1
        conv = (sizes.dim, sizes.dim, sizes.conv_kernel)
        self.conv1 = nn.Conv1d(*conv, groups=sizes.conv_groups)
        self.conv2 = nn.Conv1d(*conv, groups=sizes.conv_groups)

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        """(B, F, D) -> (B, F, D)."""
        hidden = x
        for conv in (self.conv1, self.conv2):
            padded = tape.pad(_CONTEXT, hidden, self.left, conv.in_channels)
            hidden = F.mish(conv(padded.transpose(1, 2))).transpose(1, 2)
        return x + hidden


class DiTVelocity(nn.Module):
    """Velocity of the flow at x, t, given mean frames, speaker and known frames."""

    frequencies: Tensor

    def __init__(self, config: FlowConfig, sizes: DiTConfig) -> None:
        """Build with random weights; ``sizes`` is the configuration's velocity part."""
        super().__init__()
        self.sizes = sizes
        self.inputs = 4 * config.n_mels
        self.time_expand = nn.Linear(_TIME_FEATURES, sizes.dim)
        self.time_output = nn.Linear(sizes.dim, sizes.dim)
        self.input = nn.Linear(self.inputs, sizes.dim)
        self.positions = PositionConvs(sizes)
        self.blocks = nn.ModuleList(DiTBlock(sizes) for _ in range(sizes.depth))
        self.modulation = Modulation(sizes.dim, 2)
        self.projection = nn.Linear(sizes.dim, config.n_mels)
        exponents = torch.arange(0, sizes.head_dim, 2, dtype=torch.float32) / sizes.head_dim
        # Persistent, because released checkpoints hold it.
        self.register_buffer("frequencies", 1.0 / _ROTARY_THETA**exponents)

    def initial_state(self, batch: int = 1) -> State:
        """State before the first frame, for one Euler step."""
        sizes, like = self.sizes, self.projection.weight
        return {
            _PAST: like.new_zeros(0, batch, sizes.depth, 2, sizes.num_heads, sizes.head_dim),
            _CONTEXT: like.new_zeros(batch, self.positions.left, 2 * sizes.dim),
            _POSITION: torch.zeros(batch, 1, 1, device=like.device),
        }

    def forward(
        self,
        x: Tensor,
        mu: Tensor,
        speaker: Tensor,
        cond: Tensor,
        t: Tensor,
        state: State | Tape | None = None,
        mask: Tensor | None = None,
        chunk_mask: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Velocity at time t.

        Args:
            x: frames on the way from noise to mel (B, F, n_mels).
            mu: mean frames of the token encoder (B, F, n_mels).
            speaker: projected speaker vector (B, n_mels).
            cond: known (prompt) frames, zeros where unknown (B, F, n_mels).
            t: flow time (B,), 0 = noise, 1 = mel.
            state: what earlier calls of this Euler step left; None = start, keep nothing.
            mask: bool (B, F), False = padding at the end of a row; only with an empty past.
            chunk_mask: bool (F, S + F) or (B, F, S + F); None = everything visible.

        Returns:
            velocity (B, F, n_mels), meaningless at padding, and the new state parts
            (empty when ``state`` is None).
        """
        tape = open_tape(state)
        visible = attention_mask(chunk_mask, mask)
        time = F.silu(self.time(t).to(x.dtype))
        rotation = self._rotation(tape.count(_POSITION, x), x)
        speakers = speaker[:, None].expand_as(x)
        hidden = self.input(torch.cat([x, cond, mu, speakers], dim=-1))
        hidden = self.positions(hidden, tape)
        for block in self.blocks:
            hidden = block(hidden, time, rotation, visible, mask, tape)
        scale, shift = self.modulation(time)
        velocity: Tensor = self.projection(self.modulation.apply_to(hidden, shift, scale))
        return velocity, tape.new()

    def time(self, t: Tensor) -> Tensor:
        """Flow time (B,) to its embedding (B, D)."""
        features = time_embedding(t, _TIME_FEATURES).to(self.time_expand.weight.dtype)
        embedded: Tensor = self.time_output(F.silu(self.time_expand(features)))
        return embedded

    def _rotation(self, start: Tensor | None, x: Tensor) -> Rotation:
        """Rotation of frames that are counted on from ``start`` (B, 1, 1); None = from 0."""
        frames = torch.arange(x.shape[1], device=x.device, dtype=torch.float32)[None, :, None]
        frames = frames if start is None else frames + start
        frequencies = self.frequencies.float()
        angles = frames * torch.stack([frequencies, frequencies], dim=-1).flatten()
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)
