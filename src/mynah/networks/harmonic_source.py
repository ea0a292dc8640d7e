"""Networks at the source end of the vocoder: F0 predictor and excitation mixer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mynah.networks.vocoder_layout import F0_CONVS, F0_KERNEL_SIZE


class F0Predictor(nn.Module):
    """Fundamental frequency of every mel frame, from the frames around it."""

    def __init__(self, n_mels: int, channels: int) -> None:
        """Build ``F0_CONVS`` convolutions of ``channels`` and a linear output."""
        super().__init__()
        sizes = [n_mels, *[channels] * F0_CONVS]
        self.convs = nn.ModuleList(
            nn.Conv1d(size, channels, F0_KERNEL_SIZE, padding=F0_KERNEL_SIZE // 2)
            for size in sizes[:-1]
        )
        self.output = nn.Linear(channels, 1)

    def forward(self, mel: Tensor, mask: Tensor | None = None) -> Tensor:
        """Predict F0 in Hz, never negative: (B, F, n_mels) -> (B, F).

        ``mask`` (B, F), 1 or 0, marks frames that exist; what stands behind the last one then
        counts as the zero padding of every layer.
        """
        x = mel.transpose(1, 2)
        if mask is not None:
            x = x * mask[:, None]
        for conv in self.convs:
            x = functional.elu(conv(x))
            if mask is not None:
                x = x * mask[:, None]
        f0: Tensor = self.output(x.transpose(1, 2)).squeeze(-1).abs()
        return f0


class PulseAndNoise(nn.Module):
    """Excitation of the source-filter head: pulse train and noise stay apart, no weights."""

    def forward(self, harmonics: Tensor) -> Tensor:
        """(B, N, 2) -> (B, N, 2)."""
        return harmonics


class Excitation(nn.Module):
    """Mixes the fundamental and its overtones to one source signal."""

    def __init__(self, num_harmonics: int) -> None:
        """Mix ``num_harmonics`` overtones and the fundamental."""
        super().__init__()
        self.linear = nn.Linear(num_harmonics + 1, 1)

    def forward(self, harmonics: Tensor) -> Tensor:
        """(B, N, num_harmonics + 1) -> (B, N) in (-1, 1)."""
        return torch.tanh(self.linear(harmonics)).squeeze(-1)
