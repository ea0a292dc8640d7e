"""Operations on sequences of rows beside convolutions: sums, spectra, what the caller reads."""

from __future__ import annotations

from collections.abc import Sequence as Collection

from mynah.backends.native.kernels import Words
from mynah.backends.native.program import Kind, Program, double_bits
from mynah.backends.native.row_program import Counts, Operation, Piece, RowSequence

MOST_JOINED = 6


class Join(Operation):
    """``y = leaky(scale * (sum of inputs))``; one of them may be delayed by a row."""

    y: RowSequence

    def __init__(
        self,
        parts: Collection[RowSequence],
        y: RowSequence,
        *,
        scale: float = 1.0,
        slope: float = 1.0,
        mirrored: RowSequence | None = None,
    ) -> None:
        """``mirrored``: of the parts, that which ``Mirror`` puts a row before."""
        self.parts, self.y = tuple(parts), y
        self.scale, self.slope, self.mirrored = scale, slope, mirrored
        self.slots = 2 + len(self.parts)

    def produced(self, counts: Counts, *, final: bool) -> int:
        """See ``Operation``."""
        return min(self._length(part, counts) for part in self.parts)

    def low(self, sequence: RowSequence, counts: Counts) -> int:
        """See ``Operation``."""
        return counts[self.y.index] - (sequence is self.mirrored)

    def fill(self, slots: Words, piece: Piece) -> None:
        """See ``Operation``."""
        first, stop = piece.before[self.y.index], piece.after[self.y.index]
        slots[self.slot] = stop - first
        slots[self.slot + 1] = (first - piece.bases[self.y.index]) * self.y.width
        for index, part in enumerate(self.parts):
            at = first - (part is self.mirrored) - piece.bases[part.index]
            slots[self.slot + 2 + index] = at * part.width

    def emit(self, program: Program) -> None:
        """See ``Operation``."""
        words = [self.y.address, self.slot + 1, self.slot, self.y.width]
        words += [double_bits(self.scale), double_bits(self.slope), len(self.parts)]
        for index, part in enumerate(self.parts):
            words += [part.address, self.slot + 2 + index]
        program.step(Kind.JOIN, words, self.y, *self.parts)

    def _length(self, part: RowSequence, counts: Counts) -> int:
        rows = counts[part.index]
        if part is not self.mirrored:
            return rows
        return rows + 1 if rows > 1 else 0


class Mirror(Operation):
    """Row 1 once more before row 0, when the utterance begins: reflection by one row."""

    y = None
    slots = 3

    def __init__(self, x: RowSequence, join: Join) -> None:
        """``join`` reads x with this row."""
        self.x, self.join = x, join

    def fill(self, slots: Words, piece: Piece) -> None:
        """See ``Operation``."""
        index = self.join.y.index
        slots[self.slot] = int(piece.before[index] == 0 and piece.after[index] > 0)
        slots[self.slot + 1] = 0  # y: the row before the first one
        slots[self.slot + 2] = 2 * self.x.width

    def emit(self, program: Program) -> None:
        """See ``Operation``."""
        address, width = self.x.address, self.x.width
        words = [address, self.slot + 1, self.slot, width, double_bits(1.0), double_bits(1.0), 1]
        program.step(Kind.JOIN, [*words, address, self.slot + 2], self.x)


class Spectrum(Operation):
    """Magnitudes and angles, with or without a source that they filter, to spectra."""

    y: RowSequence
    slots = 3

    def __init__(
        self,
        x: RowSequence,
        y: RowSequence,
        *,
        bins: int,
        most: float,
        source: RowSequence | None = None,
    ) -> None:
        """``bins`` is padded to vectors; magnitudes are at most ``most``."""
        self.x, self.y, self.bins, self.most, self.source = x, y, bins, most, source

    def produced(self, counts: Counts, *, final: bool) -> int:
        """See ``Operation``."""
        rows = counts[self.x.index]
        return rows if self.source is None else min(rows, counts[self.source.index])

    def fill(self, slots: Words, piece: Piece) -> None:
        """See ``Operation``."""
        first, stop = piece.before[self.y.index], piece.after[self.y.index]
        slots[self.slot] = stop - first
        slots[self.slot + 1] = (first - piece.bases[self.x.index]) * self.x.width
        if self.source is not None:
            at = first - piece.bases[self.source.index]
            slots[self.slot + 2] = at * self.source.width

    def emit(self, program: Program) -> None:
        """See ``Operation``."""
        source = self.source
        words = [self.x.address, self.x.width, self.slot + 1, self.slot]
        words += [self.bins, double_bits(self.most)]
        words += [source.address, source.width] if source else [0, 0]
        words += [self.slot + 2, self.y.address, self.y.width]
        program.step(Kind.SPECTRUM, words, self.x, self.y, source)


class Output(Operation):
    """The caller reads the rows of x that are new."""

    y = None

    def __init__(self, x: RowSequence) -> None:
        """They begin where x's memory does."""
        self.x = x
