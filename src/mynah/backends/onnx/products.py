"""Which is faster here: a matrix product in eight bits, or in float32? Measured in milliseconds.

The two products are those that most time is spent in: a step of a language model (one row, so that
memory decides) and a chunk of a flow (many rows, so that arithmetic decides). Their graphs hold a
node or two and are written byte by byte: an installation that only speaks has no ``onnx``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mynah.backends.onnx.graph import Graph
from mynah.backends.processor import ProductTimes

_Array: TypeAlias = npt.NDArray[Any]

_ROWS = {"lm": 1, "flow": 100}
_INNER, _OUTER = 896, 1152
_BLOCK = 128
_ROUNDS = 9
_OPSET, _IR_VERSION = 17, 8
_MICROSOFT = "com.microsoft"
_TYPES = {np.dtype(np.float32): 1, np.dtype(np.uint8): 2, np.dtype(np.int8): 3}


def time_products(threads: int = 1) -> list[ProductTimes]:
    """Measure both products with ONNX Runtime, in turns; best of a few runs.

    Raises:
        ModelFormatError: if this ONNX Runtime lacks an operator.
        BackendError: if a run fails.
    """
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, rows in _ROWS.items():
            x = np.random.default_rng(0).standard_normal((rows, _INNER)).astype(np.float32)
            graphs = []
            for kind, write in (("int8", _INT8[name]), ("float32", _float32)):
                path = Path(scratch) / f"{kind}.onnx"
                path.write_bytes(write())
                graphs.append(Graph(path, threads))
            best = _best(graphs, x)
            found.append(ProductTimes(name, *best))
    return found


def _best(graphs: Sequence[Graph], x: npt.NDArray[np.float32]) -> list[float]:
    """Shortest run of each graph; the first runs allocate and do not count."""
    best = [float("inf")] * len(graphs)
    for round_number in range(_ROUNDS):
        for index, graph in enumerate(graphs):
            started = time.perf_counter()
            graph.run({"x": x})
            took = time.perf_counter() - started
            if round_number:
                best[index] = min(best[index], took)
    return best


def _float32() -> bytes:
    weight = np.full((_INNER, _OUTER), 0.01, np.float32)
    return _model([_node("MatMul", ("x", "w"))], {"w": weight})


def _int8_blocks() -> bytes:
    """As a language model stores its matrices: a scale for every block."""
    blocks = _INNER // _BLOCK
    weights: dict[str, _Array] = {
        "w": np.full((_OUTER, blocks, _BLOCK), 130, np.uint8),
        "scale": np.full(_OUTER * blocks, 0.01, np.float32),
    }
    facts = {"K": _INNER, "N": _OUTER, "bits": 8, "block_size": _BLOCK, "accuracy_level": 4}
    node = _node("MatMulNBits", ("x", "w", "scale"), _MICROSOFT, facts)
    return _model([node], weights)


def _int8_channels() -> bytes:
    """As a flow stores its matrices: a scale for every column."""
    weights: dict[str, _Array] = {
        "w": np.full((_INNER, _OUTER), 2, np.int8),
        "scale": np.full(_OUTER, 0.01, np.float32),
    }
    return _model([_node("DynamicQuantizeMatMul", ("x", "w", "scale"), _MICROSOFT)], weights)


_INT8: dict[str, Callable[[], bytes]] = {"lm": _int8_blocks, "flow": _int8_channels}


def _model(nodes: Sequence[bytes], weights: dict[str, _Array]) -> bytes:
    """An ONNX file: (N, K) ``x`` in, (N, M) ``y`` out. Fields are numbered as in onnx.proto."""
    graph = [_field(1, node) for node in nodes]
    graph += [_field(2, b"product")]
    graph += [_field(5, _tensor(name, values)) for name, values in weights.items()]
    graph += [_field(11, _matrix("x")), _field(12, _matrix("y"))]
    opsets = [
        _field(1, domain.encode()) + _number(2, version)
        for domain, version in (("", _OPSET), (_MICROSOFT, 1))
    ]
    parts = [_number(1, _IR_VERSION), _field(7, b"".join(graph))]
    return b"".join(parts + [_field(8, opset) for opset in opsets])


def _node(
    kind: str,
    inputs: Sequence[str],
    domain: str = "",
    facts: dict[str, int] | None = None,
) -> bytes:
    parts = [_field(1, name.encode()) for name in inputs] + [_field(2, b"y")]
    parts += [_field(4, kind.encode())]
    for name, value in (facts or {}).items():
        parts.append(_field(5, _field(1, name.encode()) + _number(3, value) + _number(20, 2)))
    return b"".join([*parts, _field(7, domain.encode())])


def _tensor(name: str, values: _Array) -> bytes:
    sizes = b"".join(_number(1, size) for size in values.shape)
    kind = _number(2, _TYPES[values.dtype])
    return sizes + kind + _field(8, name.encode()) + _field(9, values.tobytes())


def _matrix(name: str) -> bytes:
    """A float32 input or output of two sizes that may change."""
    shape = b"".join(
        _field(1, _field(2, size)) for size in (name.encode() + b"0", b"n" + name.encode())
    )
    tensor = _number(1, 1) + _field(2, shape)
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """Seven bits in every byte, the lowest first; the top bit says that more follow."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
