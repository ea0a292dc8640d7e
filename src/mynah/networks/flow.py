"""Flow matching decoder as one module: token encoder, speaker projection, velocity network."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mynah.config import FlowConfig
from mynah.networks.conformer import TokenEncoder
from mynah.networks.unet import UNetVelocity


class Flow(nn.Module):
    """All weights of the flow; the solver and the chunking live in ``mynah.pipeline``."""

    def __init__(self, config: FlowConfig) -> None:
        """Build with random weights."""
        super().__init__()
        self.config = config
        self.encoder = TokenEncoder(config)
        self.speaker_affine = nn.Linear(config.speaker_dim, config.n_mels)
        self.velocity = UNetVelocity(config)

    def speaker(self, embedding: Tensor) -> Tensor:
        """Speaker vectors (B, speaker_dim), any length, to their projection (B, n_mels)."""
        projected: Tensor = self.speaker_affine(F.normalize(embedding, dim=-1))
        return projected
