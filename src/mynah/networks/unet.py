"""Velocity network: causal, chunk-aware U-Net of one resolution (CosyVoice2 flow decoder)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.config import FlowConfig, VelocityConfig
from mynah.networks.conv import TimeConv
from mynah.networks.masks import attention_mask
from mynah.networks.state import State, Tape, open_tape

_KERNEL = 3
_LEFT = _KERNEL - 1
_CONTEXT = "context_convs"
_PAST = "past_attention"


def time_embedding(t: Tensor, dim: int) -> Tensor:
    """Flow time t (B,) in [0, 1] as sines then cosines (B, dim)."""
    half = dim // 2
    steps = torch.arange(half, device=t.device).float()
    angle = 1000.0 * t.float()[:, None] * torch.exp(steps * (-math.log(10000.0) / (half - 1)))
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def gaussian_velocity(x: Tensor, mu: Tensor, t: Tensor, std: float) -> Tensor:
    """Velocity of the straight flow from N(0, 1) to N(mu, std^2), in closed form.

    With x_t = (1 - t) x_0 + t x_1 it is E[x_1 - x_0 | x_t]; what a network adds to it is small,
    the idea of preconditioning in Karras et al. 2022.

    Args:
        x: (B, F, n_mels).
        mu: (B, F, n_mels).
        t: (B,).
        std: of the target, the same everywhere.

    Returns:
        (B, F, n_mels).
    """
    t = t[:, None, None]
    gain = (std * std * t - (1 - t)) / (std * std * t * t + (1 - t) * (1 - t))
    return mu + gain * (x - t * mu)


class CausalConv(TimeConv):
    """Convolution over the current frame and the two before it."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Sizes as of ``nn.Conv1d``."""
        super().__init__(in_channels, out_channels, _KERNEL)

    def advance(self, x: Tensor, tape: Tape) -> Tensor:
        """(B, F, in_channels) -> (B, F, out_channels)."""
        result: Tensor = self(tape.pad(_CONTEXT, x, _LEFT, self.in_channels))
        return result


class ResnetBlock(nn.Module):
    """Two causal convolutions with the flow time added between them."""

    def __init__(self, in_channels: int, channels: int, time_dim: int) -> None:
        """``time_dim`` is the width of the time embedding."""
        super().__init__()
        self.conv1 = CausalConv(in_channels, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.time = nn.Linear(time_dim, channels)
        self.conv2 = CausalConv(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.skip = TimeConv(in_channels, channels, 1)

    def forward(self, x: Tensor, time: Tensor, tape: Tape) -> Tensor:
        """x (B, F, in_channels), activated time (B, time_dim) -> (B, F, channels)."""
        hidden = F.mish(self.norm1(self.conv1.advance(x, tape))) + self.time(time)[:, None]
        hidden = F.mish(self.norm2(self.conv2.advance(hidden, tape)))
        result: Tensor = hidden + self.skip(x)
        return result


class TransformerBlock(nn.Module):
    """Pre-norm attention and feed-forward; inner width of the heads differs from the outer."""

    def __init__(self, channels: int, num_heads: int, head_dim: int) -> None:
        """``channels`` outside, ``num_heads * head_dim`` inside attention."""
        super().__init__()
        inner = num_heads * head_dim
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.norm_attention = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, inner, bias=False)
        self.key = nn.Linear(channels, inner, bias=False)
        self.value = nn.Linear(channels, inner, bias=False)
        self.output = nn.Linear(inner, channels)
        self.norm_feed_forward = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, 4 * channels)
        self.contract = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor, mask: Tensor | None, tape: Tape) -> Tensor:
        """x (B, F, channels), mask as of ``attention_mask`` -> (B, F, channels)."""
        shape = (*x.shape[:2], self.num_heads, self.head_dim)
        normed = self.norm_attention(x)
        query = self.query(normed).view(shape).transpose(1, 2)
        key, value = tape.extend(
            _PAST, self.key(normed).view(shape), self.value(normed).view(shape)
        )
        heads = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.output(heads.transpose(1, 2).flatten(2))
        hidden: Tensor = self.contract(F.gelu(self.expand(self.norm_feed_forward(x))))
        return x + hidden


