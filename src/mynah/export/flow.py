"""Flow networks to ONNX: token encoder, velocity network, and the speaker projection's weights.

Graphs take and give their state as named tensors; batch sizes are fixed: 1 for the encoder, and for
the velocity 2 (conditional and unconditional row), or 1 in models without guidance.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mynah.backends.composed_flow import ENCODER_GRAPH, TIME_GRAPH, VELOCITY_GRAPH
from mynah.backends.native.encoder_weights import node_names
from mynah.config import FlowConfig
from mynah.export.flow_dit import export_dit, export_dit_time
from mynah.export.flow_unet import export_unet, export_unet_time
from mynah.export.graph import name_weights
from mynah.export.ranges import attention_ranges
from mynah.export.shrink import Variant, store_half
from mynah.networks.conformer import TokenEncoder
from mynah.networks.flow import Flow
from mynah.networks.state import grows
from mynah.networks.unet import UNetVelocity
from mynah.pipeline.flow import euler_steps
from mynah.pipeline.quality import QUALITIES

_OPSET = 17
# Example sizes differ from each other, from 1 and from the networks' widths, so that the tracer
# cannot take one dynamic size for another.
_TOKENS, _AHEAD, _PAST = 7, 3, 5
_INT8 = ("int8", "int8_rows", "int4")  # the others of these are for language models


class _Flat(nn.Module):
    """A stateful network with positional tensors in place of its state dictionary."""

    def __init__(self, network: nn.Module, num_inputs: int, state_keys: list[str]) -> None:
        super().__init__()
        self.network = network
        self.num_inputs = num_inputs
        self.state_keys = state_keys

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs, states = tensors[: self.num_inputs], tensors[self.num_inputs :]
        output, new = self.network(*inputs, state=dict(zip(self.state_keys, states, strict=True)))
        return output, *(new[key] for key in self.state_keys)


def export_flow(flow: Flow, folder: Path, variant: Variant = "float32") -> None:
    """Write everything of the flow that a model folder holds for ONNX Runtime.

    ``variant`` is of the velocity network. One that it cannot be written in is left to ``shrink``.
    """
    config = flow.config
    folder.mkdir(parents=True, exist_ok=True)
    _ENCODERS[config.encoder.kind](flow.encoder, config, folder / ENCODER_GRAPH)
    _VELOCITIES[config.velocity.kind](flow, folder, variant)
    export_flow_embeddings(flow, folder / "flow_embeddings.safetensors")


def export_flow_encoder(encoder: TokenEncoder, config: FlowConfig, path: Path) -> None:
    """Write ``flow_encoder.onnx``: tokens (1, T), lookahead (1, L), state -> mu (1, 2T, n_mels).

    L = 0 stands for the end of the utterance.
    """
    state = encoder.initial_state(1)
    ratio = encoder.ratio
    past = {"past_tokens": _PAST, "past_frames": _PAST * ratio}
    inputs = {
        "tokens": torch.zeros(1, _TOKENS, dtype=torch.int64),
        "lookahead": torch.zeros(1, _AHEAD, dtype=torch.int64),
    }
    dynamic = {"tokens": {1: "tokens"}, "lookahead": {1: "lookahead"}, "mu": {1: "frames"}}
    _export(encoder, inputs, state, past, "mu", dynamic, path)
    name_weights(path, {"MatMul": list(node_names(config))})


def export_flow_velocity(velocity: UNetVelocity, path: Path, *, guided: bool = True) -> None:
    """Write ``flow_velocity.onnx``.

    x, mu, cond (B, F, n_mels), speaker (B, n_mels), t (B,), state -> velocity (B, F, n_mels).
    B is 2 with guidance, row 0 the conditional branch by the callers' convention; else 1.
    """
    mels, batch = velocity.inputs // 4, 2 if guided else 1
    frames = torch.zeros(batch, _TOKENS, mels)
    inputs = {
        "x": frames,
        "mu": frames,
        "speaker": frames[:, 0],
        "cond": frames,
        "t": torch.full((batch,), 0.5),
    }
    dynamic = {name: {1: "frames"} for name in ("x", "mu", "cond", "velocity")}
    past = {"past_attention": _PAST}
    _export(velocity, inputs, velocity.initial_state(batch), past, "velocity", dynamic, path)


def export_flow_embeddings(flow: Flow, path: Path) -> None:
    """Write ``flow_embeddings.safetensors``: the speaker projection as weight and bias."""
    affine = flow.speaker_affine
    tensors = {"speaker.weight": affine.weight, "speaker.bias": affine.bias}
    save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, path)


def _export(
    network: nn.Module,
    inputs: dict[str, Tensor],
    state: dict[str, Tensor],
    past: dict[str, int],
    output: str,
    dynamic: dict[str, dict[int, str]],
    path: Path,
) -> None:
    keys = list(state)
    example = {
        key: value.new_zeros(past.get(key, 0), *value.shape[1:]) if grows(key) else value
        for key, value in state.items()
    }
    axes = dict(dynamic)
    for key in filter(grows, keys):
        axes[key] = {0: f"{key}_rows"}
        axes[f"new_{key}"] = {0: f"new_{key}_rows"}
    network.eval()
    with warnings.catch_warnings(), torch.no_grad():
        # The tracer warns that it is not the newest exporter and that sizes become constants;
        # parity tests run every graph at other sizes than the traced ones.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Flat(network, len(inputs), keys).eval(),
            (*inputs.values(), *example.values()),
            str(path),
            input_names=[*inputs, *keys],
            output_names=[output, *(f"new_{key}" for key in keys)],
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )


def _trace_velocity(flow: Flow, folder: Path, variant: Variant) -> None:
    guided, velocity = flow.config.cfg_rate != 0, cast("UNetVelocity", flow.velocity)
    export_flow_velocity(velocity, folder / VELOCITY_GRAPH, guided=guided)


def _export_unet(flow: Flow, folder: Path, variant: Variant) -> None:
    path, int8 = folder / VELOCITY_GRAPH, variant in _INT8
    velocity = cast("UNetVelocity", flow.velocity)  # chosen by its kind
    export_unet_time(velocity, folder / TIME_GRAPH)
    ranges = attention_ranges(flow) if int8 else None
    export_unet(velocity, path, int8=int8, ranges=ranges)
    if int8:
        store_half(path)


def _export_dit(flow: Flow, folder: Path, variant: Variant) -> None:
    path, int8 = folder / VELOCITY_GRAPH, variant in _INT8
    velocity: Any = flow.velocity  # a DiTVelocity, as the configuration says
    steps = {quality.flow(flow.config).num_steps for quality in QUALITIES.values()}
    times = sorted({t for count in steps for t, _ in euler_steps(count)})
    export_dit_time(velocity, folder / TIME_GRAPH, times)
    ranges = attention_ranges(flow) if int8 else None
    export_dit(velocity, path, int8=int8, ranges=ranges)
    if int8:
        store_half(path)


_ENCODERS: Mapping[str, Callable[[Any, FlowConfig, Path], None]] = {
    "upsample_conformer": export_flow_encoder,
    "lookahead": export_flow_encoder,
}
_VELOCITIES: Mapping[str, Callable[[Flow, Path, Variant], None]] = {
    "unet": _export_unet,
    "dit": _export_dit,
}
