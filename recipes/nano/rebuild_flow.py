"""Write the embedded model's velocity network again, from the weights that its own graph stores.

    python -m recipes.nano.rebuild_flow --traced flow_velocity.onnx --model src/mynah/models/nano

The graph that training exported was traced, with weights in eight bits. This reads them back and
writes the graph that is built by hand, which needs half the time for the same frames. With
``--float`` it computes in float32: a copy of the model that the shipped one is compared with
(``benchmarks/fidelity.py``).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper

from mynah.backends.composed_flow import TIME_GRAPH, VELOCITY_GRAPH
from mynah.backends.onnx.flow import OnnxFlow
from mynah.config import FlowConfig, ModelConfig, VelocityConfig
from mynah.export.attention import HeadRange
from mynah.export.flow_unet import export_unet, export_unet_time
from mynah.export.ranges import MARGIN, measured_attention
from mynah.export.shrink import shrink, store_half
from mynah.hub.folders import write_manifest
from mynah.networks.unet import UNetVelocity
from mynah.pipeline.flow import euler_steps

_TOKENS = 200
_PARTS = ("query", "key", "value", "output", "expand", "contract")

Array = npt.NDArray[Any]


def stored_weights(path: Path) -> tuple[dict[str, Array], list[Array]]:
    """Named weights of a traced graph, and its matrices (K, N) in the order they are used."""
    graph = onnx.load(str(path)).graph
    values = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]].astype(np.float32)
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in values:
            codes, scale = (values[name].astype(np.float32) for name in node.input[:2])
            axis = next(part.i for part in node.attribute if part.name == "axis") % codes.ndim
            shape = [-1 if i == axis else 1 for i in range(codes.ndim)]
            values[node.output[0]] = codes * scale.reshape(shape)
    used = [node.input[1] for node in graph.node if node.op_type == "MatMul"]
    return values, [values[name] for name in used if name in values]


def matrix_names(sizes: VelocityConfig) -> Iterator[str]:
    """Parameters that a traced graph multiplies with, in the order of the forward pass."""
    for stage in ("down", *(f"mid.{i}" for i in range(sizes.num_mid_blocks)), "up"):
        yield from (f"{stage}.resnet.{part}.weight" for part in ("conv1", "conv2", "skip"))
        for block in range(sizes.transformers_per_block):
            yield from (f"{stage}.transformers.{block}.{part}.weight" for part in _PARTS)
        if not stage.startswith("mid"):
            yield f"{stage}_conv.weight"
    yield from ("final_conv.weight", "projection.weight")


def read_network(path: Path, config: FlowConfig) -> UNetVelocity:
    """The network of a traced graph, in float32."""
    assert isinstance(config.velocity, VelocityConfig)
    network = UNetVelocity(config, config.velocity).eval()
    values, matrices = stored_weights(path)
    names = list(matrix_names(config.velocity))
    products = dict(zip(names, matrices, strict=True))
    weights = {}
    for key, like in network.state_dict().items():
        if key in products:
            array = products[key].T
            if like.dim() == 3:  # taps lie side by side
                out, inner, taps = like.shape
                array = array.reshape(out, taps, inner).transpose(0, 2, 1)
        else:
            array = values[f"network.{key}"]
        weights[key] = torch.tensor(np.ascontiguousarray(array))
    network.load_state_dict(weights)
    return network


@torch.inference_mode()
def ranges(network: UNetVelocity, encoder: OnnxFlow, config: FlowConfig) -> list[HeadRange]:
    """As ``attention_ranges``, with the token encoder as it is shipped."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, config.speech_vocab_size, _TOKENS)
    mu = torch.tensor(encoder.encode(tokens, None, encoder.new_encoder_state()))[None]
    vector = rng.standard_normal(config.speaker_dim).astype(np.float32)
    speaker = torch.tensor(encoder.speaker(vector))[None]
    x = torch.randn(mu.shape, generator=torch.Generator().manual_seed(0)) * config.temperature
    cond = torch.zeros_like(mu)
    with measured_attention(network) as found:
        for t, dt in euler_steps(config.num_steps):
            velocity, _ = network(x, mu, speaker, cond, torch.full((1,), t))
            x = x + dt * velocity
    return [HeadRange.of(keys, values, heads, MARGIN) for keys, values, heads in found]


def main() -> None:
    """Replace the velocity network of a model folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--traced", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--float", dest="exact", action="store_true", help="not in eight bits")
    options = parser.parse_args()
    folder: Path = options.model
    config = ModelConfig.load(folder / "config.json").flow
    network = read_network(options.traced, config)
    path = folder / VELOCITY_GRAPH
    export_unet_time(network, folder / TIME_GRAPH)
    if options.exact:
        export_unet(network, path)
    else:
        old = OnnxFlow(folder, threads=1, guided=False)
        export_unet(network, path, int8=True, ranges=ranges(network, old, config))
        store_half(path)
        shrink(folder / TIME_GRAPH, "int8_weights")
    manifest = folder / "manifest.json"
    before = json.loads(manifest.read_text(encoding="utf-8"))
    write_manifest(folder)
    entries = json.loads(manifest.read_text(encoding="utf-8"))
    for name, entry in entries.items():
        entry.update({k: v for k, v in before.get(name, {}).items() if k not in entry})
    names = ("float32", "float32") if options.exact else ("int8", "int8_weights")
    for name, variant in zip((VELOCITY_GRAPH, TIME_GRAPH), names, strict=True):
        entries[name]["variant"] = variant
    manifest.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
