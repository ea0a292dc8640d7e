from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from mynah.backends.onnx import kv_cache
from mynah.backends.onnx.kv_cache import CacheShape, KVCache, KVSequence

SHAPE = CacheShape(layers=2, kv_heads=2, head_dim=4)


def _cache(row_multiple: int = 1) -> KVCache:
    return KVCache(SHAPE, row_multiple)


def _write(sequence: KVSequence, value: float, rows: int = 1) -> None:
    """What a run does: rows behind the old ones."""
    slot, length = sequence.slot, sequence.length
    slot.block.values[:, slot.index, :, length : length + rows] = value
    sequence.length += rows


def _read(sequence: KVSequence) -> list[float]:
    slot = sequence.slot
    rows = slot.block.values[:, slot.index, :, : sequence.length]
    assert (rows == rows[:1, :1, :, :1]).all()
    return [float(value) for value in rows[0, 0, :, 0]]


def _sequences(cache: KVCache, count: int) -> list[KVSequence]:
    made = [cache.new_sequence() for _ in range(count)]
    for value, sequence in enumerate(made):
        cache.make_room(sequence, 1)
        _write(sequence, value)
    return made


@pytest.mark.parametrize("row_multiple", [1, 2])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_window_holds_the_sequences_and_padding(count: int, row_multiple: int) -> None:
    cache = _cache(row_multiple)
    sequences = _sequences(cache, count)
    window = cache.gather(sequences)
    assert len(window.slots) == -(-count // row_multiple) * row_multiple
    places = [slot.index for slot in window.slots]
    assert places == list(range(window.first, window.first + len(places)))
    assert [_read(sequence) for sequence in sequences] == [[value] for value in range(count)]


def test_neighbours_are_not_copied_again() -> None:
    cache = _cache()
    sequences = _sequences(cache, 4)
    first = cache.gather(sequences)
    again = cache.gather(sequences[::-1])
    assert again.block is first.block
    assert again.first == first.first


def test_who_is_left_closes_up_and_newcomers_take_free_slots() -> None:
    cache = _cache()
    a, b, c, d = _sequences(cache, 4)
    block = cache.gather([a, b, c, d]).block
    del b
    gc.collect()
    window = cache.gather([a, c, d])
    assert window.block is block
    assert len(window.slots) == 3
    (late,) = _sequences(cache, 1)
    _write(late, 7)
    assert cache.gather([a, c, d, late]).block is block
    assert [_read(s) for s in (a, c, d, late)] == [[0], [2], [3], [0, 7]]


def test_a_bystander_is_never_overwritten() -> None:
    cache = _cache(row_multiple=2)
    sequences = _sequences(cache, 4)
    cache.gather(sequences)
    for subset in ([0], [1, 3], [0, 1, 2], [3]):
        window = cache.gather([sequences[index] for index in subset])
        held = {id(sequences[index].slot) for index in subset}
        for slot in window.slots:  # a run writes into all of them
            if id(slot) not in held:
                slot.block.values[:, slot.index] = np.nan
    assert [_read(sequence) for sequence in sequences] == [[0], [1], [2], [3]]


def test_a_fork_reads_what_was_there_whatever_the_other_does() -> None:
    cache = _cache(row_multiple=2)
    (origin,) = _sequences(cache, 1)
    forks = [origin.fork() for _ in range(3)]
    cache.gather([origin])
    _write(origin, 9)
    cache.gather([*forks[:2], origin])
    for value, fork in enumerate(forks[:2]):
        _write(fork, 10 + value)
    del origin
    gc.collect()
    assert [_read(fork) for fork in forks] == [[0, 10], [0, 11], [0]]
    grandchild = forks[2].fork()
    cache.make_room(grandchild, 2)
    _write(grandchild, 5, rows=2)
    assert _read(grandchild) == [0, 5, 5]
    assert _read(forks[2]) == [0]


@pytest.mark.parametrize("alone", [True, False])
def test_rows_survive_growth(alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_cache, "FIRST_CAPACITY", 4)
    cache = _cache()
    a, b = _sequences(cache, 2)
    for value in range(1, 11):
        if alone:
            cache.make_room(a, 1)
        else:
            cache.gather([a, b])
            _write(b, -value)
        _write(a, value)
    assert _read(a) == list(range(11))
    assert _read(b) == ([1] if alone else [1, *(-value for value in range(1, 11))])
    cache.make_room(a, 100)
    assert a.slot.block.capacity >= 111


def test_memory_is_freed_with_the_last_sequence() -> None:
    cache = _cache()
    sequences = _sequences(cache, 3)
    cache.gather(sequences)
    block = weakref.ref(sequences[0].slot.block)
    fork = sequences[0].fork()
    del sequences
    assert block() is not None
    del fork
    assert block() is None
