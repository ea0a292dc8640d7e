"""Keys and values of language model sequences: segments of 64 positions that sequences may share.

A sequence that grows takes one more segment; nothing moves. One that was forked from another reads
the other's segments, and copies the last of them, which is not full, when it first grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from mynah.backends.native.kernels import TILE, AnyArray, Words, aligned

_FIRST_SEGMENTS = 16


@dataclass(frozen=True)
class CacheShape:
    """Sizes of what a position leaves behind."""

    layers: int
    heads: int
    head_size: int
    """Features, padding included."""

    @property
    def halves(self) -> int:
        """Numbers of a segment; see ``native/steps_causal.h``."""
        tiles = -(-self.head_size // TILE)
        return self.layers * self.heads * TILE * (self.head_size + tiles * TILE)


class KeyValues:
    """What one sequence has read."""

    def __init__(self, shape: CacheShape) -> None:
        self.length = 0
        """Positions."""
        self._shape = shape
        self._segments: list[AnyArray] = []
        self._addresses: Words = np.zeros(_FIRST_SEGMENTS, dtype=np.int64)
        self._is_borrowed = False  # the last segment, when it is not full

    @property
    def address(self) -> int:
        """Of the addresses of the segments; valid until the next ``make_room``."""
        return int(self._addresses.ctypes.data)

    def make_room(self, rows: int) -> None:
        """Make it possible to write ``rows`` positions after the last one."""
        if self._is_borrowed and self.length % TILE:
            own = aligned((self._shape.halves,), np.float16)
            own[:] = self._segments.pop()
            self._add(own)
        self._is_borrowed = False
        while len(self._segments) * TILE < self.length + rows:
            self._add(aligned((self._shape.halves,), np.float16))

    def fork(self) -> Self:
        """A sequence that goes on alone.

        The one forked from may go on in place: it writes behind the shared positions only.
        """
        made = type(self)(self._shape)
        made.length, made._is_borrowed = self.length, True
        for segment in self._segments[: -(-self.length // TILE)]:
            made._add(segment)
        return made

    def _add(self, segment: AnyArray) -> None:
        count = len(self._segments)
        if count == len(self._addresses):
            self._addresses = np.concatenate([self._addresses, np.zeros_like(self._addresses)])
        self._addresses[count] = segment.ctypes.data
        self._segments.append(segment)
