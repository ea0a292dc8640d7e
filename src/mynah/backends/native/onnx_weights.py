"""The weights in an ONNX file, by name, without the onnx package and without ONNX Runtime.

An ONNX file is a protocol buffer: nested records of numbered fields. Only the few fields that hold
weights are looked at (numbers from onnx.proto); everything else is skipped. Arrays are read when
they are asked for, into memory of their own: what is packed and let go leaves nothing behind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

import numpy as np

from mynah.backends.native.kernels import AnyArray
from mynah.errors import ModelFormatError, ModelNotFoundError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_GRAPH_INITIALIZER = 5
_DIMS, _DATA_TYPE, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 8, 9, 13, 14
_TYPED = {4: "float_data", 5: "int32_data", 7: "int64_data", 10: "double_data"}
_KEY, _VALUE = 1, 2
_MOST_VARINT_BYTES = 10
_LONGEST_TEXT = 1 << 20

# by TensorProto.DataType, with the typed field that may hold the values in place of raw bytes
_DTYPES: Mapping[int, tuple[str, int]] = {
    1: ("<f4", 4),
    2: ("|u1", 5),
    3: ("|i1", 5),
    6: ("<i4", 5),
    7: ("<i8", 7),
    10: ("<f2", 5),
    11: ("<f8", 10),
}


@dataclass
class _Tensor:
    """Where a weight is."""

    dims: list[int] = field(default_factory=list)
    data_type: int = 0
    name: str = ""
    raw: tuple[int, int] | None = None
    """First byte in the file and length."""
    typed: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    external: dict[str, str] = field(default_factory=dict)
    is_external: bool = False


class OnnxWeights(Mapping[str, AnyArray]):
    """Name -> array of a file; every look-up reads it again."""

    def __init__(self, path: Path) -> None:
        """Find what the file holds.

        Raises:
            ModelNotFoundError: if there is no such file.
            ModelFormatError: if it is damaged or no ONNX file.
        """
        if not path.is_file():
            raise ModelNotFoundError(
                f"the model file {path} is missing", hint="download or convert the model again"
            )
        self._path = path
        self._tensors: dict[str, _Tensor] = {}
        self.metadata: dict[str, str] = {}
        """What the file says about itself."""
        try:
            with path.open("rb") as file:
                self._scan(file, path.stat().st_size)
        except (OSError, ValueError) as error:
            raise self._damaged(str(error)) from error

    def __getitem__(self, name: str) -> AnyArray:
        """Read a weight; float64, float32, float16, int8, uint8, int32 or int64.

        Raises:
            KeyError: if the file has none of that name.
            ModelFormatError: if it is damaged, of another type, or kept outside the model's folder.
        """
        tensor = self._tensors[name]
        try:
            return self._read(tensor)
        except (OSError, ValueError) as error:
            raise self._damaged(f"{name}: {error}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:  # without reading it, as Mapping would
        return name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a weight, without reading it; raises KeyError if there is none."""
        return tuple(self._tensors[name].dims)

    def _damaged(self, reason: str) -> ModelFormatError:
        return ModelFormatError(
            f"cannot read the weights in {self._path}: {reason}",
            hint="the file is damaged or incomplete; download or convert the model again",
        )

    def _scan(self, file: BinaryIO, size: int) -> None:
        graphs = []
        for number, value in _fields(file, 0, size):
            if number == _MODEL_GRAPH:
                graphs.append(_span(value))
            elif number == _MODEL_METADATA:
                key, text = _entry(file, *_span(value))
                self.metadata[key] = text
        if len(graphs) != 1:
            raise ValueError("this is no ONNX file")
        for number, value in _fields(file, *_bounds(graphs[0])):
            if number == _GRAPH_INITIALIZER:
                tensor = _tensor(file, *_bounds(_span(value)))
                if tensor.name in self._tensors:
                    raise ValueError(f"there are two weights named {tensor.name}")
                self._tensors[tensor.name] = tensor

    def _read(self, tensor: _Tensor) -> AnyArray:
        if tensor.data_type not in _DTYPES:
            raise ValueError(f"a weight has the unknown type {tensor.data_type}")
        kind, typed_field = _DTYPES[tensor.data_type]
        dtype: np.dtype[np.generic] = np.dtype(kind)
        if any(size < 0 for size in tensor.dims):
            raise ValueError(f"the shape {tensor.dims} is impossible")
        count = math.prod(tensor.dims)
        path, place = self._path, tensor.raw
        if tensor.is_external:
            path = _beside(path, tensor.external.get("location", ""))
            first = _count(tensor.external.get("offset", "0"))
            length = tensor.external.get("length")
            place = (first, count * dtype.itemsize if length is None else _count(length))
        if place is None:
            values = self._typed(tensor.typed.get(typed_field, []), typed_field, dtype)
            if values.size != count:
                raise ValueError(f"{values.size} values do not make the shape {tensor.dims}")
            return values.reshape(tensor.dims)
        if place[1] != count * dtype.itemsize:
            raise ValueError(f"{place[1]} bytes do not make the shape {tensor.dims}")
        return _array(path, place[0], count, dtype).reshape(tensor.dims)

    def _typed(
        self, spans: list[tuple[int, int]], number: int, dtype: np.dtype[np.generic]
    ) -> AnyArray:
        """Values of a typed field; integers are varints, halves are their bits as integers."""
        with self._path.open("rb") as file:
            if _TYPED[number] in ("float_data", "double_data"):
                parts = [_exactly(file, first, size) for first, size in spans]
                return np.frombuffer(b"".join(parts), dtype=dtype).copy()
            numbers = []
            for first, size in spans:
                file.seek(first)
                while file.tell() < first + size:
                    numbers.append(_varint(file))
        signed = np.array(numbers, dtype=np.uint64).astype(np.int64)
        return signed.astype(np.uint16).view(dtype) if dtype.kind == "f" else signed.astype(dtype)