class Stage(nn.Module):
    """One resnet block followed by transformer blocks."""

    def __init__(self, in_channels: int, sizes: VelocityConfig) -> None:
        """``in_channels`` of the first convolution; other sizes from ``sizes``."""
        super().__init__()
        self.resnet = ResnetBlock(in_channels, sizes.channels, 4 * sizes.channels)
        self.transformers = nn.ModuleList(
            TransformerBlock(sizes.channels, sizes.num_heads, sizes.head_dim)
            for _ in range(sizes.transformers_per_block)
        )

    def forward(self, x: Tensor, time: Tensor, mask: Tensor | None, tape: Tape) -> Tensor:
        """x (B, F, in_channels), activated time (B, time_dim) -> (B, F, channels)."""
        x = self.resnet(x, time, tape)
        for block in self.transformers:
            x = block(x, mask, tape)
        return x


class UNetVelocity(nn.Module):
    """Velocity of the flow at x, t, given mean frames, speaker and known frames."""

    def __init__(self, config: FlowConfig, sizes: VelocityConfig) -> None:
        """Build with random weights; ``sizes`` is the configuration's velocity part."""
        super().__init__()
        self.sizes = sizes
        self.inputs = 4 * config.n_mels
        self.time_expand = nn.Linear(self.inputs, 4 * sizes.channels)
        self.time_output = nn.Linear(4 * sizes.channels, 4 * sizes.channels)
        self.down = Stage(self.inputs, sizes)
        self.down_conv = CausalConv(sizes.channels, sizes.channels)
        self.mid = nn.ModuleList(Stage(sizes.channels, sizes) for _ in range(sizes.num_mid_blocks))
        self.up = Stage(2 * sizes.channels, sizes)
        self.up_conv = CausalConv(sizes.channels, sizes.channels)
        self.final_conv = CausalConv(sizes.channels, sizes.channels)
        self.final_norm = nn.LayerNorm(sizes.channels)
        self.projection = TimeConv(sizes.channels, config.n_mels, 1)

    def initial_state(self, batch: int = 1) -> State:
        """State before the first frame, for one Euler step."""
        sizes, like = self.sizes, self.projection.weight
        layers = (sizes.num_mid_blocks + 2) * sizes.transformers_per_block
        convs = [module for module in self.modules() if isinstance(module, CausalConv)]
        channels = sum(conv.in_channels for conv in convs)
        return {
            _PAST: like.new_zeros(0, batch, layers, 2, sizes.num_heads, sizes.head_dim),
            _CONTEXT: like.new_zeros(batch, _LEFT, channels),
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
            velocity (B, F, n_mels), zero at padding, and the new state parts
            (empty when ``state`` is None).
        """
        tape = open_tape(state)
        visible = attention_mask(chunk_mask, mask)
        time = time_embedding(t, self.inputs).to(x.dtype)
        time = F.mish(self.time_output(F.silu(self.time_expand(time))))
        speakers = speaker[:, None].expand(-1, x.shape[1], -1)
        hidden = torch.cat([x, mu, speakers, cond], dim=-1)
        skip = self.down(hidden, time, visible, tape)
        hidden = self.down_conv.advance(skip, tape)
        for stage in self.mid:
            hidden = stage(hidden, time, visible, tape)
        hidden = self.up(torch.cat([hidden, skip], dim=-1), time, visible, tape)
        hidden = self.up_conv.advance(hidden, tape)
        # Convolutions are causal and padding comes last, so padding only needs hiding here
        # and from attention.
        hidden = F.mish(self.final_norm(self.final_conv.advance(hidden, tape)))
        velocity = self.projection(hidden)
        if self.sizes.prior_std is not None:
            velocity = velocity + gaussian_velocity(x, mu, t, self.sizes.prior_std)
        if mask is not None:
            velocity = velocity * mask[:, :, None]
        return velocity, tape.new()
