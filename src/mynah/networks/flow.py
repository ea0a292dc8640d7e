"""Flow matching decoder as one module: token encoder, speaker projection, velocity network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mynah.config import FlowConfig, VelocityConfig
from mynah.networks.conformer import TokenEncoder
from mynah.networks.dit import DiTVelocity
from mynah.networks.lookahead import LookaheadEncoder
from mynah.networks.regulated import RegulatedEncoder
from mynah.networks.resampling_unet import ResamplingUNet
from mynah.networks.unet import UNetVelocity


def _unet(config: FlowConfig, sizes: VelocityConfig) -> nn.Module:
    return (UNetVelocity if sizes.is_causal else ResamplingUNet)(config, sizes)


ENCODERS: Mapping[str, type[nn.Module]] = {
    "upsample_conformer": TokenEncoder,
    "lookahead": LookaheadEncoder,
    "regulated_conformer": RegulatedEncoder,
}
"""Token encoders by ``kind``; each is built from the whole configuration and its own part."""
VELOCITIES: Mapping[str, Callable[[FlowConfig, Any], nn.Module]] = {
    "unet": _unet,
    "dit": DiTVelocity,
}
"""Velocity networks by ``kind``, built in the same way."""


class Flow(nn.Module):
    """All weights of the flow; the solver and the chunking live in ``mynah.pipeline``."""

    def __init__(self, config: FlowConfig) -> None:
        """Build with random weights."""
        super().__init__()
        self.config = config
        self.encoder = ENCODERS[config.encoder.kind](config, config.encoder)
        self.speaker_affine = nn.Linear(config.speaker_dim, config.n_mels)
        self.velocity = VELOCITIES[config.velocity.kind](config, config.velocity)

    def speaker(self, embedding: Tensor) -> Tensor:
        """Speaker vectors (B, speaker_dim), any length, to their projection (B, n_mels)."""
        projected: Tensor = self.speaker_affine(F.normalize(embedding, dim=-1))
        return projected
