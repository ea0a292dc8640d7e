"""Weights of graphs that were traced from torch, by the names of the modules they belong to.

The tracing exporter only numbers some of them, mostly the matrices of products. ``export.graph``
names those; in graphs that were written before it did, they are found by their order, which is that
of the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mynah.backends.native.kernels import AnyArray
from mynah.backends.native.onnx_weights import read_initializers
from mynah.errors import BackendError, ModelFormatError
from mynah.types import FloatArray, TokenArray

_DYNAMIC = "_quantized"
"""Ends the name of a matrix whose products are in eight bits."""
_CODES = ".int8"
_HALF = ".half"
_BESIDE = (".scale", "_scale", "_zero_point")


class TracedWeights(Mapping[str, FloatArray]):
    """Name -> float32 array, or float64 where the graph has such; every look-up reads it again."""

    def __init__(self, path: Path, numbered: Mapping[str, Sequence[str]]) -> None:
        """Find the weights.

        Args:
            path: of the graph.
            numbered: operator -> names of the weights that the exporter may have numbered, in the
                network's order.

        Raises:
            ModelNotFoundError: if there is no such file.
            ModelFormatError: if it is damaged.
        """
        self._path = path
        self._file = read_initializers(path)
        self._places: dict[str, str] = {}
        for name in self._file:
            plain = _plain(name)
            # what two nodes share may be stored a second time in another form
            if not plain.endswith(_BESIDE) and not self.is_dynamic(plain):
                self._places[plain] = name
        for operator, names in numbered.items():
            if not set(names) <= set(self._places):
                self._number(operator, names)

    def _number(self, operator: str, names: Sequence[str]) -> None:
        pattern = f"onnx::{operator}_"
        found = [name for name in self._places if name.startswith(pattern)]
        found.sort(key=lambda name: int(name.rpartition("_")[2]))
        if len(found) == len(names):
            places = [self._places[name] for name in found]
            self._places.update(zip(names, places, strict=True))

    def __getitem__(self, name: str) -> FloatArray:
        """Read a weight. Codes are multiplied by their scales, of the axis with as many values.

        Raises:
            ModelFormatError: if there is none of that name, or the file is damaged.
        """
        values, scale = self.stored(name)
        if scale is not None:
            # of output channels: the first axis, but for transposed convolutions
            axis = 0 if values.shape[0] == scale.size else 1
            shape = [-1 if index == axis else 1 for index in range(values.ndim)]
            values = values.astype(np.float32) * scale.reshape(shape)
        wide = values.dtype == np.float64
        weight: FloatArray = values if wide else values.astype(np.float32)
        return weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a weight, without reading it; raises KeyError if there is none."""
        return self._file.shape(self._places[name])

    def is_dynamic(self, name: str) -> bool:
        """Whether a matrix is multiplied in eight bits, and not only stored in them."""
        return self._places.get(name, "").endswith(_DYNAMIC)

    def stored(self, name: str) -> tuple[AnyArray, FloatArray | None]:
        """A weight as it is stored, and the scales of its codes if it has codes (int8).

        Raises:
            ModelFormatError: if there is none of that name, or the file is damaged.
        """
        if name not in self._places:
            raise ModelFormatError(
                f"{self._path} has no weight {name}", hint="convert the model again"
            )
        place = self._places[name]
        values = self._file[place]
        if values.dtype != np.int8:
            return values, None
        joint = "_" if place.endswith(_DYNAMIC) else "."
        scale = f"{_plain(place)}{joint}scale"
        for found in (f"{scale}{_HALF}", scale):
            if found in self._file:
                return values, self._file[found].astype(np.float32)
        raise ModelFormatError(
            f"{self._path}: {name} has codes but no {scale}", hint="convert the model again"
        )


class StoredRows:
    """Vectors of an embedding, kept as they are stored."""

    def __init__(self, weights: TracedWeights, name: str) -> None:
        """Read them; raises as ``TracedWeights.stored``."""
        self._rows, self._scale = weights.stored(name)

    def __call__(self, ids: TokenArray) -> FloatArray:
        """Ids (T,) to vectors (T, width).

        Raises:
            BackendError: if an id has none.
        """
        size = len(self._rows)
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < size:
            bad = int(ids.min()) if ids.min() < 0 else int(ids.max())
            raise BackendError(f"speech token {bad} is outside 0 .. {size - 1}")
        rows: FloatArray = self._rows[ids].astype(np.float32)
        return rows if self._scale is None else rows * self._scale[ids, None]


def _plain(name: str) -> str:
    for ending in (_HALF, _CODES, _DYNAMIC):
        name = name.removesuffix(ending)
    return name
