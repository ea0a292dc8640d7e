"""Programs of incremental convolutions: any number of rows of a sequence at a time.

Sequences are the places of a network where rows pass by in time order. A sequence keeps the rows
that its readers will need again, in the caller's state; every call computes each row that its
inputs allow, once. At the start of the utterance what stands before the first row is zero, at its
end what follows the last one. How many rows there are when is arithmetic on the lengths of the
inputs; it is done here before each call and goes to the steps through the slot table
(``native/steps_convolve.h``, ``native/steps_signal.h``).
"""

from __future__ import annotations

from collections.abc import Sequence as Collection
from dataclasses import dataclass, field

import numpy as np

from mynah.backends.native.kernels import TILE, Threads, Words, aligned
from mynah.backends.native.program import FIRST_SLOT, Kind, Program
from mynah.errors import BackendError
from mynah.types import FloatArray

STATE_SLOT = FIRST_SLOT
"""Slot with the address of the caller's kept rows."""
LANES = 16
"""Widths are multiples of this."""
_KEEP_COUNTS = 4
_SPARE_FLOATS = TILE

Counts = Collection[int]
"""Rows that a sequence has had so far, by its index."""


def padded(width: int) -> int:
    """The next multiple of ``LANES``."""
    return -(-width // LANES) * LANES


@dataclass(eq=False)
class RowSequence:
    """Rows of one place in the network."""

    index: int
    width: int
    role: str
    """Sequences of one role share memory: only one of them is in use at a time."""
    lead: int
    """Rows of memory before the first one, which its writer may spoil."""
    readers: list[Operation] = field(default_factory=list)
    capacity: int = 0
    """Rows of memory, found by ``RowProgram.build``."""
    most_kept: int = 0
    memory: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))

    @property
    def address(self) -> int:
        """Of the first row."""
        return int(self.memory.ctypes.data) + 4 * self.lead * self.width

    def rows(self, first: int, count: int) -> FloatArray:
        """Some rows as they lie in memory."""
        begin = (self.lead + first) * self.width
        return self.memory[begin : begin + count * self.width].reshape(count, self.width)

    def base(self, counts: Counts) -> int:
        """The first row that somebody will read again."""
        return min(reader.low(self, counts) for reader in self.readers)


@dataclass(frozen=True)
class Piece:
    """One run: how many rows every sequence had before, and has afterwards."""

    before: Counts
    after: Counts
    final: bool
    bases: Counts
    """Of every sequence: the row that lies first in memory."""


class Operation:
    """What makes the rows of sequence ``y`` from those of others, each from one of each."""

    y: RowSequence | None
    """None: the operation makes no sequence of its own."""
    slot: int
    """Its first one."""
    slots = 0
    """How many it needs."""
    reads_beyond = False
    """Whether it may read rows that do not exist, as zeros."""

    def produced(self, counts: Counts, *, final: bool) -> int:
        """Rows of ``y`` that the inputs allow."""
        return 0

    def low(self, sequence: RowSequence, counts: Counts) -> int:
        """The first row of an input that is read again when ``counts`` are done."""
        return counts[sequence.index if self.y is None else self.y.index]

    def high(self, sequence: RowSequence, piece: Piece) -> int:
        """The row behind the last one that is read in a run; rows may be missing at the end."""
        return 0

    def measure(self, piece: Piece) -> None:
        """Grow own memory as far as a run needs it; ``y``'s for rows beyond its own."""

    def fill(self, slots: Words, piece: Piece) -> None:
        """Set the slots for a run."""

    def emit(self, program: Program) -> None:
        """Append the steps."""