def read_initializers(path: Path) -> OnnxWeights:
    """The weights of an ONNX file, and of the file beside it where it keeps them; see there."""
    return OnnxWeights(path)


def _array(path: Path, first: int, count: int, dtype: np.dtype[np.generic]) -> AnyArray:
    available = path.stat().st_size if path.is_file() else -1
    if available < 0:
        raise ValueError(f"the file {path.name} beside it is missing")
    if first + count * dtype.itemsize > available:
        raise ValueError(f"{path.name} has only {available} bytes")
    values: AnyArray = np.empty(count, dtype=dtype)
    with path.open("rb") as file:
        file.seek(first)
        if count and file.readinto(values.data) != values.nbytes:
            raise ValueError(f"{path.name} ends too early")
    return values


def _beside(path: Path, location: str) -> Path:
    """The file of that relative name, which must not leave the folder of ``path``."""
    is_away = PureWindowsPath(location).anchor or PurePosixPath(location).anchor
    if not location or is_away or ".." in PureWindowsPath(location).parts or "\0" in location:
        raise ValueError(f"weights at {location!r} would be outside the model's folder")
    return path.parent / location


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{text!r} is no number of bytes")
    return int(text)


def _fields(file: BinaryIO, first: int, stop: int) -> Iterator[tuple[int, int | tuple[int, int]]]:
    """Fields of a record: number, then its value, or first byte and length of what it holds."""
    at = first
    while at < stop:
        file.seek(at)
        tag = _varint(file)
        number, wire = tag >> 3, tag & 7
        value: int | tuple[int, int]
        if wire == _VARINT:
            value = _varint(file)
            at = file.tell()
        elif wire in (_BYTES, _FIXED32, _FIXED64):
            size = _varint(file) if wire == _BYTES else 4 if wire == _FIXED32 else 8
            value = (file.tell(), size)
            at = value[0] + size
        else:
            raise ValueError(f"there is no field of kind {wire}; this is no ONNX file")
        if at > stop:
            raise ValueError("a record ends before its fields do")
        yield number, value


def _varint(file: BinaryIO) -> int:
    value = 0
    for index in range(_MOST_VARINT_BYTES):
        byte = file.read(1)
        if not byte:
            raise ValueError("the file ends too early")
        value |= (byte[0] & 127) << 7 * index
        if byte[0] < 128:
            return value & 0xFFFFFFFFFFFFFFFF
    raise ValueError("a number has too many bytes; this is no ONNX file")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _tensor(file: BinaryIO, first: int, stop: int) -> _Tensor:
    made = _Tensor()
    for number, value in _fields(file, first, stop):
        if number == _DIMS:
            made.dims += _numbers(file, value)
        elif number == _DATA_TYPE:
            made.data_type = _number(value)
        elif number == _NAME:
            made.name = _text(file, *_span(value))
        elif number == _RAW:
            made.raw = _span(value)
        elif number in _TYPED:
            if isinstance(value, int):
                raise ValueError("values are not packed")
            made.typed.setdefault(number, []).append(value)
        elif number == _EXTERNAL:
            key, text = _entry(file, *_span(value))
            made.external[key] = text
        elif number == _LOCATION:
            made.is_external = _number(value) == 1
    return made


def _numbers(file: BinaryIO, value: int | tuple[int, int]) -> list[int]:
    """One number, or several in one piece."""
    if isinstance(value, int):
        return [_signed(value)]
    file.seek(value[0])
    found = []
    while file.tell() < sum(value):
        found.append(_signed(_varint(file)))
    return found


def _entry(file: BinaryIO, first: int, size: int) -> tuple[str, str]:
    texts = {_KEY: "", _VALUE: ""}
    for number, value in _fields(file, first, first + size):
        if number in texts:
            texts[number] = _text(file, *_span(value))
    return texts[_KEY], texts[_VALUE]


def _text(file: BinaryIO, first: int, size: int) -> str:
    if size > _LONGEST_TEXT:
        raise ValueError(f"a name of {size} bytes; this is no ONNX file")
    return _exactly(file, first, size).decode()


def _exactly(file: BinaryIO, first: int, size: int) -> bytes:
    file.seek(first)
    found = file.read(size)
    if len(found) != size:
        raise ValueError("the file ends too early")
    return found


def _span(value: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(value, int):
        raise ValueError("a number stands where a record belongs; this is no ONNX file")
    return value


def _bounds(span: tuple[int, int]) -> tuple[int, int]:
    return span[0], span[0] + span[1]


def _number(value: int | tuple[int, int]) -> int:
    if not isinstance(value, int):
        raise ValueError("a record stands where a number belongs; this is no ONNX file")
    return value
