"""Joining safetensors files without reading their tensors into memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

_LENGTH_BYTES = 8


def merge_safetensors(parts: Sequence[Path], target: Path) -> None:
    """Write one file with the tensors of all ``parts``, whose names differ.

    The format: eight bytes with the header's length, a JSON header with each tensor's place, data.
    """
    header: dict[str, Any] = {}
    begins = []
    offset = 0
    for part in parts:
        with open(part, "rb") as stream:
            entries, begin = _read_header(stream)
        for name, entry in entries.items():
            first, last = entry["data_offsets"]
            header[name] = {**entry, "data_offsets": [first + offset, last + offset]}
        offset += part.stat().st_size - begin
        begins.append(begin)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)  # data stays aligned
    with open(target, "wb") as out:
        out.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        for part, begin in zip(parts, begins, strict=True):
            with open(part, "rb") as stream:
                stream.seek(begin)
                shutil.copyfileobj(stream, out, 1 << 20)


def _read_header(stream: BinaryIO) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
    header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return header, _LENGTH_BYTES + length
