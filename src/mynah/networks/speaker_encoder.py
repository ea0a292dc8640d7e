"""Speaker encoder: Kaldi fbank -> one vector, by convolutions and attentive statistics pooling.

Pooling after Okabe et al. 2018. Replaces CAM++ in the embedded model, same input and output.
"""

# B batch, T time at 100 Hz, D width

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.networks.convnext import ConvNeXtBlock


class SpeakerEncoder(nn.Module):
    """fbank (B, T, 80), mean removed over time -> unit vector (B, speaker_dim)."""

    def __init__(self, speaker_dim: int = 192, dim: int = 160, num_blocks: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(80, dim, 5, stride=2, padding=2)
        self.conv2 = nn.Conv1d(dim, dim, 5, stride=2, padding=2)
        self.blocks = nn.ModuleList(ConvNeXtBlock(dim, expansion=2) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(dim)
        self.score = nn.Linear(dim, dim)
        self.output = nn.Linear(2 * dim, speaker_dim)

    def forward(self, fbank: Tensor) -> Tensor:
        """(B, T, 80) -> (B, speaker_dim), unit length."""
        h = F.gelu(self.conv1(fbank.transpose(1, 2) * 0.25))
        h = F.gelu(self.conv2(h)).transpose(1, 2)
        for block in self.blocks:
            h = block(h)
        h = self.norm(h).float()
        weight = torch.softmax(self.score(h).float(), dim=1)
        mean = (weight * h).sum(1)
        std = torch.sqrt(((weight * h * h).sum(1) - mean * mean).clamp(min=1e-4))
        return F.normalize(self.output(torch.cat([mean, std], -1)).float(), dim=-1)
