"""Programs: the steps of a network call, and the memory that they work on.

A step is described in ``native/steps_*.h``, where the fields have the same names and order. Rows
are frames of all guidance branches, branch after branch; a buffer may have rows of padding before
each branch, which is where a causal convolution finds the frames before the first one.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np

from mynah.backends.native.kernels import STEP_WORDS, TILE, AnyArray, Threads, Words, aligned
from mynah.backends.native.matrices import Matrix
from mynah.types import FloatArray

FRAMES, BRANCHES, FIRST_SLOT = 0, 1, 2
"""Words of the slot table that every program has, and the first one that is free."""


class Act(enum.IntEnum):
    """Activation functions; the gate makes half as many values."""

    NONE = 0
    MISH = 1
    GELU = 2
    GELU_TANH = 3
    SILU = 4
    SILU_GATE = 5
    LEAKY = 6


class Kind(enum.IntEnum):
    """What a step does, as ``native/mynah.h`` numbers it."""

    ROWS = 0
    PRODUCT = 1
    EXACT = 2
    ATTEND = 3
    CONTEXT = 4
    CAUSAL = 5
    APPEND = 6
    FOLD = 7
    CONVOLVE = 8
    DOUBLE = 9
    KEEP = 10
    JOIN = 11
    SPECTRUM = 12
    ROTATE = 13
    RELATIVE = 14


@dataclass(frozen=True, eq=False)
class Rows:
    """Floats (branches * (pad + frames), width)."""

    memory: FloatArray
    width: int
    pad: int = 0
    offset: int = 0
    """First column, where the rows are part of wider ones."""

    @property
    def stride(self) -> int:
        """Floats from row to row."""
        return int(self.memory.shape[-1])

    @property
    def address(self) -> int:
        """Of the first row, padding included."""
        return int(self.memory.ctypes.data) + 4 * self.offset

    def columns(self, first: int, width: int) -> Rows:
        """Some of the columns."""
        return Rows(self.memory, width, self.pad, self.offset + first)


@dataclass(frozen=True, eq=False)
class Codes:
    """Rows in eight bits, with a scale and a sum for every block."""

    codes: AnyArray
    scales: AnyArray
    totals: AnyArray
    width: int
    block: int
    pad: int = 0


@dataclass(frozen=True)
class CausalHeads:
    """Of an attention where several heads may read the same keys and values."""

    queries: int
    keys: int
    size: int
    """A multiple of 16, up to 256."""
    scale: float
    """Of the scores."""


@dataclass(frozen=True, eq=False)
class RelativeHeads:
    """Of an attention by content and distance; see ``native/steps_relative.h`` for the slots."""

    count: int
    layer: int
    content: FloatArray
    """Added to queries that meet keys (heads, size)."""
    position: FloatArray
    """Added to those that meet distances, likewise."""
    slot: int
    distance_slot: int


class Program:
    """Steps in the order in which they run; holds on to the memory they name."""

    def __init__(self, max_rows: int) -> None:
        """``max_rows``: of all buffers, padding included."""
        self.max_rows = max_rows
        self._steps: list[Words] = []
        self._kept: list[Any] = []
        self._table: Words | None = None

    def rows(self, width: int, pad: int = 0) -> Rows:
        """A new buffer."""
        return Rows(aligned((self.max_rows, width), np.float32), width, pad)

    def codes(self, width: int, block: int, pad: int = 0) -> Codes:
        """A new buffer for rows in eight bits."""
        blocks = -(-width // block)
        return Codes(
            aligned((self.max_rows, width), np.int8),
            aligned((self.max_rows, blocks), np.float32),
            aligned((self.max_rows, blocks), np.int32),
            width,
            block,
            pad,
        )

    def map(
        self,
        x: Rows,
        *,
        addend: Rows | None = None,
        keeps_sum: bool = False,
        gain: FloatArray | None = None,
        bias: FloatArray | None = None,
        norm: tuple[int, int] | None = None,
        epsilon: float = 1e-5,
        act: Act = Act.NONE,
        shift: tuple[int, int] | None = None,
        y: Rows | None = None,
        codes: Codes | None = None,
    ) -> None:
        """``y = act(norm(x + addend)) + shift``, in float32, in eight bits, or both.

        Args:
            x: what is read.
            addend: added first; without padding.
            keeps_sum: write ``x + addend`` back to x.
            gain: of the norm (width,); None = no norm.
            bias: of a layer norm (width,); None = root mean square norm (Zhang and Sennrich 2019).
            norm: slot with an address of floats, and how many of them come before the gain and
                bias of a layer norm that differ from call to call.
            epsilon: of the norm.
            act: activation.
            shift: added last; a place as of ``norm``.
            y: takes the result.
            codes: takes the result in eight bits; of all rows, with those of padding, where it has
                some.
        """
        width = x.width // 2 if act is Act.SILU_GATE else x.width
        slot, offset = shift or (0, 0)
        words = [x.address, x.stride, x.pad, *_place(addend)]
        words += [x.address if keeps_sum else 0, self.keep(gain), self.keep(bias)]
        words += [double_bits(epsilon), act, slot, offset, *_place(y), y.pad if y else 0]
        if codes is None:
            words += [0, 0, 0, width, width, 0]
        else:
            words += [codes.codes.ctypes.data, codes.scales.ctypes.data, codes.totals.ctypes.data]
            words += [width, codes.block, int(codes.pad > 0)]
        words += norm or (0, 0)
        self.step(Kind.ROWS, words, x, addend, y, codes)

    def product(
        self,
        x: Codes | Rows,
        matrix: Matrix,
        y: Rows,
        *,
        addend: Rows | None = None,
        group: int = 0,
        gate: tuple[int, int] | None = None,
    ) -> None:
        """``y = (x * matrix + bias) * gate + addend``; more taps make a causal convolution.

        Args:
            x: codes for a matrix in eight bits, rows for one in float32.
            matrix: its inner size is that of x, or of a group.
            y: takes the result.
            addend: added last; without padding.
            group: 0, or columns of x that 64 columns of the result depend on (grouped convolution).
            gate: slot with an address of floats, and how many of them come before those meant.
        """
        if isinstance(x, Codes):
            words = [x.codes.ctypes.data, x.scales.ctypes.data, x.totals.ctypes.data]
            kind, stride, block = Kind.PRODUCT, x.width, x.block
        else:
            words, kind, stride, block = [x.address, 0, 0], Kind.EXACT, x.stride, x.width
        words += [matrix.tiles.ctypes.data, matrix.scales.ctypes.data, self.keep(matrix.bias)]
        words += [*_place(y), y.pad, *_place(addend)]
        words += [group or x.width, block, matrix.taps, matrix.columns, x.pad, stride]
        words += [group, *(gate or (0, 0)), double_bits(matrix.unit)]
        self.step(kind, words, x, matrix, y, addend)

    def rotate(self, qkv: Rows, *, width: int, size: int, slot: int) -> None:
        """Rotate the first heads of queries and of keys, which are ``width`` columns apart."""
        self.step(Kind.ROTATE, [*_place(qkv), width, size, slot], qkv)

    def attend(self, qkv: Rows, y: Rows, *, heads: int, size: int, layer: int, slot: int) -> None:
        """Attention over cached keys and values; see ``native/steps_attend.h`` for the slots."""
        words = [*_place(qkv), *_place(y), heads, size, layer, slot]
        self.step(Kind.ATTEND, words, qkv, y)

    def causal(self, qkv: Rows, y: Rows, heads: CausalHeads, *, layer: int, slot: int) -> None:
        """Causal attention to what was appended; see ``native/steps_causal.h`` for the slots."""
        words = [*_place(qkv), *_place(y), heads.queries, heads.keys, heads.size]
        self.step(Kind.CAUSAL, [*words, layer, slot, double_bits(heads.scale)], qkv, y)

    def append(self, qkv: Rows, heads: CausalHeads, *, layer: int, slot: int) -> None:
        """Append keys and values, which ``causal`` reads, to the cache."""
        words = [*_place(qkv), 0, 0, heads.queries, heads.keys, heads.size]
        self.step(Kind.APPEND, [*words, layer, slot, double_bits(heads.scale)], qkv)

    def relative(self, qkv: Rows, y: Rows, heads: RelativeHeads) -> None:
        """Attention over cached keys and values, by content and distance."""
        size = y.width // heads.count
        words = [*_place(qkv), *_place(y), heads.count, size, heads.layer, heads.slot]
        words += [heads.distance_slot, self.keep(heads.content), self.keep(heads.position)]
        self.step(Kind.RELATIVE, [*words, double_bits(size**-0.5)], qkv, y)

    def context(self, x: Rows, slot: int, offset: int) -> None:
        """Fill the padding from a state, and keep the last rows for the next call.

        ``slot`` holds the address of the state's floats; ``offset`` counts them for one branch.
        """
        self.step(Kind.CONTEXT, [x.address, x.width, x.pad, slot, offset], x)

    def __len__(self) -> int:
        """How many steps there are."""
        return len(self._steps)

    def run(self, threads: Threads, slots: Words, first: int = 0, stop: int | None = None) -> None:
        """Run everything, or the steps from ``first`` to ``stop``."""
        if self._table is None:
            self._table = np.stack(self._steps)
        threads.run(self._table[first:stop], slots)

    def step(self, kind: Kind, words: list[Any], *kept: Any) -> None:
        """Append a step with the fields that follow its kind; hold on to ``kept``."""
        step = np.zeros(STEP_WORDS, dtype=np.int64)
        step[0] = kind
        step[1 : 1 + len(words)] = words
        self._steps.append(step)
        self._kept.extend(kept)

    def keep(self, array: FloatArray | None) -> int:
        """Address of a copy that whole tiles can be read from; 0 for None."""
        if array is None:
            return 0
        padded = np.zeros(-(-array.size // TILE) * TILE, dtype=np.float32)
        padded[: array.size] = array.reshape(-1)
        self._kept.append(padded)
        return int(padded.ctypes.data)


def _place(rows: Rows | None) -> tuple[int, int]:
    return (0, 0) if rows is None else (rows.address, rows.stride)


def double_bits(value: float) -> int:
    """A float64 as the word of a step."""
    return int(np.float64(value).view(np.int64))
