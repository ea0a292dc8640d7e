"""Velocity network of CosyVoice 1: U-Net with one level of down- and up-sampling by two.

Symmetric convolutions, group norm over time and full attention: every frame depends on every
other, so there is no state. Inside, arrays are (B, channels, frames).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.config import FlowConfig, VelocityConfig
from mynah.networks.masks import attention_mask
from mynah.networks.state import State, Tape
from mynah.networks.unet import TransformerBlock, time_embedding

_KERNEL = 3
_GROUPS = 8


class NormedConv(nn.Module):
    """Convolution, group norm, Mish; padding frames count as zeros."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Sizes as of ``nn.Conv1d``."""
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, _KERNEL, padding=_KERNEL // 2)
        self.norm = nn.GroupNorm(_GROUPS, out_channels)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, in_channels, F), mask float (B, 1, F) -> (B, out_channels, F)."""
        return _masked(F.mish(self.norm(self.conv(_masked(x, mask)))), mask)


class ResnetBlock(nn.Module):
    """Two convolutions with the flow time added between them."""

    def __init__(self, in_channels: int, channels: int, time_dim: int) -> None:
        """``time_dim`` is the width of the time embedding."""
        super().__init__()
        self.block1 = NormedConv(in_channels, channels)
        self.time = nn.Linear(time_dim, channels)
        self.block2 = NormedConv(channels, channels)
        self.skip = nn.Conv1d(in_channels, channels, 1)

    def forward(self, x: Tensor, time: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, in_channels, F), activated time (B, time_dim) -> (B, channels, F)."""
        hidden = self.block1(x, mask) + self.time(time)[:, :, None]
        result: Tensor = self.block2(hidden, mask) + self.skip(_masked(x, mask))
        return result


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

    def forward(self, x: Tensor, time: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, in_channels, F), mask float (B, 1, F) -> (B, channels, F)."""
        x = self.resnet(x, time, mask).transpose(1, 2)
        visible = attention_mask(None, None if mask is None else mask[:, 0] > 0)
        tape = Tape(None)
        for block in self.transformers:
            x = block(x, visible, tape)
        return x.transpose(1, 2)


class ResamplingUNet(nn.Module):
    """Velocity of the flow at x, t, given mean frames, speaker and known frames."""

    def __init__(self, config: FlowConfig, sizes: VelocityConfig) -> None:
        """Build with random weights; ``sizes`` is the configuration's velocity part."""
        super().__init__()
        channels, padding = sizes.channels, _KERNEL // 2
        self.inputs = 4 * config.n_mels
        self.time_expand = nn.Linear(self.inputs, 4 * channels)
        self.time_output = nn.Linear(4 * channels, 4 * channels)
        self.down = Stage(self.inputs, sizes)
        self.downsample = nn.Conv1d(channels, channels, _KERNEL, stride=2, padding=padding)
        self.low_down = Stage(channels, sizes)
        self.low_down_conv = nn.Conv1d(channels, channels, _KERNEL, padding=padding)
        self.mid = nn.ModuleList(Stage(channels, sizes) for _ in range(sizes.num_mid_blocks))
        self.low_up = Stage(2 * channels, sizes)
        self.upsample = nn.ConvTranspose1d(channels, channels, 4, stride=2, padding=1)
        self.up = Stage(2 * channels, sizes)
        self.up_conv = nn.Conv1d(channels, channels, _KERNEL, padding=padding)
        self.final = NormedConv(channels, channels)
        self.projection = nn.Conv1d(channels, config.n_mels, 1)

    def initial_state(self, batch: int = 1) -> State:
        """No state: a call knows nothing of earlier ones."""
        return {}

    def forward(
        self,
        x: Tensor,
        mu: Tensor,
        speaker: Tensor,
        cond: Tensor,
        t: Tensor,
        state: State | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Velocity at time t.

        Args:
            x: frames on the way from noise to mel (B, F, n_mels).
            mu: mean frames of the token encoder (B, F, n_mels).
            speaker: projected speaker vector (B, n_mels).
            cond: known (prompt) frames, zeros where unknown (B, F, n_mels).
            t: flow time (B,), 0 = noise, 1 = mel.
            state: ignored; there is none.
            mask: bool (B, F), False = padding at the end of a row.

        Returns:
            velocity (B, F, n_mels), zero at padding, and an empty state.
        """
        time = time_embedding(t, self.inputs).to(x.dtype)
        time = F.mish(self.time_output(F.silu(self.time_expand(time))))
        speakers = speaker[:, None].expand(-1, x.shape[1], -1)
        full = None if mask is None else mask[:, None].to(x.dtype)
        half = None if full is None else full[:, :, ::2]
        hidden = torch.cat([x, mu, speakers, cond], dim=-1).transpose(1, 2)
        skip = self.down(hidden, time, full)
        low_skip = self.low_down(self.downsample(_masked(skip, full)), time, half)
        hidden = self.low_down_conv(_masked(low_skip, half))
        for stage in self.mid:
            hidden = stage(hidden, time, half)
        hidden = self.low_up(torch.cat([hidden, low_skip], dim=1), time, half)
        # An odd number of frames comes back longer by one.
        hidden = self.upsample(_masked(hidden, half))[:, :, : x.shape[1]]
        hidden = self.up(torch.cat([hidden, skip], dim=1), time, full)
        hidden = self.final(self.up_conv(_masked(hidden, full)), full)
        velocity = _masked(self.projection(_masked(hidden, full)), full)
        return velocity.transpose(1, 2), {}


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask
