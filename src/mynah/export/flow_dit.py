"""The diffusion transformer velocity network as a hand-built graph.

Rows are frames times guidance branches, as in ``flow_unet``. The flow time is the same for all of
them, so scale and shift of every modulated layer norm are simply its weights, and they are looked
up: a solver visits a handful of times only, and the matrices that make the vectors, two fifths of
the network, need not be stored.
"""

# B branches, F new frames, C channels, D head size

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor, nn

from mynah.backends.native.flow_time import NEAR, TABLE, TIMES
from mynah.export.attention import CachedAttention, HeadRange
from mynah.export.builder import MICROSOFT, GraphBuilder, Value
from mynah.export.shrink import STORED
from mynah.networks.dit import DiTBlock, DiTVelocity

_TERMS = "modulation"
_CONTEXT = "context_conv"
_POSITION = "context_position"


def export_dit_time(network: DiTVelocity, path: Path, times: Sequence[float]) -> None:
    """Write ``flow_time.onnx``: t (1,), one of ``times`` -> modulation of ``flow_velocity.onnx``.

    Any other time gives what is not a number, which the solver refuses.
    """
    graph = GraphBuilder()
    t = graph.input("t", [1])
    distance = graph.op("Abs", graph.op("Sub", graph.weight(np.array(times, np.float32), TIMES), t))
    index = graph.op("ArgMin", distance, axis=0, keepdims=0)
    with torch.no_grad():
        rows = modulation_terms(network, torch.tensor(times, dtype=torch.float32))
        table = graph.weight(rows, TABLE)
    missed = graph.op("ReduceMin", distance, axes=[0], keepdims=1)
    is_other = graph.op("Greater", missed, graph.weight(np.array([NEAR], np.float32)))
    nothing, zero = (graph.weight(np.array([v], np.float32)) for v in (np.nan, 0.0))
    check = graph.op("Where", is_other, nothing, zero)
    found = graph.op("Add", graph.op("Gather", table, index, axis=0), check)
    graph.output(_TERMS, found, [6 * network.sizes.depth + 2, network.sizes.dim])
    graph.save(path, {STORED: "float32"})  # a table this small is never worth rounding


def modulation_terms(network: DiTVelocity, t: Tensor) -> Tensor:
    """Vectors that modulate the layer norms at the times t (T,): (T, 6 * depth + 2, C).

    For each block gain, shift and gate of the attention, the same of the feed-forward; at the end
    gain and shift of the last norm. A gain is one plus the scale.
    """
    time = nn.functional.silu(network.time(t))
    rows: list[Tensor] = []
    for block in network.blocks:
        assert isinstance(block, DiTBlock)  # which a list of modules does not say
        shift, scale, gate, shift_ff, scale_ff, gate_ff = block.modulation(time)
        rows += [1 + scale, shift, gate, 1 + scale_ff, shift_ff, gate_ff]
    scale, shift = network.modulation(time)
    return torch.cat([*rows, 1 + scale, shift], dim=1)


def export_dit(
    network: DiTVelocity,
    path: Path,
    *,
    int8: bool = False,
    ranges: list[HeadRange] | None = None,
) -> None:
    """Write ``flow_velocity.onnx``, with the inputs and outputs of ``export_unet``.

    Args:
        network: its weights.
        path: where to write.
        int8: multiply, and keep keys and values, in eight bits.
        ranges: of each attention layer's keys and values; needed with ``int8``.
    """
    facts = {STORED: "int8"} if int8 else None
    DiTGraph(network, int8=int8, ranges=ranges).build().save(path, facts)


