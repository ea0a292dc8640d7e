"""One way to write an ONNX graph, shared by every stage."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

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
