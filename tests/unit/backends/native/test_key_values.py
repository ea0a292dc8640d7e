from __future__ import annotations

import ctypes

import numpy as np

from mynah.backends.native.kernels import AnyArray
from mynah.backends.native.key_values import CacheShape, KeyValues

SHAPE = CacheShape(layers=2, heads=1, head_size=16)


def _segments(sequence: KeyValues, count: int) -> list[AnyArray]:
    """What a kernel finds by the addresses."""
    addresses = (ctypes.c_int64 * count).from_address(sequence.address)
    memory = [(ctypes.c_char * (2 * SHAPE.halves)).from_address(address) for address in addresses]
    return [np.ndarray(SHAPE.halves, np.float16, one) for one in memory]


def _grow(sequence: KeyValues, rows: int, value: float) -> None:
    """Mark the segments that the new rows lie in."""
    sequence.make_room(rows)
    first, last = sequence.length // 64, (sequence.length + rows - 1) // 64
    for segment in _segments(sequence, last + 1)[first:]:
        segment[:] = value
    sequence.length += rows


def test_a_segment_holds_keys_and_values_of_all_layers() -> None:
    assert SHAPE.halves == 2 * (64 * 16 + 64 * 64)
    assert CacheShape(3, 2, 80).halves == 3 * 2 * (64 * 80 + 2 * 64 * 64)


def test_nothing_moves_when_a_sequence_grows() -> None:
    sequence = KeyValues(SHAPE)
    _grow(sequence, 1, 1)
    first = _segments(sequence, 1)[0].ctypes.data
    for number in range(2, 40):  # more than the first list of addresses holds
        _grow(sequence, 64, number)
    assert sequence.length == 1 + 38 * 64
    assert _segments(sequence, 1)[0].ctypes.data == first
    # every segment but the last was marked again by the row that crossed into it
    assert [int(segment[0]) for segment in _segments(sequence, 39)] == [*range(2, 40), 39]
    assert all(segment.ctypes.data % 64 == 0 for segment in _segments(sequence, 39))


def test_a_fork_copies_what_is_not_full_and_shares_the_rest() -> None:
    sequence = KeyValues(SHAPE)
    _grow(sequence, 64, 1)
    _grow(sequence, 10, 2)
    fork = sequence.fork()
    assert fork.length == 74
    _grow(fork, 1, 3)
    _grow(sequence, 1, 4)
    assert [int(s[0]) for s in _segments(fork, 2)] == [1, 3]
    assert [int(s[0]) for s in _segments(sequence, 2)] == [1, 4]
    assert _segments(fork, 1)[0].ctypes.data == _segments(sequence, 1)[0].ctypes.data


def test_the_copy_holds_what_was_read_before_the_fork() -> None:
    sequence = KeyValues(SHAPE)
    _grow(sequence, 10, 2)
    fork = sequence.fork().fork()  # borrowed from who borrowed it
    fork.make_room(1)
    assert (_segments(fork, 1)[0] == 2).all()
    del sequence
    assert (_segments(fork, 1)[0] == 2).all()


def test_a_fork_of_full_segments_copies_nothing() -> None:
    sequence = KeyValues(SHAPE)
    _grow(sequence, 64, 1)
    sequence.make_room(5)  # a segment that the fork has no part in
    fork = sequence.fork()
    _grow(fork, 1, 3)
    assert _segments(fork, 1)[0].ctypes.data == _segments(sequence, 1)[0].ctypes.data
    assert (_segments(sequence, 2)[1] == 0).all()