class DiTGraph:
    """Writes one network, layer by layer, in the order of its forward pass."""

    def __init__(
        self, network: DiTVelocity, *, int8: bool, ranges: list[HeadRange] | None = None
    ) -> None:
        """See ``export_dit``."""
        self.network = network
        self.graph = GraphBuilder(int8=int8)
        self._branches = self.graph.input("branches", ["B"])
        self._num_branches = self.graph.op("Shape", self._branches)
        self._attention = CachedAttention(self.graph, self._num_branches, ranges)
        self._num_terms = 0

    def build(self) -> GraphBuilder:
        """Write everything."""
        network, graph = self.network, self.graph
        mels = network.inputs // 4
        rows = self._inputs(mels)
        cos, sin = self._rotation()
        width = network.sizes.head_dim
        # the pairs (2i, 2i + 1) change places; the sign is in the sines
        swapped = graph.weight(np.arange(width).reshape(-1, 2)[:, ::-1].reshape(-1))

        def rotate(part: Value) -> Value:
            first = graph.slice(part, 0, width, axis=1)
            turned = graph.op("Mul", graph.op("Gather", first, swapped, axis=1), sin)
            first = graph.op("Add", graph.op("Mul", first, cos), turned)
            return graph.concat(first, graph.slice(part, width, axis=1), axis=1)

        first, last = network.input, network.projection
        hidden = graph.linear(rows, first.weight, first.bias, name="input")
        hidden = self._positions(hidden)
        for index, block in enumerate(network.blocks):
            assert isinstance(block, DiTBlock)  # which a list of modules does not say
            name, expand, contract = f"blocks.{index}", block.expand, block.contract
            attended = self._attention.layer(self._norm(hidden), block, rotate, name=name)
            hidden = self._gated(hidden, attended)
            normed = self._norm(hidden)
            inner = graph.linear(normed, expand.weight, expand.bias, name=f"{name}.expand")
            inner = graph.op("FastGelu", inner, domain=MICROSOFT)
            inner = graph.linear(inner, contract.weight, contract.bias, name=f"{name}.contract")
            hidden = self._gated(hidden, inner)
        normed = self._norm(hidden)
        velocity = graph.linear(normed, last.weight, last.bias, exact=True, name="projection")
        shape = graph.concat(graph.ints(-1), self._num_branches, graph.ints(mels), axis=0)
        graph.output("velocity", graph.op("Reshape", velocity, shape), ["F", "B", mels])
        return graph

    def _inputs(self, mels: int) -> Value:
        """What is known of each frame, (F * B, 4 * n_mels)."""
        graph, sizes = self.graph, self.network.sizes
        x, mu, cond = (graph.input(name, ["F", mels]) for name in ("x", "mu", "cond"))
        speaker = graph.input("speaker", [mels])
        graph.input(_TERMS, [6 * sizes.depth + 2, sizes.dim])
        speakers = graph.op("Expand", speaker, graph.op("Shape", x))
        known = graph.reshape(graph.concat(cond, mu, speakers, axis=1), -1, 1, 3 * mels)
        known = graph.op("Mul", known, graph.reshape(self._branches, 1, -1, 1))
        rows = graph.concat(self._spread(x, mels), known, axis=2)
        return graph.reshape(rows, -1, 4 * mels)

    def _spread(self, x: Value, width: int) -> Value:
        """The same frames (F, width) for every branch: (F, B, width)."""
        graph = self.graph
        shape = graph.concat(graph.ints(1), self._num_branches, graph.ints(1), axis=0)
        return graph.op("Expand", graph.reshape(x, -1, 1, width), shape)

    def _rotation(self) -> tuple[Value, Value]:
        """Cosines and signed sines of the new frames' positions, each (F * B, D)."""
        graph, width = self.graph, self.network.sizes.head_dim
        start = graph.input(_POSITION, [1])
        count = graph.op(
            "Gather", graph.op("Shape", "x"), graph.weight(np.array(0, np.int64)), axis=0
        )
        zero, one = (graph.weight(np.array(v, np.int64)) for v in (0, 1))
        frames = graph.op("Cast", graph.op("Range", zero, count, one), to=TensorProto.FLOAT)
        size = graph.op("Cast", graph.reshape(count, 1), to=TensorProto.FLOAT)
        graph.output(f"new_{_POSITION}", graph.op("Add", start, size), [1])
        positions = graph.reshape(graph.op("Add", frames, start), -1, 1)
        frequencies = self.network.frequencies.detach().float().repeat_interleave(2)
        angles = graph.op("Mul", positions, graph.weight(frequencies[None]))
        signs = graph.weight(np.tile(np.array([-1.0, 1.0], np.float32), width // 2))
        sin = graph.op("Mul", graph.op("Sin", angles), signs)
        cos = graph.op("Cos", angles)
        spread = (graph.reshape(self._spread(part, width), -1, width) for part in (cos, sin))
        return next(spread), next(spread)

    def _positions(self, x: Value) -> Value:
        """Add what two grouped convolutions make of the frames; they need the time axis last."""
        graph, convs = self.graph, self.network.positions
        width = self.network.sizes.dim
        shape = graph.concat(graph.ints(-1), self._num_branches, graph.ints(width), axis=0)
        hidden = graph.op("Transpose", graph.op("Reshape", x, shape), perm=[1, 2, 0])
        for index, conv in enumerate((convs.conv1, convs.conv2)):
            name, size = f"{_CONTEXT}.{index}", ("B", width, convs.left)
            padded = graph.concat(graph.input(name, size), hidden, axis=2)
            graph.output(f"new_{name}", graph.slice(padded, -convs.left, axis=2), size)
            assert conv.bias is not None  # a plain convolution has one
            own = f"positions.conv{index + 1}"
            weights = (
                graph.weight(conv.weight, f"{own}.weight"),
                graph.weight(conv.bias, f"{own}.bias"),
            )
            hidden = graph.mish(graph.op("Conv", padded, *weights, group=conv.groups))
        rows = graph.reshape(graph.op("Transpose", hidden, perm=[2, 0, 1]), -1, width)
        return graph.op("Add", x, rows)

    def _term(self) -> Value:
        """The next vector (C,) of the modulation."""
        index = self.graph.weight(np.array(self._num_terms, np.int64))
        self._num_terms += 1
        return self.graph.op("Gather", _TERMS, index, axis=0)

    def _norm(self, x: Value) -> Value:
        """The next modulated norm: time is the same for all rows, so its vectors are weights."""
        parts = (x, self._term(), self._term())
        epsilon = self.network.modulation.norm.eps
        return self.graph.op("LayerNormalization", *parts, axis=-1, epsilon=epsilon)

    def _gated(self, x: Value, change: Value) -> Value:
        return self.graph.op("Add", x, self.graph.op("Mul", change, self._term()))
