"""The causal U-Net velocity network as a hand-built graph.

Rows are frames times guidance branches, time first, so that no product needs a transpose:
row ``f * B + b`` is frame f of branch b, and the heads of both branches lie side by side. Values
that do not depend on the frames (time embeddings) are made by a second small graph, once per
Euler step; keys and values of earlier frames come as ``AttentionCache`` describes.
"""

# B branches, F new frames, S shared and N own past frames, C channels, H heads, D head size

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from mynah.config import VelocityConfig
from mynah.export.attention import CachedAttention, HeadRange
from mynah.export.builder import GraphBuilder, Value
from mynah.export.graph import export_graph
from mynah.export.shrink import STORED
from mynah.networks.unet import (
    CausalConv,
    ResnetBlock,
    Stage,
    TransformerBlock,
    UNetVelocity,
    time_embedding,
)

_CONTEXT = "context_conv"
_TIME_BIAS = "time_bias"
_PRIOR_GAINS = "prior_gains"


class _TimeTerms(nn.Module):
    """What the network makes of the flow time alone."""

    def __init__(self, network: UNetVelocity) -> None:
        super().__init__()
        self.network = network

    def forward(self, t: Tensor) -> tuple[Tensor, ...]:
        """t (1,) -> bias of each resnet (R, C), and the gains of x and mu if there is a prior."""
        network = self.network
        time = network.time_expand(time_embedding(t, network.inputs))
        time = nn.functional.mish(network.time_output(nn.functional.silu(time)))
        stages = [network.down, *network.mid, network.up]
        bias = torch.cat([stage.resnet.time(time) for stage in stages])
        std = network.sizes.prior_std
        if std is None:
            return (bias,)
        # the same closed form as ``gaussian_velocity``: mu + gain * (x - t * mu)
        gain = (std * std * t - (1 - t)) / (std * std * t * t + (1 - t) * (1 - t))
        return bias, torch.cat([gain, 1 - gain * t])


def export_unet_time(network: UNetVelocity, path: Path) -> None:
    """Write ``flow_time.onnx``: t (1,) -> inputs of ``flow_velocity.onnx`` of the same names."""
    names = [_TIME_BIAS] + [_PRIOR_GAINS] * (network.sizes.prior_std is not None)
    export_graph(_TimeTerms(network), {"t": torch.full((1,), 0.5)}, names, path, {})


def export_unet(
    network: UNetVelocity,
    path: Path,
    *,
    int8: bool = False,
    ranges: list[HeadRange] | None = None,
) -> None:
    """Write ``flow_velocity.onnx``.

    x, mu, cond (F, n_mels), speaker (n_mels,), branches (B,), terms of ``flow_time.onnx``, state
    -> velocity (F, B, n_mels). ``branches`` scales what each branch knows beside x: 1 = the
    conditional branch, 0 = the unconditional one.

    Args:
        network: its weights.
        path: where to write.
        int8: multiply, and keep keys and values, in eight bits.
        ranges: of each attention layer's keys and values; needed with ``int8``.
    """
    facts = {STORED: "int8"} if int8 else None
    UNetGraph(network, int8=int8, ranges=ranges).build().save(path, facts)


