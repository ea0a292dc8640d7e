"""Attention of new frames over a cached past, in float32 or in eight bits, as graph nodes.

Keys lie as (heads, D, time) and values as (heads, time, D), which is what the products read, for
the heads of all guidance branches. The past comes in parts: ``shared_*`` is read only, so that all
requests with one voice use one copy, and ``own_*`` grows by the new frames at every call. In eight
bits there is ``old_*`` as well, what the sequence added earlier, and the parts are never joined:
products are made with each, because copying the past cost a third of the time (only the scores,
which are small and in the cache, are joined). Sums of whole numbers do not depend on where they are
cut; in float32 they would, so there the parts are joined. Within a chunk every frame sees every
other and all of the past, so there is no mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
from onnx import TensorProto
from torch import Tensor, nn

from mynah.export.builder import MICROSOFT, GraphBuilder, Value

Parts: TypeAlias = tuple[Value, ...]
"""Keys or values: the shared past, the old one (in eight bits), the last with the new frames."""

# Older processors add pairs of products in 16 bits. No pair of these overflows there: bytes of a
# query (255) with keys, probabilities with values. On ARM without dot products -128 would.
_KEY_MAX = 64
_VALUE_MAX = 127
_PROBABILITY_MAX = 127


@dataclass(frozen=True, eq=False)
class HeadRange:
    """Largest absolute values met in one attention layer; what lies beyond saturates in int8."""

    keys: Tensor
    """One for each head (H,)."""
    values: Tensor
    """One for each channel (H * D,)."""

    @classmethod
    def of(cls, keys: Tensor, values: Tensor, heads: int, margin: float) -> Self:
        """From the peaks of each channel, (H * D,) both, with room for more."""
        return cls(margin * keys.view(heads, -1).amax(dim=1), margin * values)


class AttentionLayer(Protocol):
    """The weights that are read of a layer."""

    num_heads: int
    head_dim: int
    query: Any
    key: Any
    value: Any
    output: Any


class CachedAttention:
    """Writes attention layers, which share one cache, into a graph."""

    def __init__(
        self, graph: GraphBuilder, num_branches: Value, ranges: list[HeadRange] | None = None
    ) -> None:
        """``ranges`` of all layers in order: keys and values are kept in eight bits.

        ``num_branches`` is their number, int64 (1,).
        """
        self._graph = graph
        self._num_branches = num_branches
        self._ranges = ranges
        self._count = 0
        self._type = TensorProto.FLOAT if ranges is None else TensorProto.INT8

    def layer(
        self,
        x: Value,
        layer: AttentionLayer,
        rotate: Callable[[Value], Value] | None = None,
        *,
        name: str,
    ) -> Value:
        """x (F * B, C), frames first, normalised -> (F * B, C).

        ``rotate`` puts positions into queries and keys (F * B, H * D). Weights are named after the
        layer's ``name``.

        The scales of int8 keys and values are folded into the projections: a key's head scale
        moves to the query, a value's channel scale to the output projection.
        """
        graph, heads, size = self._graph, layer.num_heads, layer.head_dim
        key_scale, value_scale = self._scales(layer)
        source = graph.quantize(x) if graph.int8 else x
        query = _scaled(layer.query, key_scale / math.sqrt(size))
        q, k, v = (
            graph.linear(source, weight, bias, name=f"{name}.{part}")
            for part, (weight, bias) in (
                ("query", query),
                ("key", _scaled(layer.key, 1 / key_scale)),
                ("value", _scaled(layer.value, 1 / value_scale)),
            )
        )
        if rotate is not None:
            q, k = rotate(q), rotate(k)
        if self._ranges is not None:
            k, v = self._rounded(k, _KEY_MAX), self._rounded(v, _VALUE_MAX)
        rows = graph.op("Mul", self._num_branches, graph.ints(heads))
        shape = graph.concat(graph.ints(-1), rows, graph.ints(size), axis=0)
        q, k, v = (graph.op("Reshape", part, shape) for part in (q, k, v))
        q = graph.op("Transpose", q, perm=[1, 0, 2])
        keys = self._extend("k", graph.op("Transpose", k, perm=[1, 2, 0]), heads, size)
        values = self._extend("v", graph.op("Transpose", v, perm=[1, 0, 2]), heads, size)
        self._count += 1
        attend = self._float if self._ranges is None else self._int8
        attended = attend(q, keys, values)
        attended = graph.op("Transpose", attended, perm=[1, 0, 2])
        attended = graph.reshape(attended, -1, heads * size)
        weight = np.asarray(layer.output.weight.detach()) * value_scale
        return graph.linear(attended, weight, layer.output.bias, name=f"{name}.output")

    def _scales(self, layer: AttentionLayer) -> tuple[Any, Any]:
        width = layer.num_heads * layer.head_dim
        if self._ranges is None:
            return np.ones(width, np.float32), np.ones(width, np.float32)
        found = self._ranges[self._count]
        keys = np.repeat(np.asarray(found.keys, np.float32), layer.head_dim)
        return keys / _KEY_MAX, np.asarray(found.values, np.float32) / _VALUE_MAX

    def _rounded(self, x: Value, limit: int) -> Value:
        graph = self._graph
        x = graph.op("Clip", x, graph.weight(float(-limit)), graph.weight(float(limit)))
        return graph.op("QuantizeLinear", x, graph.weight(1.0), graph.weight(np.array(0, np.int8)))

    def _extend(self, part: str, new: Value, heads: int, size: int) -> Parts:
        """Append new keys or values to the last part; returns all parts."""
        graph, keys, name = self._graph, part == "k", f"{part}.{self._count}"

        def shape(time: str) -> list[int | str]:
            rows = f"{heads}*B"
            return [rows, size, time] if keys else [rows, time, size]

        shared = graph.input(f"shared_{name}", shape("S"), self._type)
        own = graph.input(f"own_{name}", shape("N"), self._type)
        own = graph.concat(own, new, axis=2 if keys else 1)
        graph.output(f"new_own_{name}", own, shape("M"), self._type)
        if self._ranges is None:
            return shared, own
        return shared, graph.input(f"old_{name}", shape("O"), self._type), own

    def _float(self, q: Value, keys: Parts, values: Parts) -> Value:
        graph = self._graph
        k, v = graph.concat(*keys, axis=2), graph.concat(*values, axis=1)
        return graph.op("MatMul", graph.op("Softmax", graph.op("MatMul", q, k), axis=-1), v)

    def _int8(self, q: Value, keys: Parts, values: Parts) -> Value:
        """Both products in eight bits; probabilities get one scale for each row, from its peak."""
        graph, one = self._graph, self._graph.weight(1.0)
        codes = graph.quantize(q)
        scores = graph.concat(
            *(
                graph.op(
                    "MatMulIntegerToFloat",
                    codes.values,
                    k,
                    codes.scale,
                    one,
                    codes.zero_point,
                    domain=MICROSOFT,
                )
                for k in keys
            ),
            axis=-1,
        )
        weights = graph.op("Softmax", scores, axis=-1)
        peak = graph.op("ReduceMax", weights, axes=[-1], keepdims=1)
        scale = graph.op("Mul", peak, graph.weight(1 / _PROBABILITY_MAX))
        rows = graph.op("Flatten", weights, axis=2)
        rows = graph.op("QuantizeLinear", rows, graph.reshape(scale, -1), axis=0)
        rows = graph.op("Reshape", rows, graph.op("Shape", weights))
        shared, old, own = (
            graph.op("MatMulIntegerToFloat", w, v, one, one, domain=MICROSOFT)
            for w, v in zip(self._split(rows, keys), values, strict=True)
        )
        mixed = own
        for past, k in ((shared, keys[0]), (old, keys[1])):
            mixed = graph.op("Add", mixed, self._present(past, k))
        return graph.op("Mul", mixed, scale)

    def _present(self, mixed: Value, keys: Value) -> Value:
        """Zero where there is no such past: a product over nothing is left unwritten."""
        graph = self._graph
        length = graph.op("Shape", keys, start=2, end=3)
        is_there = graph.op("Greater", length, graph.ints(0))
        return graph.op("Where", is_there, mixed, graph.weight(0.0))

    def _split(self, weights: Value, keys: Parts) -> list[Value]:
        """Weights (heads, F, time) of each part."""
        graph = self._graph
        lengths = graph.concat(*(graph.op("Shape", k, start=2, end=3) for k in keys), axis=0)
        return graph.ops("Split", weights, lengths, count=3, axis=-1)


def _scaled(linear: nn.Linear, scale: Any) -> tuple[Any, Any]:
    """Weight (N, K) and bias of a projection whose outputs are multiplied by ``scale`` (N,)."""
    weight = np.asarray(linear.weight.detach()) * np.asarray(scale, np.float32)[..., None]
    bias = None if linear.bias is None else np.asarray(linear.bias.detach()) * scale
    return weight, bias
