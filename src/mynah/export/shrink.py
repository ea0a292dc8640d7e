"""Smaller ONNX files: weights stored in half precision, or matrices quantised to eight bits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

Variant = Literal["float32", "float16", "int8", "int8_rows", "int8_weights", "int4"]
"""float16: weights stored in half precision, computed in float32. int8: constant matrices of
MatMul in eight bits, computed with activations quantised on the fly; the rest as float16.
int8_weights: matrices and kernels stored in eight bits with one scale per output channel, and
turned into float32 once when the graph is loaded; the rest as float16. int8_rows and int4 are for
the trunk of a language model (see ``LMVariant``), and int8 elsewhere."""

STORED = "mynah.variant"
"""Metadata key of graphs that were written in their variant and need no shrinking."""

_SMALLEST = 256  # tensors with fewer values are not worth a cast
_SMALLEST_INT8 = 512
_HALF_MAX = 65504.0


def shrink(path: Path, variant: Variant) -> None:
    """Rewrite a graph in place, unless it was written as it is to be."""
    if _is_stored(path):
        return
    if variant in ("int8", "int8_rows", "int4"):
        with _quiet():
            quantize_dynamic(
                str(path),
                str(path),
                op_types_to_quantize=["MatMul"],
                per_channel=True,
                # Older processors add pairs of products in 16 bits, where full range overflows.
                reduce_range=True,
                weight_type=QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )
    if variant == "int8_weights":
        _store_int8(path)
    if variant != "float32":
        store_half(path)


def _is_stored(path: Path) -> bool:
    model = onnx.load(str(path), load_external_data=False)
    return any(entry.key == STORED for entry in model.metadata_props)


def _store_int8(path: Path) -> None:
    """Store constant matrices and kernels as int8 with a scale for each output channel."""
    model = onnx.load(str(path))
    graph = model.graph
    axes = {name: axis for node in graph.node for name, axis in _channel_axis(node)}
    nodes = []
    for weight in list(graph.initializer):
        axis = axes.get(weight.name)
        values = numpy_helper.to_array(weight)
        if axis is None or values.dtype != np.float32 or values.size < _SMALLEST_INT8:
            continue
        axis %= values.ndim
        others = tuple(i for i in range(values.ndim) if i != axis)
        scale = np.maximum(np.abs(values).max(axis=others), 1e-12) / 127
        shape = [-1 if i == axis else 1 for i in range(values.ndim)]
        codes = np.round(values / scale.reshape(shape)).astype(np.int8)
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(codes, f"{name}.int8"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
        inputs = [f"{name}.int8", f"{name}.scale"]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [name], axis=axis))
    nodes.extend(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, str(path))


def _channel_axis(node: onnx.NodeProto) -> Iterator[tuple[str, int]]:
    """Names of a node's weight, with the axis of its output channels."""
    if node.op_type == "MatMul":
        yield node.input[1], -1
    elif node.op_type == "Conv":
        yield node.input[1], 0
    elif node.op_type == "ConvTranspose":
        yield node.input[1], 1
    elif node.op_type == "Gemm":
        turned = any(a.name == "transB" and a.i for a in node.attribute)
        yield node.input[1], 0 if turned else 1
    elif node.op_type == "Gather":
        yield node.input[0], 0


def store_half(path: Path) -> None:
    """Store float32 weights as float16, cast back once when the graph is loaded."""
    model = onnx.load(str(path))
    graph = model.graph
    _constants_to_initializers(graph)
    casts = []
    for weight in graph.initializer:
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        if values.size < _SMALLEST or np.abs(values).max() > _HALF_MAX:
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, str(path))


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    """Tables that the exporter wrote as nodes (Fourier bases) become weights, each one once."""
    nodes, known = [], dict[bytes, str]()
    renamed: dict[str, str] = {}
    for node in graph.node:
        value = node.attribute[0].t if node.op_type == "Constant" else None
        if value is None or len(value.raw_data) < 4 * _SMALLEST:
            nodes.append(node)
            continue
        key = value.SerializeToString()
        renamed[node.output[0]] = known.setdefault(key, node.output[0])
        if known[key] == node.output[0]:
            value.name = node.output[0]
            graph.initializer.append(value)
    for node in nodes:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
    del graph.node[:]
    graph.node.extend(nodes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's advice to preprocess the graph, which these graphs do not need."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
