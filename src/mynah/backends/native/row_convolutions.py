"""Convolutions of sequences of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mynah.backends.native.kernels import TILE, AnyArray, Words, aligned
from mynah.backends.native.matrices import Matrix
from mynah.backends.native.program import Kind, Program, double_bits
from mynah.backends.native.row_program import Counts, Operation, Piece, RowSequence, padded
from mynah.types import FloatArray

PLAIN, LEAKY, ELU = 0, 1, 2
MOST_DISTANCE = 16
_DOUBLE_TILE = 16

POINTS, OUTPUTS = 7, 4
"""Of the folded convolution: products for so many outputs by so many taps."""


@dataclass(frozen=True)
class Window:
    """What one row of a convolution's result reads."""

    rows: int
    left: int
    """Zeros before the first row of the utterance."""
    right: int
    """Zeros behind the last one."""
    stride: int = 1

    def count(self, rows: int, *, final: bool) -> int:
        """Results that so many rows allow."""
        length = rows + self.left + (self.right if final else 0)
        return max((length - self.rows) // self.stride + 1, 0)


class Convolution(Operation):
    """``y = act(matrix * windows of x + bias) + addend``, by products alone."""

    y: RowSequence
    slots = 4
    reads_beyond = True

    def __init__(
        self,
        x: RowSequence,
        y: RowSequence,
        window: Window,
        matrix: Matrix,
        *,
        act: int = PLAIN,
        slope: float = 1.0,
        addend: RowSequence | None = None,
        rate: int = 1,
        cut: int = 0,
        column: int = 0,
    ) -> None:
        """With ``rate`` a result is so many rows of y, of which the first ``cut`` do not exist.

        ``column``: of y where the result begins.
        """
        self.x, self.y, self.window, self.matrix = x, y, window, matrix
        self.act, self.slope, self.addend = act, slope, addend
        self.rate, self.cut, self.column = rate, cut, column

    def results(self, piece: Piece) -> tuple[int, int]:
        """How many there were before a run, and afterwards."""
        before, after = (counts[self.x.index] for counts in (piece.before, piece.after))
        first = self.window.count(before, final=False)
        return first, self.window.count(after, final=piece.final)

    def produced(self, counts: Counts, *, final: bool) -> int:
        """See ``Operation``."""
        rows = counts[self.x.index]
        made = max(self.rate * self.window.count(rows, final=final) - self.cut, 0)
        return min(made, self.rate * rows) if self.rate > 1 else made

    def low(self, sequence: RowSequence, counts: Counts) -> int:
        """See ``Operation``."""
        if sequence is not self.x:  # the addend
            return counts[self.y.index]
        made = self.window.count(counts[self.x.index], final=False)
        first = made * self.window.stride - self.window.left
        return min(first, made) if sequence is self.addend else first

    def high(self, sequence: RowSequence, piece: Piece) -> int:
        """See ``Operation``."""
        first, stop = self.results(piece)
        if stop <= first:
            return 0
        if sequence is not self.x:
            return stop
        return (stop - 1) * self.window.stride - self.window.left + self.window.rows

    def measure(self, piece: Piece) -> None:
        """See ``Operation``."""
        spilled = self.rate * self.results(piece)[1] - self.cut - piece.bases[self.y.index]
        self.y.capacity = max(self.y.capacity, spilled)

    def fill(self, slots: Words, piece: Piece) -> None:
        """See ``Operation``."""
        first, stop = self.results(piece)
        x, y, window = self.x, self.y, self.window
        start = first * window.stride - window.left - piece.bases[x.index]
        slots[self.slot] = max(stop - first, 0)
        slots[self.slot + 1] = start * x.width
        row = self.rate * first - self.cut - piece.bases[y.index]
        slots[self.slot + 2] = row * y.width + self.column
        if self.addend is not None:
            at = first - piece.bases[self.addend.index]
            slots[self.slot + 3] = at * self.addend.width

    def emit(self, program: Program) -> None:
        """See ``Operation``."""
        place = (self.x.address, self.window.stride * self.x.width, self.slot + 1, 0)
        sizes = (self.window.rows * self.x.width, 0, 1)
        self._emit(program, place, sizes, self.matrix.tiles.ctypes.data)

    def _emit(
        self,
        program: Program,
        place: tuple[int, int, int, int],
        sizes: tuple[int, int, int],
        tiles: int,
    ) -> None:
        y, addend, matrix = self.y, self.addend, self.matrix
        words = [*place, self.slot, *sizes, padded(matrix.columns), tiles]
        words += [program.keep(matrix.bias), self.act, double_bits(self.slope)]
        words += [addend.address, addend.width] if addend else [0, 0]
        words += [self.slot + 3, y.address, y.width * self.rate, self.slot + 2]
        program.step(Kind.CONVOLVE, words, self.x, y, addend, matrix)


class DoubleConvolution(Convolution):
    """A convolution in double precision; sequences are twice as wide, for two floats a number."""

    def emit(self, program: Program) -> None:
        """See ``Operation``."""
        x, y, matrix = self.x, self.y, self.matrix
        assert matrix.bias is not None  # see pack_doubles
        words = [x.address, self.window.stride * x.width, self.slot + 1, 0, self.slot]
        words += [self.window.rows * x.width, 0, 1, padded(matrix.columns)]
        words += [matrix.tiles.ctypes.data, matrix.bias.ctypes.data, self.act]
        words += [double_bits(self.slope), 0, 0, self.slot + 3]
        program.step(Kind.DOUBLE, [*words, y.address, y.width, self.slot + 2], x, y, matrix)


def pack_doubles(matrix: AnyArray, bias: AnyArray) -> Matrix:
    """A matrix (N, K) and its bias (N,) in float64."""
    columns, inner = matrix.shape
    tiles = -(-columns // _DOUBLE_TILE)
    spread = np.zeros((tiles * _DOUBLE_TILE, inner), np.float64)
    spread[:columns] = matrix
    packed = aligned((tiles, inner, _DOUBLE_TILE), np.float64)
    packed[:] = spread.reshape(tiles, _DOUBLE_TILE, inner).transpose(0, 2, 1)
    biases = aligned((tiles * _DOUBLE_TILE,), np.float64)
    biases[:columns] = bias
    return Matrix(packed, np.zeros(0, np.float32), biases, columns, 1)


class Scratch:
    """Memory for folded rows and kernels, shared by operations that follow each other."""

    def __init__(self) -> None:
        """Begin with none."""
        self.floats = 0
        """For rows."""
        self.kernel_floats = 0
        self._memory: FloatArray | None = None

    @property
    def address(self) -> int:
        """Of all that was asked for; kernels come first."""
        if self._memory is None:
            self._memory = aligned((self.kernel_floats + self.floats + TILE,), np.float32)
        return int(self._memory.ctypes.data)


@dataclass(frozen=True, eq=False)
class Snake:
    """x + sin(alpha x)^2 * inverse."""

    alpha: FloatArray
    inverse: FloatArray


class FoldedConvolution(Convolution):
    """A convolution of snake(x) with few products; ``matrix`` is of ``fold_kernel``."""

    def __init__(
        self,
        x: RowSequence,
        y: RowSequence,
        window: Window,
        matrix: Matrix,
        *,
        snake: Snake,
        distance: int,
        scratch: Scratch,
        addend: RowSequence | None = None,
    ) -> None:
        """``distance`` is that of the taps, at most ``MOST_DISTANCE``."""
        super().__init__(x, y, window, matrix, addend=addend)
        self.snake, self.distance, self.scratch = snake, distance, scratch
        self.groups = -(-((window.rows - 1) // distance + 1) // OUTPUTS)
        self._tile_rows = 0
        # four taps become the values at seven points
        scratch.kernel_floats = max(scratch.kernel_floats, matrix.tiles.size // OUTPUTS * POINTS)

    def high(self, sequence: RowSequence, piece: Piece) -> int:
        """See ``Operation``."""
        first, stop = self.results(piece)
        if sequence is not self.x or stop <= first:
            return super().high(sequence, piece)
        rows = OUTPUTS * self._tiles(stop - first) + (POINTS - OUTPUTS) * self.distance
        return first - self.window.left + rows

    def measure(self, piece: Piece) -> None:
        """See ``Operation``."""
        super().measure(piece)
        first, stop = self.results(piece)
        self._tile_rows = max(self._tile_rows, self._tiles(stop - first))
        self.scratch.floats = max(self.scratch.floats, POINTS * self._tile_rows * self.x.width)

    def emit(self, program: Program) -> None:
        """See ``Operation``."""
        x, taps, scratch = self.x, self.matrix.tiles, self.scratch
        point, rows = self._tile_rows * x.width, scratch.address + 4 * scratch.kernel_floats
        words = [x.address, x.width, self.slot + 1, self.slot, x.width, self.distance, self.groups]
        words += [program.keep(self.snake.alpha), program.keep(self.snake.inverse)]
        words += [rows, point, taps.ctypes.data, len(taps), scratch.address]
        program.step(Kind.FOLD, words, x, scratch)
        place = (rows, x.width, self.slot + 1, point)
        self._emit(program, place, (x.width, self.distance, self.groups), scratch.address)

    def _tiles(self, results: int) -> int:
        """Rows of tiles that are read for so many results."""
        blocks = -(-results // (OUTPUTS * self.distance)) + self.groups - 1
        return blocks * self.distance


def fold_kernel(weight: FloatArray, width: int, bias: FloatArray) -> Matrix:
    """Pack (N, C, taps) for a folded convolution of rows ``width`` wide; the kernels fold it."""
    columns, inner, taps = weight.shape
    tiles, groups = -(-columns // TILE), -(-taps // OUTPUTS)
    spread = np.zeros((tiles * TILE, groups * OUTPUTS, width), dtype=np.float32)
    spread[:columns, :taps, :inner] = weight.swapaxes(1, 2)
    packed = aligned((tiles, groups, width, OUTPUTS, TILE), np.float32)
    packed[:] = spread.reshape(tiles, TILE, groups, OUTPUTS, width).transpose(0, 2, 4, 3, 1)
    return Matrix(packed, np.zeros(0, np.float32), bias, columns, 1)
