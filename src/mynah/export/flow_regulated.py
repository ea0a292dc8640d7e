"""CosyVoice 1's flow to ONNX: encoder, regulator and velocity network, none of which keeps state.

The frames are resized between encoder and regulator, outside of graphs.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mynah.export.flow import export_flow_embeddings
from mynah.export.graph import export_graph
from mynah.networks.flow import Flow
from mynah.networks.regulated import RegulatedEncoder

FLOW_ENCODER_GRAPH = "flow_encoder.onnx"
FLOW_REGULATOR_GRAPH = "flow_regulator.onnx"
FLOW_VELOCITY_GRAPH = "flow_velocity.onnx"
FLOW_EMBEDDINGS = "flow_embeddings.safetensors"

# Odd, so that halving and doubling it shows, and unlike any size of a layer.
_EXAMPLE = 7


class _Stateless(nn.Module):
    """A network without the empty state it returns."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        output: Tensor = self.network(*inputs)[0]
        return output


class _Regulator(nn.Module):
    def __init__(self, encoder: RegulatedEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, frames: Tensor) -> Tensor:
        return self.encoder.regulate(frames)


def export_regulated_flow(flow: Flow, folder: Path) -> None:
    """Write everything of the flow that a model folder holds for ONNX Runtime.

    * encoder: tokens (1, T) -> frames (1, T, n_mels), not yet resized;
    * regulator: frames (1, F, n_mels) -> mu (1, F, n_mels);
    * velocity: x, mu, cond (B, F, n_mels), speaker (B, n_mels), t (B,) -> velocity (B, F, n_mels),
      B = 2 with guidance, row 0 the conditional branch by the callers' convention; else 1.
    """
    encoder, n_mels = flow.encoder, flow.config.n_mels
    assert isinstance(encoder, RegulatedEncoder)  # chosen by its kind
    export_graph(
        _Stateless(encoder),
        {"tokens": torch.zeros(1, _EXAMPLE, dtype=torch.int64)},
        ["frames"],
        folder / FLOW_ENCODER_GRAPH,
        {"tokens": {1: "tokens"}, "frames": {1: "tokens"}},
    )
    export_graph(
        _Regulator(encoder),
        {"frames": torch.zeros(1, _EXAMPLE, n_mels)},
        ["mu"],
        folder / FLOW_REGULATOR_GRAPH,
        {"frames": {1: "frames"}, "mu": {1: "frames"}},
    )
    batch = 2 if flow.config.cfg_rate != 0 else 1
    frames = torch.zeros(batch, _EXAMPLE, n_mels)
    export_graph(
        _Stateless(flow.velocity),
        {
            "x": frames,
            "mu": frames.clone(),
            "speaker": frames[:, 0],
            "cond": frames.clone(),
            "t": torch.full((batch,), 0.5),
        },
        ["velocity"],
        folder / FLOW_VELOCITY_GRAPH,
        {name: {1: "frames"} for name in ("x", "mu", "cond", "velocity")},
    )
    export_flow_embeddings(flow, folder / FLOW_EMBEDDINGS)
