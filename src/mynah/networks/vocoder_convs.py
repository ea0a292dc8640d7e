"""Convolutions of the vocoder in (B, C, T) layout: centred or causal, and up-sampling."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class PaddedConv(nn.Conv1d):
    """1-D convolution with any number of zeros at either end; weights as of ``nn.Conv1d``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        left: int,
        right: int,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        """Pad ``left`` zeros before the first position and ``right`` behind the last."""
        # Equal ends are the convolution's own business: no copy, and no node in a graph.
        padding = left if left == right else 0
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding=padding, dilation=dilation
        )
        self.left, self.right = left, right

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, T) -> (B, out_channels, T') as of ``nn.Conv1d``."""
        if self.left != self.right:
            x = functional.pad(x, [self.left, self.right])
        return super().forward(x)


def same_length_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    dilation: int = 1,
    *,
    is_causal: bool,
) -> PaddedConv:
    """Convolution that keeps the length: centred (odd kernels), or over the past only."""
    reach = dilation * (kernel_size - 1)
    left = reach if is_causal else reach // 2
    return PaddedConv(
        in_channels, out_channels, kernel_size, left=left, right=reach - left, dilation=dilation
    )


class RepeatUpsample(nn.Module):
    """Each position repeated ``rate`` times, then a causal convolution.

    Repeating makes most of the products equal, so one convolution before it computes all ``rate``
    phases of the output, with the taps that meet the same position added up.
    """

    merge: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, rate: int) -> None:
        """Weights as of ``nn.Conv1d(in_channels, out_channels, kernel_size)``."""
        super().__init__()
        conv = nn.Conv1d(in_channels, out_channels, kernel_size)
        self.weight, self.bias = conv.weight, conv.bias
        self.rate = rate
        self.reach = -((1 - kernel_size) // rate)
        # Tap j of phase p reads repeated position p - (kernel_size - 1) + j, counted from the
        # first copy of the newest position.
        offset = torch.arange(rate)[:, None] - (kernel_size - 1) + torch.arange(kernel_size)
        source = torch.div(offset, rate, rounding_mode="floor")
        taps = source[..., None] == torch.arange(-self.reach, 1)
        merge = taps.to(torch.get_default_dtype()).permute(1, 0, 2)
        self.register_buffer("merge", merge.flatten(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, T) -> (B, out_channels, rate * T)."""
        channels, inner, _ = self.weight.shape
        merged = (self.weight @ self.merge).view(channels, inner, self.rate, self.reach + 1)
        kernels = merged.permute(0, 2, 1, 3).reshape(channels * self.rate, inner, self.reach + 1)
        assert self.bias is not None  # made above
        phases = functional.conv1d(functional.pad(x, [self.reach, 0]), kernels)
        shape = (x.shape[0], channels, self.rate, -1)
        return phases.view(shape).transpose(2, 3).flatten(2) + self.bias[:, None]
