"""Keys and values of a sequence, in segments that its forks share.

Position p of a sequence is position ``p % POSITIONS`` of a segment, whatever was forked or
forgotten.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from mynah.backends.native.kernels import TILE, AnyArray, aligned
from mynah.backends.native.program import FIRST_SLOT
from mynah.errors import BackendError, ModelFormatError
from mynah.types import FloatArray

CONTEXTS, TERMS, ROTATION, CACHE = range(FIRST_SLOT, FIRST_SLOT + 4)
"""Slots of velocity networks: frames that convolutions keep, terms of the flow time, rotary
positions, and what ``SegmentedState.extend`` says."""
POSITIONS = 16
"""Of a segment: few, as a sequence and its forks each fill one in part."""
MOST_SEGMENTS = 1024
"""What the kernels have room for: five minutes of frames."""
_SCALES_BYTES = 2 * 2
_LAYOUT = 2.0
"""Number of the form of stored segments; the first one had none."""
KEEP_BYTES = 768 << 20
"""About what ten seconds of CosyVoice2 need."""
LEND_BYTES = 2 << 30
"""Unused memory beyond it that the system may take as soon as it needs some."""

Bytes = npt.NDArray[np.int8]
_places = itertools.count()


@dataclass(frozen=True)
class CacheLayout:
    """Sizes of a network's cache."""

    layers: int
    heads: int
    size: int
    """Of a head: a multiple of 16, at most 64."""
    contexts: int
    """Floats of one branch that its convolutions keep."""

    @property
    def positions(self) -> int:
        """Of a segment."""
        return POSITIONS

    @property
    def most_segments(self) -> int:
        """What the kernels have room for."""
        return MOST_SEGMENTS

    def segment_bytes(self, branches: int) -> int:
        """Bytes of a segment: keys, values and their scales (see ``steps_attend.h``)."""
        unit = POSITIONS * (self.size + TILE + _SCALES_BYTES)
        return self.layers * branches * self.heads * unit


class SegmentPool:
    """Memory for segments; what is no longer used is kept for the next ones.

    Memory that a process touches for the first time costs more time than the attention over it.
    """

    def __init__(
        self, layout: CacheLayout, keep_bytes: int = KEEP_BYTES, lend_bytes: int = LEND_BYTES
    ) -> None:
        """``keep_bytes``: at most so much unused memory is kept; ``lend_bytes``: and so much more,
        where the system can be told to take it when another needs it (``MADV_FREE``).
        """
        self.layout = layout
        self._keep_bytes, self._lend_bytes = keep_bytes, lend_bytes
        self._unused: dict[int, list[Bytes]] = {}

    def take(self, branches: int) -> Memory:
        """A segment; what is in it is finite, but of no meaning."""
        size = self.layout.segment_bytes(branches)
        try:
            held = self._unused[size].pop()
        except (KeyError, IndexError):
            held = _fresh(size)
        return Memory(held, self)

    def give(self, held: Bytes) -> None:
        """Take unused memory back."""
        unused = self._unused.setdefault(len(held), [])
        kept = sum(size * len(those) for size, those in list(self._unused.items()))
        excess = kept + len(held) - self._keep_bytes
        if excess <= 0 or (excess <= self._lend_bytes and _lent(held)):
            unused.append(held)


class Memory:
    """One segment's bytes; they go back to the pool with the last state that knows them."""

    def __init__(self, held: Bytes, pool: SegmentPool | None = None) -> None:
        """``pool`` = None: the memory belongs to somebody else."""
        self.bytes = held
        self._pool = pool

    def __del__(self) -> None:
        if self._pool is not None:
            self._pool.give(self.bytes)


def _fresh(size: int) -> Bytes:
    """Zeros that the system gives page by page.

    Not in large pages: finding those took several times as long on a machine in use. Segments begin
    at different places of a page: products read the same place of several segments at once, and a
    processor keeps few cache lines of one place.
    """
    if not hasattr(mmap, "MADV_NOHUGEPAGE"):
        return aligned((size,), np.int8)
    first = next(_places) * 5 * TILE % mmap.PAGESIZE
    memory = mmap.mmap(-1, first + size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype=np.int8, offset=first)


def _lent(held: Bytes) -> bool:
    """Let the system take the pages of unused memory when it needs some; False if it cannot."""
    memory = getattr(held.base, "obj", None)
    if not isinstance(memory, mmap.mmap) or not hasattr(mmap, "MADV_FREE"):
        return False
    try:
        memory.madvise(mmap.MADV_FREE)
    except OSError:  # a kernel without it
        return False
    return True


@dataclass(frozen=True, eq=False)
class _Segment:
    memory: Memory
    begin: int
    """First position that is still attended to."""
    end: int


