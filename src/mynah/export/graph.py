"""One way to write an ONNX graph, shared by every stage."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

OPSET = 17


def export_graph(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    path: Path,
    dynamic: Mapping[str, Mapping[int, str]],
) -> None:
    """Trace ``module(*inputs)`` and write it to ``path``.

    Args:
        module: what to trace; it is put in evaluation mode.
        inputs: example tensors by graph input name, in the order of forward's arguments.
        outputs: names of the returned tensors, in order.
        path: where to write; its folder is made.
        dynamic: axes that may change size, by input or output name: axis -> name of the size.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        # The tracing exporter announces its successor, which needs a package that is not
        # installed; tracer warnings tell of Python branches on sizes that no graph here takes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(axes) for name, axes in dynamic.items()},
            opset_version=OPSET,
            dynamo=False,
        )


def name_weights(path: Path, names: Mapping[str, Sequence[str]]) -> None:
    """Name the weights that the exporter only numbers, in place.

    Equal weights, which it keeps once, are stored under each of their names.

    Args:
        path: of a graph that was traced.
        names: operator -> names of what its nodes multiply or add, in the order of the nodes.

    Raises:
        ValueError: if there are other weights than names.
    """
    model = onnx.load(str(path))
    graph = model.graph
    numbered = {weight.name: weight for weight in graph.initializer if "onnx::" in weight.name}
    same = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Identity"}
    first: dict[str, str] = {}
    for operator, wanted in names.items():
        places = [
            (node, index, numbered[same.get(name, name)])
            for node in graph.node
            if node.op_type == operator
            for index, name in enumerate(node.input)
            if same.get(name, name) in numbered
        ]
        if len(places) != len(wanted):
            raise ValueError(f"{path} has {len(places)} weights of {operator}, not {len(wanted)}")
        for (node, index, weight), name in zip(places, wanted, strict=True):
            node.input[index] = name
            if name not in first.values():
                graph.initializer.append(_renamed(weight, name))
            first.setdefault(weight.name, name)
    for node in graph.node:  # other operators that read the same
        for index, name in enumerate(node.input):
            node.input[index] = first.get(name, name)
    _separate(graph)
    used = {name for node in graph.node for name in node.input}
    kept = [weight for weight in graph.initializer if weight.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    onnx.save(model, str(path))


def _separate(graph: onnx.GraphProto) -> None:
    """Give every name of a weight, but for mere numbers, a weight of its own."""
    weights = {weight.name: weight for weight in graph.initializer}
    nodes = []
    for node in graph.node:
        is_name = node.op_type == "Identity" and "onnx::" not in node.output[0]
        if is_name and node.input[0] in weights:
            graph.initializer.append(_renamed(weights[node.input[0]], node.output[0]))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _renamed(weight: onnx.TensorProto, name: str) -> onnx.TensorProto:
    copied = onnx.TensorProto()
    copied.CopyFrom(weight)
    copied.name = name
    return copied
