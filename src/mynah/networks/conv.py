"""Convolution over time in (B, T, C) layout."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TimeConv(nn.Module):
    """1-D convolution without padding; weights have the shape of ``nn.Conv1d``.

    Exported graphs hold one matrix product over shifted frames instead: it needs no transposes
    around layer norms and attention, and is what runtimes quantise best. In torch the
    convolution kernel is the faster one, mostly for gradients.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        """Sizes as of ``nn.Conv1d``."""
        super().__init__()
        self.in_channels = in_channels
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels))
        bound = 1 / math.sqrt(in_channels * kernel_size)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T + kernel_size - 1, in_channels) -> (B, T, out_channels)."""
        if self.kernel_size == 1:
            return F.linear(x, self.weight[:, :, 0], self.bias)
        if not torch.onnx.is_in_onnx_export():
            return F.conv1d(x.transpose(1, 2), self.weight, self.bias).transpose(1, 2)
        last = self.kernel_size - 1
        shifted = [x[:, i : x.shape[1] - last + i] for i in range(self.kernel_size)]
        # Transpose and reshape fold into the exported weight; other spellings stay in the graph.
        weight = self.weight.transpose(1, 2).reshape(len(self.bias), -1)
        return F.linear(torch.cat(shifted, dim=-1), weight, self.bias)