class SegmentedState:
    """What a velocity network remembers of the frames before, for one Euler step."""

    def __init__(self, pool: SegmentPool, branches: int) -> None:
        """Nothing yet, and zeros for the convolutions."""
        self.pool = pool
        self.branches = branches
        self.contexts: FloatArray = np.zeros(branches * pool.layout.contexts, dtype=np.float32)
        self.position = 0
        """Frames seen, with those that were forgotten."""
        self._segments: list[_Segment] = []
        self._sealed = 0

    def length(self) -> int:
        """Positions kept."""
        return sum(segment.end - segment.begin for segment in self._segments)

    def nbytes(self) -> int:
        """Memory of everything reachable from here, in bytes; forks count shared parts again."""
        return sum(one.memory.bytes.nbytes for one in self._segments) + self.contexts.nbytes

    def fork(self) -> Self:
        """A state that goes on alone. Segments are shared: from now on nobody writes to them."""
        other = type(self)(self.pool, self.branches)
        other.contexts, other.position = self.contexts.copy(), self.position
        other._segments = list(self._segments)
        other._sealed = self._sealed = len(self._segments)
        return other

    def trim(self, keep: int) -> None:
        """Forget all but the last ``keep`` positions."""
        excess = self.length() - keep
        while excess > 0:
            first = self._segments[0]
            held = first.end - first.begin
            if held <= excess:
                del self._segments[0]
                self._sealed = max(self._sealed - 1, 0)
            else:
                moved = _Segment(first.memory, first.begin + excess, first.end)
                self._segments[0] = moved
            excess -= held

    def extend(self, frames: int) -> list[int]:
        """Make room for new frames; returns the words of ``STEP_ATTEND`` that tell where.

        Raises:
            BackendError: if the sequence is too long.
        """
        held, size = self._segments, self.pool.layout.positions
        place = held[-1].end % size if held else 0
        first = len(held) - 1 if place else len(held)
        if place and self._sealed == len(held):
            self._own_last()
        end = place + frames
        for index in range(first, first + -(-end // size)):
            filled = min(end - (index - first) * size, size)
            if index < len(held):
                held[index] = _Segment(held[index].memory, held[index].begin, filled)
            else:
                held.append(_Segment(self.pool.take(self.branches), 0, filled))
        if len(self._segments) > self.pool.layout.most_segments:
            raise BackendError(
                f"{self.length()} frames are too many to attend to at once",
                hint="speak the text in shorter parts",
            )
        self.position += frames
        words = [len(held), first, place]
        for segment in held:
            words += [segment.memory.bytes.ctypes.data, segment.begin << 32 | segment.end]
        return words

    def _own_last(self) -> None:
        """Copy the last segment, which others read, to go on in it.

        A new one would do, too; but then the order in which scores are added would depend on where
        a sequence was forked, and its frames on that.
        """
        last = self._segments[-1]
        memory = self.pool.take(self.branches)
        np.copyto(memory.bytes, last.memory.bytes)
        self._segments[-1] = _Segment(memory, last.begin, last.end)
        self._sealed -= 1

    def arrays(self) -> dict[str, AnyArray]:
        """Everything by name, to be stored."""
        bounds = [[segment.begin, segment.end] for segment in self._segments]
        held = {f"segment.{n}": one.memory.bytes for n, one in enumerate(self._segments)}
        table = np.array(bounds, dtype=np.float32).reshape(-1, 2)
        position = np.array([self.position], dtype=np.float32)
        form = {"layout": np.array([_LAYOUT], np.float32)}
        return held | form | {"contexts": self.contexts, "bounds": table, "position": position}


def restored(arrays: Mapping[str, AnyArray], pool: SegmentPool, branches: int) -> SegmentedState:
    """The state that ``SegmentedState.arrays`` was called on; its segments are only read.

    Raises:
        ModelFormatError: if the arrays belong to another model or backend.
    """
    state = SegmentedState(pool, branches)
    size = pool.layout.segment_bytes(branches)
    if "layout" not in arrays or arrays["layout"].tolist() != [_LAYOUT]:
        raise _misfit("another version of mynah wrote it")
    try:
        bounds = arrays["bounds"].astype(np.int64).reshape(-1, 2)
        held = [arrays[f"segment.{n}"] for n in range(len(bounds))]
        contexts, position = arrays["contexts"], int(arrays["position"].item())
    except (KeyError, ValueError) as error:
        raise _misfit(str(error)) from error
    begins, ends, layout = bounds[:, 0], bounds[:, 1], pool.layout
    in_range = ((begins >= 0) & (begins <= ends) & (ends <= layout.positions)).all()
    if not in_range or contexts.shape != state.contexts.shape or len(held) > layout.most_segments:
        raise _misfit("its sizes differ")
    for memory, (begin, end) in zip(held, bounds.tolist(), strict=True):
        if memory.dtype != np.int8 or memory.shape != (size,):
            raise _misfit("a segment has another form")
        segment = Memory(memory)
        if memory.ctypes.data % TILE:  # kernels read cache lines
            segment = pool.take(branches)
            segment.bytes[:] = memory
        state._segments.append(_Segment(segment, begin, end))
    state._sealed = len(held)
    state.contexts, state.position = np.array(contexts, dtype=np.float32), position
    return state


def _misfit(reason: str) -> ModelFormatError:
    return ModelFormatError(
        f"the stored state does not fit this network: {reason}",
        hint="delete the stored state; it is computed again",
    )