class UNetGraph:
    """Writes one network, layer by layer, in the order of its forward pass."""

    def __init__(
        self,
        network: UNetVelocity,
        *,
        int8: bool,
        ranges: list[HeadRange] | None = None,
    ) -> None:
        """See ``export_unet``."""
        self.network = network
        self.graph = GraphBuilder(int8=int8)
        self._branches = self.graph.input("branches", ["B"])
        self._num_branches = self.graph.op("Shape", self._branches)
        self._attention = CachedAttention(self.graph, self._num_branches, ranges)
        self._num_convs = 0
        self._num_resnets = 0

    def build(self) -> GraphBuilder:
        """Write everything."""
        network, graph = self.network, self.graph
        sizes, mels = network.sizes, network.inputs // 4
        x = self._inputs(sizes, mels)
        middle = cast("list[Stage]", list(network.mid))  # what the module list holds
        skip = self._stage(x, network.down, "down")
        hidden = self._conv(skip, network.down_conv, "down_conv")
        for index, stage in enumerate(middle):
            hidden = self._stage(hidden, stage, f"mid.{index}")
        hidden = self._stage(graph.concat(hidden, skip, axis=1), network.up, "up")
        hidden = self._conv(hidden, network.up_conv, "up_conv")
        hidden = self._conv(hidden, network.final_conv, "final_conv")
        hidden = self._normed_mish(hidden, network.final_norm, "final_norm")
        weight, bias = network.projection.weight[:, :, 0], network.projection.bias
        velocity = graph.linear(hidden, weight, bias, exact=True, name="projection")
        shape = graph.concat(graph.ints(-1), self._num_branches, graph.ints(mels), axis=0)
        velocity = graph.op("Reshape", velocity, shape)
        if sizes.prior_std is not None:
            velocity = graph.op("Add", velocity, self._prior(mels))
        graph.output("velocity", velocity, ["F", "B", mels])
        return graph

    def _inputs(self, sizes: VelocityConfig, mels: int) -> Value:
        graph = self.graph
        x, mu, cond = (graph.input(name, ["F", mels]) for name in ("x", "mu", "cond"))
        speaker = graph.input("speaker", [mels])
        graph.input(_TIME_BIAS, [sizes.num_mid_blocks + 2, sizes.channels])
        speakers = graph.op("Expand", speaker, graph.op("Shape", x))
        known = graph.reshape(graph.concat(mu, speakers, cond, axis=1), -1, 1, 3 * mels)
        known = graph.op("Mul", known, graph.reshape(self._branches, 1, -1, 1))
        rows = graph.concat(self._spread(x, mels), known, axis=2)
        return graph.reshape(rows, -1, 4 * mels)

    def _spread(self, x: Value, width: int) -> Value:
        """The same frames (F, width) for every branch: (F, B, width)."""
        graph = self.graph
        shape = graph.concat(graph.ints(1), self._num_branches, graph.ints(1), axis=0)
        return graph.op("Expand", graph.reshape(x, -1, 1, width), shape)

    def _prior(self, mels: int) -> Value:
        """Velocity (F, B, n_mels) of the flow to a normal distribution around mu, or around 0."""
        graph = self.graph
        gains = graph.input(_PRIOR_GAINS, [2])
        of_x = graph.op("Mul", "x", graph.slice(gains, 0, 1))
        of_mu = graph.op("Mul", "mu", graph.slice(gains, 1, 2))
        known = graph.reshape(self._branches, 1, -1, 1)
        of_mu = graph.op("Mul", graph.reshape(of_mu, -1, 1, mels), known)
        return graph.op("Add", self._spread(of_x, mels), of_mu)

    def _stage(self, x: Value, stage: Stage, name: str) -> Value:
        x = self._resnet(x, stage.resnet, f"{name}.resnet")
        blocks = cast("list[TransformerBlock]", list(stage.transformers))
        names = [f"{name}.transformers.{index}" for index in range(len(blocks))]
        normed = self._norm(x, blocks[0].norm_attention, f"{names[0]}.norm_attention")
        followers = [*zip(blocks[1:], names[1:], strict=True), None]
        for block, own, after in zip(blocks, names, followers, strict=True):
            normed, x = self._block(normed, x, block, own, after)
        return x

    def _block(
        self,
        normed: Value,
        x: Value,
        block: TransformerBlock,
        name: str,
        after: tuple[TransformerBlock, str] | None,
    ) -> tuple[Value, Value]:
        """One transformer block on ``x`` and its norm; returns the same for the next block."""
        graph = self.graph
        norm, own = block.norm_feed_forward, f"{name}.norm_feed_forward"
        attended = self._attention.layer(normed, block, name=name)
        normed, x = graph.add_and_norm(attended, x, norm.weight, norm.bias, norm.eps, own)
        expand, contract = block.expand, block.contract
        hidden = graph.linear(normed, expand.weight, expand.bias, name=f"{name}.expand")
        hidden = graph.gelu(hidden)
        hidden = graph.linear(hidden, contract.weight, contract.bias, name=f"{name}.contract")
        if after is None:
            return "", graph.op("Add", hidden, x)
        norm, own = after[0].norm_attention, f"{after[1]}.norm_attention"
        return graph.add_and_norm(hidden, x, norm.weight, norm.bias, norm.eps, own)

    def _resnet(self, x: Value, block: ResnetBlock, name: str) -> Value:
        graph = self.graph
        bias = graph.slice(_TIME_BIAS, self._num_resnets, self._num_resnets + 1)
        self._num_resnets += 1
        hidden = self._conv(x, block.conv1, f"{name}.conv1")
        hidden = self._normed_mish(hidden, block.norm1, f"{name}.norm1")
        hidden = self._conv(graph.op("Add", hidden, bias), block.conv2, f"{name}.conv2")
        hidden = self._normed_mish(hidden, block.norm2, f"{name}.norm2")
        skip = graph.linear(x, block.skip.weight[:, :, 0], block.skip.bias, name=f"{name}.skip")
        return graph.op("Add", hidden, skip)

    def _conv(self, x: Value, conv: CausalConv, name: str) -> Value:
        """A causal convolution as one product over the frames it reads, laid side by side."""
        graph = self.graph
        context = f"{_CONTEXT}.{self._num_convs}"
        self._num_convs += 1
        left = conv.kernel_size - 1
        size = (f"{left}*B", conv.in_channels)
        padded = graph.concat(graph.input(context, size), x, axis=0)
        graph.output(f"new_{context}", self._rows(padded, -left, None), size)
        taps = [self._rows(padded, tap, tap - left or None) for tap in range(left + 1)]
        weight = conv.weight.transpose(1, 2).flatten(1)
        # float32 always: eight bits here saved 4 % of the time and added half of the error
        return graph.linear(graph.concat(*taps, axis=1), weight, conv.bias, exact=True, name=name)

    def _rows(self, x: Value, first: int, stop: int | None) -> Value:
        """Frames ``first`` to ``stop`` of all branches."""
        graph = self.graph
        ends = [
            graph.op("Mul", self._num_branches, graph.ints(frame)) for frame in (first, stop or 0)
        ]
        if stop is None:
            ends[1] = graph.ints(int(np.iinfo(np.int64).max))
        return graph.op("Slice", x, *ends, graph.ints(0))

    def _normed_mish(self, x: Value, norm: nn.LayerNorm, name: str) -> Value:
        return self.graph.mish(self._norm(x, norm, name))

    def _norm(self, x: Value, norm: nn.LayerNorm, name: str) -> Value:
        return self.graph.layer_norm(x, norm.weight, norm.bias, norm.eps, name)
