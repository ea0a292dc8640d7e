"""What becomes of the memory of segments that nobody uses."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from mynah.backends.native.kernels import TILE
from mynah.backends.native.segments import CacheLayout, SegmentPool

LAYOUT = CacheLayout(layers=3, heads=2, size=64, contexts=8)
SIZE = LAYOUT.segment_bytes(2)
needs_lending = pytest.mark.skipif(
    not hasattr(mmap, "MADV_FREE") or not hasattr(mmap, "MADV_NOHUGEPAGE"), reason="not on Linux"
)


def addresses(pool: SegmentPool, count: int) -> list[int]:
    """Of segments that are in use at the same time, and are given back."""
    taken = [pool.take(2) for _ in range(count)]
    for one in taken:
        one.bytes[:] = 1  # so that there are pages
    return [one.bytes.ctypes.data for one in taken]


def kept(pool: SegmentPool) -> int:
    return sum(len(held) for held in pool._unused.get(SIZE, []))


def test_memory_goes_to_the_next_ones() -> None:
    pool = SegmentPool(LAYOUT)
    assert set(addresses(pool, 3)) == set(addresses(pool, 3))


def test_no_more_is_kept_than_was_asked_for() -> None:
    pool = SegmentPool(LAYOUT, keep_bytes=2 * SIZE, lend_bytes=0)
    addresses(pool, 5)
    assert kept(pool) == 2 * SIZE


@needs_lending
def test_more_is_lent_to_the_system() -> None:
    pool = SegmentPool(LAYOUT, keep_bytes=SIZE, lend_bytes=2 * SIZE)
    addresses(pool, 5)
    assert kept(pool) == 3 * SIZE
    again = [pool.take(2) for _ in range(3)]
    for one in again:  # it is theirs again, whatever the system did with it
        one.bytes[:] = np.arange(SIZE, dtype=np.int64).astype(np.int8)
    addresses(pool, 4)
    for one in again:
        np.testing.assert_array_equal(one.bytes, np.arange(SIZE, dtype=np.int64).astype(np.int8))


@needs_lending
def test_segments_begin_at_different_places_of_a_page() -> None:
    places = {address % mmap.PAGESIZE for address in addresses(SegmentPool(LAYOUT), 4)}
    assert len(places) == 4
    assert all(place % TILE == 0 for place in places)
