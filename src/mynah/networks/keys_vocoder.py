"""Official tensor names of the vocoder, mapped to ours.

Weight-normed convolutions appear in the table folded, as ``.weight``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mynah.config import VocoderConfig
from mynah.networks.checkpoint import KeyTable
from mynah.networks.vocoder_layout import F0_CONVS

_F0 = "f0_predictor."
# (magnitude, direction): current torch, and before 2.0
_WEIGHT_NORM = (
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
    (".weight_g", ".weight_v"),
)


@dataclass(frozen=True)
class VocoderKeyTable(KeyTable):
    """Key table that folds weight norm with torch's own kernel, to the last bit.

    F0 accumulates to phases of 1e4 radians; a weight that is off by one rounding moves them enough
    to be seen against the released code.
    """

    f0_float64: bool = False
    """Whether the F0 predictor's weights are folded in double precision."""

    def to_ours(self, official: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename a whole official state dict; see ``KeyTable.to_ours``."""
        folded = dict(official)
        for magnitude, direction in _WEIGHT_NORM:
            stems = [key.removesuffix(magnitude) for key in official if key.endswith(magnitude)]
            for stem in stems:
                if stem + direction in folded:  # an incomplete pair is the base class's error
                    g, v = folded.pop(stem + magnitude), folded.pop(stem + direction)
                    if self.f0_float64 and stem.startswith(_F0):
                        g, v = g.double(), v.double()
                    folded[stem + ".weight"] = torch._weight_norm(v, g, 0)
        return super().to_ours(folded)


def vocoder_keys(config: VocoderConfig) -> VocoderKeyTable:
    """Key table of a vocoder of this size."""
    modules = {
        "m_source.l_linear": "source_filter.linear",
        "conv_pre": "conv_pre",
        "conv_post": "head.conv",
        f"{_F0}classifier": "f0_predictor.output",
    }
    for index in range(F0_CONVS):
        modules[f"{_F0}condnet.{2 * index}"] = f"f0_predictor.convs.{index}"
    snakes: dict[str, str] = {}
    kernels = len(config.resblock_kernel_sizes)
    for stage in range(len(config.upsample_rates)):
        modules[f"ups.{stage}"] = f"stages.{stage}.up"
        modules[f"source_downs.{stage}"] = f"stages.{stage}.source_down"
        blocks = {
            f"source_resblocks.{stage}": (
                f"stages.{stage}.source_block",
                len(config.source_resblock_dilations[stage]),
            )
        }
        for index, dilations in enumerate(config.resblock_dilations):
            theirs = f"resblocks.{stage * kernels + index}"
            blocks[theirs] = (f"stages.{stage}.blocks.{index}", len(dilations))
        for theirs, (ours, units) in blocks.items():
            for unit in range(units):
                for part in (1, 2):
                    modules[f"{theirs}.convs{part}.{unit}"] = f"{ours}.{unit}.conv{part}"
                    snakes[f"{theirs}.activations{part}.{unit}"] = f"{ours}.{unit}.snake{part}"
    names = {
        f"{theirs}.{kind}": f"{ours}.{kind}"
        for theirs, ours in modules.items()
        for kind in ("weight", "bias")
    }
    names |= {f"{theirs}.alpha": f"{ours}.alpha" for theirs, ours in snakes.items()}
    return VocoderKeyTable(names, {}, config.f0_float64)
