"""Relative positions for ``STEP_RELATIVE``: what the layers of a stack make of every distance."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from mynah.backends.native.kernels import TILE, Threads, aligned
from mynah.backends.native.matrices import Matrix
from mynah.backends.native.program import Program
from mynah.backends.native.segments import CacheLayout
from mynah.types import FloatArray

_MORE_TILES = 2
_WAVELENGTH = 10000.0


class FloatLayout(CacheLayout):
    """Sizes of a cache of keys and values in float32; see ``native/steps_relative.h``."""

    def segment_bytes(self, branches: int) -> int:
        """Bytes of a segment."""
        return self.layers * branches * self.heads * (self.size + TILE) * TILE * 4


@dataclass(frozen=True, eq=False)
class DistanceTable:
    """Vectors of distances: (layers * heads, tiles, size, TILE)."""

    tiles: FloatArray
    past: int
    """Tiles of keys before the query; the next column is its own position."""

    def words(self) -> list[int]:
        """Slots that tell where it is; the table must be held until the call is over."""
        return [self.tiles.ctypes.data, self.tiles.shape[1], self.past * TILE]


class Distances:
    """The table of one stack, which grows with the longest sequence."""

    def __init__(
        self, matrix: Matrix, layers: int, heads: int, size: int, threads: Threads
    ) -> None:
        """``matrix`` is the projection of all layers, one after the other."""
        self._shape = (layers * heads, size)
        self._threads = threads
        self._guard = threading.Lock()
        self._program = program = Program(TILE)
        width = heads * size
        self._sinusoids, self._projected = program.rows(width), program.rows(matrix.columns)
        if matrix.scales.size:
            codes = program.codes(width, width)
            program.map(self._sinusoids, codes=codes)
            program.product(codes, matrix, self._projected)
        else:
            program.product(self._sinusoids, matrix, self._projected)
        self._table = DistanceTable(aligned((layers * heads, 0, size, TILE), np.float32), 0)

    def table(self, segments: int, frames: int) -> DistanceTable:
        """A table for ``frames`` new positions that end in the last of ``segments`` segments."""
        future = frames // TILE + 2
        with self._guard:
            old = self._table
            count = old.tiles.shape[1]
            if segments <= old.past and future <= count - old.past:
                return old
            past = old.past if segments <= old.past else segments + _MORE_TILES
            future = max(future, count - old.past)
            rows, size = self._shape
            tiles = aligned((rows, past + future, size, TILE), np.float32)
            first = past - old.past
            tiles[:, first : first + count] = old.tiles
            for tile in [*range(first), *range(first + count, past + future)]:
                tiles[:, tile] = self._vectors((tile - past) * TILE)
            self._table = DistanceTable(tiles, past)
            return self._table

    def _vectors(self, first: int) -> FloatArray:
        """Of keys that are ``first`` and more positions after the query, (rows, size, TILE)."""
        distance = np.arange(-first, -first - TILE, -1, dtype=np.float32)
        self._sinusoids.memory[:] = sinusoids(distance, self._sinusoids.width)
        self._program.run(self._threads, np.array([TILE, 1], dtype=np.int64))
        by_row = self._projected.memory[:, : self._shape[0] * self._shape[1]]
        return by_row.reshape(TILE, *self._shape).transpose(1, 2, 0)


def sinusoids(distance: FloatArray, width: int) -> FloatArray:
    """Distances (N,) to sines and cosines, interleaved, (N, width) float32, as in torch."""
    steps = np.arange(0, width, 2, dtype=np.float32)
    frequencies = np.exp(steps * np.float32(-np.log(_WAVELENGTH) / width))
    angles = distance[:, None] * frequencies
    made: FloatArray = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(-1, width)
    return made
