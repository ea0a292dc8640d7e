"""F0 predictor in double precision as a graph.

ONNX Runtime has no convolution in double precision on the CPU, so every convolution is a sum of
matrix products, one for each tap.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mynah.networks.harmonic_source import F0Predictor
from mynah.networks.vocoder_convs import PaddedConv


class F0InDouble(nn.Module):
    """The same numbers as a predictor in double precision; float32 in and out."""

    def __init__(self, predictor: F0Predictor) -> None:
        """Use the weights of ``predictor``."""
        super().__init__()
        self.predictor = predictor

    def forward(self, mel: Tensor, mask: Tensor) -> Tensor:
        """Mel (B, F, n_mels), mask (B, F) of frames that exist -> F0 (B, F) in Hz."""
        predictor, exists = self.predictor, mask.double()[:, :, None]
        x = (mel.double() - predictor.mel_mean) / predictor.mel_std * exists
        for conv in predictor.convs:
            # what neither a list of modules nor its convolutions say
            assert isinstance(conv, PaddedConv)
            assert conv.bias is not None
            padded = functional.pad(x, [0, 0, conv.left, conv.right])
            last = conv.left + conv.right
            taps = [
                padded[:, tap : padded.shape[1] - (last - tap)] @ conv.weight[:, :, tap].T
                for tap in range(last + 1)
            ]
            total = torch.stack(taps).sum(dim=0) + conv.bias
            # The graph's own ELU knows single precision only.
            x = torch.where(total > 0, total, total.clamp(max=0.0).exp() - 1) * exists
        f0: Tensor = (x @ predictor.output.weight.T + predictor.output.bias)[..., 0].abs()
        return f0.float()
