"""Networks at the source end of the vocoder: F0 predictor and excitation mixer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from mynah.config import VocoderConfig
from mynah.networks.vocoder_convs import PaddedConv
from mynah.networks.vocoder_layout import f0_reaches


class F0Predictor(nn.Module):
    """Fundamental frequency of every mel frame, from the frames around it.

    In double precision, where the configuration asks for it, it stays on the host and double
    whatever happens to the module it is part of: some devices have no such numbers, and it is
    small.
    """

    def __init__(self, config: VocoderConfig) -> None:
        """Build the convolutions of ``f0_reaches`` and a linear output."""
        super().__init__()
        self.mel_mean, self.mel_std = config.mel_mean, config.mel_std
        channels = config.f0_channels
        self.convs = nn.ModuleList(
            PaddedConv(
                channels if index else config.n_mels,
                channels,
                left + 1 + right,
                left=left,
                right=right,
            )
            for index, (left, right) in enumerate(f0_reaches(config))
        )
        self.output = nn.Linear(channels, 1)
        self.is_double = False
        if config.f0_float64:
            self.double().is_double = True

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Move or convert, which ``to``, ``half`` and all the like end in."""
        return self if self.is_double else super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch has no types here

    def forward(self, mel: Tensor, mask: Tensor | None = None) -> Tensor:
        """Predict F0 in Hz, never negative: (B, F, n_mels) -> (B, F).

        ``mask`` (B, F), 1 or 0, marks frames that exist; what stands behind the last one then
        counts as the zero padding of every layer.
        """
        if self.is_double:
            exists = None if mask is None else mask.cpu().double()
            return self._predict(mel.cpu().double(), exists).to(mel)
        return self._predict(mel, mask)

    def _predict(self, mel: Tensor, mask: Tensor | None) -> Tensor:
        x = ((mel - self.mel_mean) / self.mel_std).transpose(1, 2)
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
