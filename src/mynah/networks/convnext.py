"""ConvNeXt block for sequences (Liu et al. 2022; 1-d form as in Vocos, Siuzdak 2023)."""

# B batch, T time, D width

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a two-layer network per position, with residual."""

    def __init__(self, dim: int, kernel_size: int = 7, expansion: int = 3) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, expansion * dim)
        self.project = nn.Linear(expansion * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), 0.1))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D); ``mask`` (B, T, 1) hides padding from the convolution."""
        h = x if mask is None else x * mask
        h = self.norm(self.depthwise(h.transpose(1, 2)).transpose(1, 2))
        out: Tensor = x + self.project(F.gelu(self.expand(h))) * self.scale
        return out
