"""Key/value memory of language model sequences: written in place by the graph, never passed around.

A block holds the caches of a few sequences side by side, so that neighbours can be stepped in one
run; a slot is the place of one of them. Sequences move between blocks when they come to be stepped
together, which copies their rows once. Pages of a slot that were never written need no memory.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import sys
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from mynah.backends.base import FloatArray

FIRST_CAPACITY = 1024
"""Positions that a slot has room for at first."""


@dataclass(frozen=True)
class CacheShape:
    """Sizes of one position's keys and values."""

    layers: int
    kv_heads: int
    head_dim: int


class KVBlock:
    """Slots of equal capacity in one piece of memory."""

    def __init__(self, shape: CacheShape, slots: int, capacity: int) -> None:
        """Reserve room; ``values`` is (2 * layers, slots, kv heads, capacity, head_dim).

        Even entries of the first axis are keys, odd ones values.
        """
        sizes = (2 * shape.layers, slots, shape.kv_heads, capacity, shape.head_dim)
        self.values: FloatArray = _reserve(sizes)
        self.slots = slots
        self.capacity = capacity
        self.bindings: dict[tuple[int, int], Any] = {}
        """Runs prepared for a window (first slot, number of slots); kept by who makes the runs."""
        self._users: list[weakref.ref[Slot] | None] = [None] * slots

    def user(self, index: int) -> Slot | None:
        """Who holds a slot, if anyone still does."""
        reference = self._users[index]
        return None if reference is None else reference()

    def take(self, index: int) -> Slot:
        """Hold a slot for as long as the result lives."""
        slot = Slot(self, index)
        self._users[index] = weakref.ref(slot)
        return slot


@dataclass(eq=False)
class Slot:
    """A held place in a block."""

    block: KVBlock
    index: int


@dataclass(eq=False)
class KVSequence:
    """What one sequence has read: the first ``length`` rows of a slot."""

    slot: Slot
    length: int = 0
    is_borrowed: bool = field(default=False)
    """Whether the slot belongs to the sequence this one was forked from: rows may be read only."""

    def fork(self) -> Self:
        """A sequence that goes on alone; the rows are copied when it first grows.

        The one forked from may grow in place meanwhile: it writes behind the shared rows only.
        """
        return type(self)(self.slot, self.length, is_borrowed=True)


@dataclass(frozen=True)
class Window:
    """Neighbouring slots that a run works on; held until it is over."""

    block: KVBlock
    first: int
    slots: tuple[Slot, ...]
    """In order; the ones after the sequences' own (if any) only fill the batch up."""


class KVCache:
    """Gives sequences their memory, and brings those together that are stepped together."""

    def __init__(self, shape: CacheShape, row_multiple: int) -> None:
        """Windows have a multiple of ``row_multiple`` slots, unless one sequence runs alone."""
        self._shape = shape
        self._multiple = row_multiple
        self._lock = threading.Lock()

    def new_sequence(self) -> KVSequence:
        """A sequence that has read nothing."""
        return KVSequence(self._new_block(1, 1).take(0))

    def _new_block(self, slots: int, length: int) -> KVBlock:
        capacity = FIRST_CAPACITY
        while capacity < length:
            capacity *= 2
        return KVBlock(self._shape, self._round_up(slots), capacity)

    def _round_up(self, slots: int) -> int:
        return -(-slots // self._multiple) * self._multiple

    def make_room(self, sequence: KVSequence, rows: int) -> Window:
        """The window of one sequence that is about to grow by ``rows``."""
        with self._lock:
            block, length = sequence.slot.block, sequence.length
            if sequence.is_borrowed or length + rows > block.capacity:
                _move(sequence, self._new_block(1, length + rows).take(0))
            slot = sequence.slot
            return Window(slot.block, slot.index, (slot,))

    def gather(self, sequences: Sequence[KVSequence]) -> Window:
        """A window of all sequences, each about to grow by one row, in the order of their slots.

        Nothing is copied when they are neighbours already.
        """
        with self._lock:
            needed = max(sequence.length for sequence in sequences) + 1
            count = self._round_up(len(sequences))
            place = self._best_place(sequences, count, needed)
            if place is None:
                # Room for as many again: sequences tend to come one after the other.
                slots = count if len(sequences) == 1 else 1 << (count - 1).bit_length()
                place = self._new_block(slots, needed), 0
            return _settle(sequences, *place, count)

    def _best_place(
        self, sequences: Sequence[KVSequence], count: int, needed: int
    ) -> tuple[KVBlock, int] | None:
        """Block and first slot where most of the sequences are already, and no others.

        Slots that only fill the batch up must be free: a fork may still read what is in them.
        """
        ours = {id(sequence.slot) for sequence in sequences if not sequence.is_borrowed}
        best, most = None, 0
        for block in {id(s.slot.block): s.slot.block for s in sequences}.values():
            if block.capacity < needed:
                continue
            users = [block.user(index) for index in range(block.slots)]
            for first in range(block.slots - count + 1):
                end = first + len(sequences)
                window = [user for user in users[first:end] if user is not None]
                present = sum(id(user) in ours for user in window)
                is_free = present == len(window) and not any(users[end : first + count])
                if is_free and present > most:
                    best, most = (block, first), present
        return best


def _reserve(sizes: tuple[int, ...]) -> FloatArray:
    """Zeros whose pages come into being one by one, when they are first written.

    Huge pages would make all of it resident at the first few rows of each head.
    """
    size = math.prod(sizes) * np.dtype(np.float32).itemsize
    if sys.platform == "win32":
        memory = mmap.mmap(-1, size)
    else:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype=np.float32).reshape(sizes)


def _settle(sequences: Sequence[KVSequence], block: KVBlock, first: int, count: int) -> Window:
    """Move the sequences that are elsewhere into the first free slots of a window."""
    inside = range(first, first + len(sequences))
    free = [index for index in inside if block.user(index) is None]
    for sequence in sequences:
        slot = sequence.slot
        if sequence.is_borrowed or slot.block is not block or slot.index not in inside:
            _move(sequence, block.take(free.pop(0)))
    own = sorted((sequence.slot for sequence in sequences), key=lambda slot: slot.index)
    padding = [block.take(first + index) for index in range(len(sequences), count)]
    return Window(block, first, (*own, *padding))


def _move(sequence: KVSequence, slot: Slot) -> None:
    """Copy a sequence's rows to a free slot."""
    old, length = sequence.slot, sequence.length
    slot.block.values[:, slot.index, :, :length] = old.block.values[:, old.index, :, :length]
    sequence.slot, sequence.is_borrowed = slot, False
