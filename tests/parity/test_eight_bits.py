"""Products in eight bits must be exact on processors that add pairs of products in 16 bits.

Which processor runs the tests does not matter: what is looked at are the numbers that are
multiplied, all of them, in every graph that multiplies eight-bit numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from mynah.export.flow import export_flow
from mynah.export.shrink import shrink
from tests.property.flow_model import flow

Array = npt.NDArray[Any]
LARGEST = 2**15 - 1
FRAMES, PAST = 20, 12


@cache
def graph() -> onnx.ModelProto:
    """The velocity network in eight bits, with everything that it computes as outputs."""
    with TemporaryDirectory() as name:
        export_flow(flow(), Path(name), "int8")
        path = Path(name) / "flow_velocity.onnx"
        shrink(path, "int8")
        model = onnx.load(str(path))
    known = {output.name for output in model.graph.output}
    for node in model.graph.node:
        new = [name for name in node.output if name and name not in known]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in new)
    return model


@cache
def computed(scale: float) -> dict[str, Array]:
    """All values of one call whose inputs are ``scale`` times as large as they should be."""
    model, rng = graph(), np.random.default_rng(0)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    sizes = {"F": FRAMES, "B": 2, "S": PAST, "O": PAST, "N": PAST}
    feeds: dict[str, Array] = {}
    for given in session.get_inputs():
        shape = [
            size
            if isinstance(size, int)
            else int(np.prod([_size(f, sizes) for f in size.split("*")]))
            for size in given.shape
        ]
        values = rng.standard_normal(shape)
        is_code = given.type == "tensor(int8)"
        limit = 64 if "_k." in given.name else 127
        feeds[given.name] = (
            np.clip(50 * values, -limit, limit).astype(np.int8)
            if is_code
            else (scale * values).astype(np.float32)
        )
    names = [output.name for output in session.get_outputs()]
    found: dict[str, Array] = dict(zip(names, session.run(names, feeds), strict=True))
    weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    return {**weights, **feeds, **found}


def _size(factor: str, sizes: dict[str, int]) -> int:
    return int(factor) if factor.isdigit() else sizes[factor]


def products(values: dict[str, Array]) -> Iterator[tuple[str, Array, Array]]:
    """Name and both sides of every product of eight-bit numbers of which neither is a weight."""
    weights = {w.name for w in graph().graph.initializer}
    for node in graph().graph.node:
        if node.op_type == "MatMulIntegerToFloat" and node.input[1] not in weights:
            yield node.output[0], values[node.input[0]], values[node.input[1]]


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_no_pair_of_products_overflows_16_bits(scale: float) -> None:
    """Beyond the measured ranges, too. Weights are ONNX Runtime's business, see ``graph.py``."""
    found = list(products(computed(scale)))
    assert len(found) >= 4
    for name, left, right in found:
        assert left.dtype == np.uint8, name
        assert right.dtype == np.int8, name
        if not right.size:
            continue
        x86 = 2 * int(left.max()) * int(np.abs(right.astype(np.int64)).max())
        # ARM without dot products takes 128 from the left side first
        shifted = np.abs(left.astype(np.int64) - 128).max()
        arm = 2 * int(shifted) * int(np.abs(right.astype(np.int64)).max())
        assert max(x86, arm) <= LARGEST, name


def test_the_largest_codes_are_used() -> None:
    """The limits cost nothing that is not needed."""
    largest = {int(left.max()) for _, left, right in products(computed(50.0)) if right.size}
    assert {127, 255} <= largest


def test_minus_128_is_no_code() -> None:
    """Two products of it overflow on ARM; an input so large is rare, so the graph is looked at."""
    model = graph()
    weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    found = 0
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and weights_dtype(weights, node) == np.int8:
            limited = made_by[node.input[0]]
            assert limited.op_type == "Clip"
            assert weights[limited.input[1]] >= -127
            found += 1
    assert found >= 2


def weights_dtype(weights: dict[str, Array], node: onnx.NodeProto) -> Any:
    """Type of a node's zero point; None without one."""
    return weights[node.input[2]].dtype if len(node.input) > 2 else None
