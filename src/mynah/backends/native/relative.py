"""Relative positions for ``STEP_RELATIVE``: what the layers of a stack make of every distance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mynah.backends.native.kernels import TILE, Guard, Threads, aligned
from mynah.backends.native.matrices import Matrix
from mynah.backends.native.program import Program
from mynah.backends.native.segments import CacheLayout
from mynah.types import FloatArray

_WAVELENGTH = 10000.0
_MOST_SEGMENTS = 256


class FloatLayout(CacheLayout):
    """Sizes of a cache of keys and values in float32; see ``native/steps_relative.h``."""

    @property
    def positions(self) -> int:
        """Of a segment."""
        return TILE

    @property
    def most_segments(self) -> int:
        """What the kernel has room for: ten minutes of tokens, five of frames."""
        return _MOST_SEGMENTS

    def segment_bytes(self, branches: int) -> int:
        """Bytes of a segment."""
        return self.layers * branches * self.heads * (self.size + TILE) * TILE * 4


class DistanceTable:
    """Vectors of distances in tiles (layers * heads, size, TILE)."""

    def __init__(self, tiles: Sequence[FloatArray], past: int) -> None:
        """``past`` of the tiles are of keys before the query; its own position comes next."""
        self.tiles, self.past = tuple(tiles), past
        addresses = [tile.ctypes.data for tile in tiles]
        self._addresses = np.array(addresses, dtype=np.int64)

    def words(self) -> list[int]:
        """Slots that tell where it is; the table must be held until the call is over."""
        return [self._addresses.ctypes.data, self.past * TILE]


class Distances:
    """The table of one stack, which grows with the longest sequence."""

    def __init__(
        self, matrix: Matrix, layers: int, heads: int, size: int, threads: Threads
    ) -> None:
        """``matrix`` is the projection of all layers, one after the other."""
        self._shape = (layers * heads, size)
        self._threads = threads
        self._guard = Guard()
        self._program = program = Program(TILE)
        width = heads * size
        self._sinusoids, self._projected = program.rows(width), program.rows(matrix.columns)
        if matrix.scales.size:
            codes = program.codes(width, width)
            program.map(self._sinusoids, codes=codes)
            program.product(codes, matrix, self._projected)
        else:
            program.product(self._sinusoids, matrix, self._projected)
        self._table = DistanceTable([], 0)

    def table(self, segments: int, frames: int) -> DistanceTable:
        """A table for ``frames`` new positions that end in the last of ``segments`` segments."""
        with self._guard:
            old = self._table
            past, known = max(segments, old.past), len(old.tiles) - old.past
            future = max(frames // TILE + 2, known)
            if past > old.past or future > known:
                before = [self._vectors(tile - past) for tile in range(past - old.past)]
                after = [self._vectors(tile) for tile in range(known, future)]
                self._table = DistanceTable([*before, *old.tiles, *after], past)
            return self._table

    def _vectors(self, tile: int) -> FloatArray:
        """Of keys that are ``tile * TILE`` and more positions after the query."""
        distance = np.arange(0, -TILE, -1, dtype=np.float32) - np.float32(tile * TILE)
        self._sinusoids.memory[:] = sinusoids(distance, self._sinusoids.width)
        self._program.run(self._threads, np.array([TILE, 1], dtype=np.int64))
        rows, size = self._shape
        made = aligned((rows, size, TILE), np.float32)
        made[:] = (
            self._projected.memory[:, : rows * size].reshape(TILE, rows, size).transpose(1, 2, 0)
        )
        return made


def sinusoids(distance: FloatArray, width: int) -> FloatArray:
    """Distances (N,) to sines and cosines, interleaved, (N, width) float32, as in torch."""
    steps = np.arange(0, width, 2, dtype=np.float32)
    frequencies = np.exp(steps * np.float32(-np.log(_WAVELENGTH) / width))
    angles = distance[:, None] * frequencies
    made: FloatArray = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(-1, width)
    return made