class RowProgram:
    """Sequences and operations in the order in which they run."""

    def __init__(self) -> None:
        """Begin with none."""
        self.sequences: list[RowSequence] = []
        self.operations: list[Operation] = []
        self.roles: dict[str, int] = {}
        self._inputs: list[RowSequence] = []
        self._program = Program(0)
        self._slots = STATE_SLOT + 1
        self._keeps: list[tuple[RowSequence, int]] = []
        self.state_floats = 0
        """Size of the caller's kept rows, known after ``build``."""

    def sequence(self, width: int, role: str, lead: int = 0) -> RowSequence:
        """A new one; ``width`` may be any for inputs, and a multiple of ``LANES`` for others."""
        made = RowSequence(len(self.sequences), width, role, lead)
        self.sequences.append(made)
        return made

    def input(self, width: int, role: str) -> RowSequence:
        """A sequence whose new rows the caller writes, behind the kept ones."""
        made = self.sequence(width, role)
        self._inputs.append(made)
        return made

    def add(self, operation: Operation, *inputs: RowSequence) -> None:
        """Append an operation that reads these sequences."""
        for sequence in inputs:
            sequence.readers.append(operation)
        operation.slot = self._slots
        self._slots += operation.slots
        self.operations.append(operation)

    def advance(self, lengths: Counts, *, final: bool) -> list[int]:
        """Rows of all sequences for so many rows of the inputs."""
        counts = [0] * len(self.sequences)
        for sequence, length in zip(self._inputs, lengths, strict=True):
            counts[sequence.index] = length
        for operation in self.operations:
            if operation.y is not None:
                counts[operation.y.index] = operation.produced(counts, final=final)
        return counts

    def piece(self, before: Counts, after: Counts, *, final: bool) -> Piece:
        """A run from ``before`` to ``after``."""
        return Piece(before, after, final, [s.base(before) for s in self.sequences])

    def build(self, pieces: Collection[Piece]) -> None:
        """Take memory for the largest of these runs, and write the steps down."""
        for piece in pieces:
            for sequence in self.sequences:
                kept, new, now, zeros = self._keep_counts(sequence, piece)
                sequence.capacity = max(sequence.capacity, kept + new + zeros)
                sequence.most_kept = max(sequence.most_kept, kept, now)
            for operation in self.operations:
                operation.measure(piece)
        sizes: dict[str, int] = {}
        for sequence in self.sequences:
            size = (sequence.lead + sequence.capacity) * sequence.width + _SPARE_FLOATS
            sizes[sequence.role] = max(sizes.get(sequence.role, 0), size)
        memories = {role: aligned((size,), np.float32) for role, size in sizes.items()}
        for sequence in self.sequences:
            sequence.memory = memories[sequence.role]
        for sequence in self._inputs:
            self._emit_keep(sequence)
        last = {operation.y: operation for operation in self.operations if operation.y is not None}
        for operation in self.operations:
            operation.emit(self._program)
            if operation.y is not None and last[operation.y] is operation:
                self._emit_keep(operation.y)

    def run(self, threads: Threads, piece: Piece, state: FloatArray) -> None:
        """Compute a piece; the inputs' new rows are in place.

        Raises:
            BackendError: if the piece is larger than those that were planned for.
        """
        slots = np.zeros(self._slots, dtype=np.int64)
        slots[STATE_SLOT] = state.ctypes.data
        for sequence, slot in self._keeps:
            counts = self._keep_counts(sequence, piece)
            if sum(counts) - counts[2] > sequence.capacity:
                raise BackendError(
                    f"{counts[1]} rows are too many for a native program at once",
                    hint="this is a bug in mynah; please report it",
                )
            slots[slot : slot + _KEEP_COUNTS] = counts
        for operation in self.operations:
            operation.fill(slots, piece)
        self._program.run(threads, slots)

    def _keep_counts(self, sequence: RowSequence, piece: Piece) -> tuple[int, int, int, int]:
        """Rows kept before, new ones, rows to keep now, and zeros that follow."""
        index = sequence.index
        before, after = piece.before[index], piece.after[index]
        now = 0 if piece.final else after - sequence.base(piece.after)
        high = max(reader.high(sequence, piece) for reader in sequence.readers)
        return before - piece.bases[index], after - before, now, max(high - after, 0)

    def _emit_keep(self, sequence: RowSequence) -> None:
        if not sequence.most_kept and not any(r.reads_beyond for r in sequence.readers):
            return
        words = [sequence.address, sequence.width, self._slots, STATE_SLOT, self.state_floats]
        self._program.step(Kind.KEEP, words, sequence)
        self._keeps.append((sequence, self._slots))
        self._slots += _KEEP_COUNTS
        self.state_floats += sequence.most_kept * sequence.width
