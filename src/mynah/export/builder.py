"""ONNX graphs written node by node, with the operators that ONNX Runtime is fastest at.

A traced graph has the shape of the Python code; a graph built here has the shape of the kernels:
weights packed, residuals fused into layer norms, matrix products in eight bits where asked for.
Values are names of tensors in the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from mynah.export.blocks import Array, channel_codes

Value: TypeAlias = str

OPSET = 17
MICROSOFT = "com.microsoft"
_MICROSOFT_OPSET = 1
_IR_VERSION = 8


class Quantized(NamedTuple):
    """A tensor in eight bits: ``(values - zero_point) * scale``."""

    values: Value
    scale: Value
    zero_point: Value


class GraphBuilder:
    """Collects nodes and weights; ``save`` writes them as one file."""

    def __init__(self, *, int8: bool = False) -> None:
        """``int8``: ``linear`` multiplies in eight bits unless told otherwise."""
        self.int8 = int8
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Value] = {}
        self._names: dict[Value, str] = {}
        self._made: dict[tuple[Any, ...], list[Value]] = {}
        self._num_values = 0

    def input(self, name: str, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> Value:
        """Declare an input; a string in ``shape`` names a size that may change."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return name

    def output(
        self, name: str, value: Value, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT
    ) -> None:
        """Give out ``value`` as ``name``."""
        self._names[value] = name
        self._outputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))

    def weight(self, values: Tensor | Array | float, name: str = "") -> Value:
        """Constant tensor; equal ones without a name are stored once.

        Other readers of the file than ONNX Runtime find weights by their names.
        """
        array = np.asarray(values.detach().cpu().numpy() if isinstance(values, Tensor) else values)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        array = np.asarray(array, order="C")
        if name:
            if name in self._weights:
                raise ValueError(f"there are two weights named {name}")
            self._weights[name] = numpy_helper.from_array(array, name)
            return name
        key = (array.dtype.str, array.shape, sha256(array.data).digest())
        if key not in self._constants:
            name = f"w{len(self._weights)}"
            self._weights[name] = numpy_helper.from_array(array, name)
            self._constants[key] = name
        return self._constants[key]

    def ints(self, *values: int) -> Value:
        """Constant int64 (n,), for shapes and axes."""
        return self.weight(np.array(values, dtype=np.int64))

    def op(self, kind: str, *inputs: Value, domain: str = "", **attributes: Any) -> Value:
        """Add a node with one output."""
        return self.ops(kind, *inputs, count=1, domain=domain, **attributes)[0]

    def ops(
        self, kind: str, *inputs: Value, count: int, domain: str = "", **attributes: Any
    ) -> list[Value]:
        """Add a node with several outputs; the same node is never added twice."""
        key = (kind, domain, inputs, count, repr(sorted(attributes.items())))
        if key not in self._made:
            names = self._made[key] = [f"v{self._num_values + i}" for i in range(count)]
            self._num_values += count
            self._nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return self._made[key]

    def quantize(self, x: Value) -> Quantized:
        """Eight bits with one scale for the tensor, found when it is known."""
        return Quantized(*self.ops("DynamicQuantizeLinear", x, count=3))

    def linear(
        self,
        x: Value | Quantized,
        weight: Tensor | Array,
        bias: Tensor | Array | None = None,
        *,
        exact: bool = False,
        name: str = "",
    ) -> Value:
        """``x`` (..., K) times ``weight`` (N, K) transposed, plus ``bias`` (N,).

        In eight bits, unless ``exact`` or the builder says otherwise. A tensor that several
        products read is quantised once when it is given as ``Quantized``. With a ``name`` the
        constants are ``name.weight`` (K, N), ``name.scale`` (N,) in eight bits, ``name.bias``.
        """
        matrix = np.asarray(weight.detach().cpu() if isinstance(weight, Tensor) else weight).T

        def constant(values: Array | Tensor, part: str) -> Value:
            return self.weight(values, name and f"{name}.{part}")

        tail = [] if bias is None else [constant(bias, "bias")]
        if isinstance(x, Quantized) or (self.int8 and not exact):
            codes, scale = channel_codes(matrix)
            known = (constant(codes, "weight"), constant(scale, "scale"))
            if isinstance(x, Quantized):
                parts = (x.values, known[0], x.scale, known[1], x.zero_point, "", *tail)
                return self.op("MatMulIntegerToFloat", *_stripped(parts), domain=MICROSOFT)
            parts = (x, *known, "", *tail)
            return self.op("DynamicQuantizeMatMul", *_stripped(parts), domain=MICROSOFT)
        product = self.op("MatMul", x, constant(np.ascontiguousarray(matrix), "weight"))
        return self.op("Add", product, tail[0]) if tail else product

    def reshape(self, x: Value, *shape: int) -> Value:
        """New shape; 0 keeps a size, -1 follows from the others."""
        return self.op("Reshape", x, self.ints(*shape))

    def concat(self, *parts: Value, axis: int) -> Value:
        """Join along ``axis``."""
        return self.op("Concat", *parts, axis=axis)

    def slice(self, x: Value, first: int, stop: int | None = None, *, axis: int = 0) -> Value:
        """``first`` to ``stop`` of ``axis``; negative ones count from the end."""
        end = np.iinfo(np.int64).max if stop is None else stop
        return self.op("Slice", x, self.ints(first), self.ints(int(end)), self.ints(axis))

    def layer_norm(
        self,
        x: Value,
        gain: Tensor | Array,
        bias: Tensor | Array,
        epsilon: float = 1e-5,
        name: str = "",
    ) -> Value:
        """Normalise the last axis."""
        names = (name and f"{name}.weight", name and f"{name}.bias")
        parts = (x, self.weight(gain, names[0]), self.weight(bias, names[1]))
        return self.op("LayerNormalization", *parts, axis=-1, epsilon=epsilon)

    def add_and_norm(
        self,
        x: Value,
        skip: Value,
        gain: Tensor,
        bias: Tensor,
        epsilon: float = 1e-5,
        name: str = "",
    ) -> tuple[Value, Value]:
        """The layer norm of ``x + skip``, and the sum itself.

        Two nodes: ONNX Runtime's fused one took four times as long (0.14 ms for 100 rows of 256).
        """
        total = self.op("Add", x, skip)
        return self.layer_norm(total, gain, bias, epsilon, name), total

    def gelu(self, x: Value) -> Value:
        """Exact GELU, by the error function."""
        return self.op("Gelu", x, domain=MICROSOFT)

    def silu(self, x: Value) -> Value:
        """x * sigmoid(x)."""
        return self.op("QuickGelu", x, domain=MICROSOFT, alpha=1.0)

    def mish(self, x: Value) -> Value:
        """x * tanh(softplus(x)), through the sigmoid, for which there is a fast kernel.

        With n = sigmoid(-x) it is x (1 - n^2) / (1 + n^2).
        """
        one = self.weight(1.0)
        n = self.op("Sigmoid", self.op("Neg", x))
        square = self.op("Mul", n, n)
        rise = self.op("Mul", x, self.op("Sub", one, square))
        return self.op("Div", rise, self.op("Add", one, square))

    def model(self) -> onnx.ModelProto:
        """The graph so far."""
        for node in self._nodes:
            node.input[:] = [self._names.get(name, name) for name in node.input]
            node.output[:] = [self._names.get(name, name) for name in node.output]
        graph = helper.make_graph(
            self._nodes, "mynah", self._inputs, self._outputs, list(self._weights.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, _MICROSOFT_OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)

    def save(self, path: Path, metadata: Mapping[str, str] | None = None) -> None:
        """Write the graph; ``metadata`` is kept in the file."""
        model = self.model()
        helper.set_model_props(model, dict(metadata or {}))
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, str(path))


def _stripped(parts: Sequence[Value]) -> list[Value]:
    """Without optional inputs that are left out at the end."""
    kept = list(parts)
    while kept and not kept[-1]:
        kept.pop()
    return kept
