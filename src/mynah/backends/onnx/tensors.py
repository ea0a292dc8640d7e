"""Tables read from safetensors files without loading them: rows are fetched when indexed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mynah.errors import ModelFormatError, ModelNotFoundError

_DTYPES: dict[str, npt.DTypeLike] = {"F32": "<f4", "F16": "<f2", "I8": "i1"}
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the limit the format itself sets


def map_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Map every tensor of a ``.safetensors`` file, read-only; float32, float16 or int8.

    Raises:
        ModelNotFoundError: if there is no such file.
        ModelFormatError: if it is truncated, damaged, or holds another type.
    """
    if not path.is_file():
        raise ModelNotFoundError(
            f"the model file {path} is missing", hint="download or convert the model again"
        )
    try:
        header, start = _read_header(path)
        return {
            name: _map(path, start, entry)
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFormatError(
            f"cannot read the tensors of {path}: {error}",
            hint="the file is damaged or incomplete; download or convert the model again",
        ) from error


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if length > _MAX_HEADER_BYTES:
            raise ValueError("this is no safetensors file")
        text = file.read(length)
    header = json.loads(text)
    if len(text) < length or not isinstance(header, dict):
        raise ValueError("the header is incomplete")
    return header, _LENGTH_BYTES + length


def _map(path: Path, start: int, entry: dict[str, Any]) -> npt.NDArray[Any]:
    dtype: np.dtype[Any] = np.dtype(_DTYPES[entry["dtype"]])
    shape = tuple(int(size) for size in entry["shape"])
    first, end = entry["data_offsets"]
    if start + end > path.stat().st_size:
        raise ValueError("the file is shorter than its header says")
    if end - first != dtype.itemsize * int(np.prod(shape)):
        raise ValueError("a tensor's size does not fit its shape")
    if first == end:
        return np.zeros(shape, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=start + first, shape=shape)
