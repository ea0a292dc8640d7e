"""Incremental operations on rows, in any pieces, against NumPy on the whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynah.backends.native.kernels import AnyArray, Threads, instruction_sets
from mynah.backends.native.matrices import pack_floats
from mynah.backends.native.row_convolutions import (
    ELU,
    LEAKY,
    MOST_DISTANCE,
    PLAIN,
    Convolution,
    DoubleConvolution,
    FoldedConvolution,
    Scratch,
    Snake,
    Window,
    fold_kernel,
    pack_doubles,
)
from mynah.backends.native.row_operations import Join, Mirror, Output, Spectrum
from mynah.backends.native.row_program import RowProgram, RowSequence, padded
from mynah.errors import BackendError
from mynah.types import FloatArray

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="the kernels were not built")

feedings = st.lists(st.integers(0, 30), max_size=6)
lengths = st.integers(0, 90)
seeds = st.integers(0, 9)


@pytest.fixture(scope="module", params=instruction_sets())
def threads(request: pytest.FixtureRequest) -> Threads:
    return Threads(2, request.param)


class Net:
    """A program with one input and one output, and what it makes of rows fed in pieces."""

    def __init__(self, width: int) -> None:
        self.program = RowProgram()
        self.x = self.program.input(width, "x")

    def sequence(self, width: int) -> RowSequence:
        return self.program.sequence(width, f"y{len(self.program.sequences)}")

    def stream(
        self, y: RowSequence, rows: AnyArray, feeding: Sequence[int], threads: Threads
    ) -> FloatArray:
        program, values = self.program, rows.view(np.float32)
        program.add(Output(y), y)
        ends = [*np.minimum(np.cumsum(feeding, dtype=int), len(rows)).tolist(), len(rows)]
        counts, pieces = [0] * len(program.sequences), []
        for index, end in enumerate(ends):
            final = index == len(ends) - 1
            after = program.advance([end], final=final)
            pieces.append(program.piece(counts, after, final=final))
            counts = after
        program.build(pieces)
        kept, made = np.zeros(program.state_floats, np.float32), []
        for piece in pieces:
            first, stop = piece.before[self.x.index], piece.after[self.x.index]
            place = self.x.rows(first - piece.bases[self.x.index], stop - first)
            place[:, : values.shape[1]] = values[first:stop]
            for sequence in program.sequences:  # what another program may have left behind
                if sequence is not self.x:
                    sequence.memory[:] = np.nan
            program.run(threads, piece, kept)
            count = piece.after[y.index] - piece.before[y.index]
            made.append(y.rows(0, count).copy())
        return np.concatenate(made)


def windows(rows: AnyArray, window: Window, distance: int = 1) -> AnyArray:
    """(results, taps, width) float64, with zeros outside of the rows."""
    zeros = [(window.left, window.right), (0, 0)]
    whole = np.pad(rows.astype(np.float64), zeros)
    count = window.count(len(rows), final=True)
    taps = range(0, window.rows, distance)
    ends = window.stride * max(count - 1, 0) + 1
    parts = [whole[tap : tap + ends : window.stride][:count] for tap in taps]
    return np.stack(parts, axis=1)


@given(
    count=lengths,
    feeding=feedings,
    columns=st.integers(1, 150),
    inner=st.integers(1, 40),
    left=st.integers(0, 6),
    right=st.integers(0, 6),
    stride=st.integers(1, 4),
    act=st.sampled_from([PLAIN, LEAKY, ELU]),
    seed=seeds,
)
def test_convolution(
    threads: Threads,
    count: int,
    feeding: list[int],
    columns: int,
    inner: int,
    left: int,
    right: int,
    stride: int,
    act: int,
    seed: int,
) -> None:
    rng, size = np.random.default_rng(seed), max(left + 1 + right, stride)
    rows = rng.standard_normal((count, inner)).astype(np.float32)
    weight = rng.standard_normal((columns, size, inner)).astype(np.float32)
    bias = rng.standard_normal(columns).astype(np.float32)
    net, window = Net(inner), Window(size, left, right, stride)
    y = net.sequence(padded(columns))
    matrix = pack_floats(weight.reshape(columns, -1), bias=bias)
    net.program.add(Convolution(net.x, y, window, matrix, act=act, slope=0.1), net.x)
    expected = np.einsum("rtc,ntc->rn", windows(rows, window), weight) + bias
    low = {PLAIN: expected, LEAKY: 0.1 * expected, ELU: np.expm1(np.minimum(expected, 0))}
    expected = np.where(expected > 0, expected, low[act])
    made = net.stream(y, rows, feeding, threads)
    np.testing.assert_allclose(made[:, :columns], expected, rtol=0, atol=2e-4)
    assert not made[:, columns:].any()


@given(count=lengths, feeding=feedings, rate=st.integers(2, 5), taps=st.integers(1, 3), seed=seeds)
def test_a_higher_rate_without_the_first_rows(
    threads: Threads, count: int, feeding: list[int], rate: int, taps: int, seed: int
) -> None:
    """A transposed convolution: each row adds its kernel at its place, and both ends are cut."""
    cut = (taps - 1) * rate // 2
    rng, width = np.random.default_rng(seed), 16
    rows = rng.standard_normal((count, width)).astype(np.float32)
    kernel = rng.standard_normal((taps * rate, width, width)).astype(np.float32)
    expected = np.zeros(((count + taps) * rate, width))
    for index, row in enumerate(rows):
        expected[index * rate : (index + taps) * rate] += kernel @ row
    expected = expected[cut : cut + count * rate]
    by_phase = kernel.reshape(taps, rate, width, width)[::-1].transpose(1, 2, 0, 3)
    net = Net(width)
    y = net.program.sequence(width, "y", lead=cut)
    window = Window(taps, taps - 1, -(-cut // rate))
    matrix = pack_floats(by_phase.reshape(rate * width, -1))
    net.program.add(Convolution(net.x, y, window, matrix, rate=rate, cut=cut), net.x)
    made = net.stream(y, rows, feeding, threads)
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-4)


@given(
    count=lengths,
    feeding=feedings,
    channels=st.integers(1, 100),
    half=st.integers(0, 6),
    distance=st.integers(1, MOST_DISTANCE),
    causal=st.booleans(),
    seed=seeds,
)
def test_residual_unit_of_a_folded_convolution(
    threads: Threads,
    count: int,
    feeding: list[int],
    channels: int,
    half: int,
    distance: int,
    causal: bool,
    seed: int,
) -> None:
    rng, taps, width = np.random.default_rng(seed), 2 * half + 1, padded(channels)
    rows = rng.standard_normal((count, channels)).astype(np.float32)
    weight = rng.standard_normal((channels, channels, taps)).astype(np.float32)
    weight /= np.sqrt(channels * taps)
    bias, alpha = rng.standard_normal((2, channels)).astype(np.float32)
    alpha *= 10
    reach = distance * (taps - 1)
    right = 0 if causal else reach // 2
    window = Window(reach + 1, reach - right, right)
    net = Net(width)
    y = net.sequence(width)
    spread = np.zeros((2, width), np.float32)
    spread[:, :channels] = alpha, 1 / alpha
    operation = FoldedConvolution(
        net.x, y, window, fold_kernel(weight, width, bias), snake=Snake(*spread),
        distance=distance, scratch=Scratch(), addend=net.x,
    )  # fmt: skip
    net.program.add(operation, net.x)
    snake = rows + np.sin(alpha.astype(np.float64) * rows) ** 2 / alpha
    expected = np.einsum("rtc,nct->rn", windows(snake, window, distance), weight) + bias + rows
    made = net.stream(y, rows, feeding, threads)
    size = max(1.0, np.abs(snake).max(initial=0))
    np.testing.assert_allclose(made[:, :channels], expected, rtol=0, atol=2e-5 * size)


def test_kernels_are_kept_unfolded() -> None:
    """Of 11 taps 12, not the 21 products that they become; those are in memory that all share."""
    scratch, width, kernels = Scratch(), 32, []
    net = Net(width)
    for taps in (3, 11, 7):
        weight = np.ones((width, width, taps), np.float32)
        kernels.append(fold_kernel(weight, width, np.zeros(width, np.float32)))
        FoldedConvolution(
            net.x, net.sequence(width), Window(taps, taps - 1, 0), kernels[-1],
            snake=Snake(np.ones(width, np.float32), np.ones(width, np.float32)),
            distance=1, scratch=scratch,
        )  # fmt: skip
    tile = 64 * width
    assert [kernel.tiles.size for kernel in kernels] == [4 * tile, 12 * tile, 8 * tile]
    assert scratch.kernel_floats == 21 * tile


@given(
    count=lengths,
    feeding=feedings,
    columns=st.integers(1, 40),
    inner=st.integers(1, 40),
    right=st.integers(0, 4),
    act=st.sampled_from([PLAIN, ELU]),
    seed=seeds,
)
def test_double_precision(
    threads: Threads,
    count: int,
    feeding: list[int],
    columns: int,
    inner: int,
    right: int,
    act: int,
    seed: int,
) -> None:
    rng, width, window = np.random.default_rng(seed), padded(inner), Window(3 + right, 2, right)
    rows = np.zeros((count, width))
    rows[:, :inner] = rng.standard_normal((count, inner))
    weight = rng.standard_normal((columns, window.rows, width))
    bias = rng.standard_normal(columns)
    net = Net(2 * width)
    y = net.sequence(2 * padded(columns))
    matrix = pack_doubles(weight.reshape(columns, -1), bias)
    net.program.add(DoubleConvolution(net.x, y, window, matrix, act=act), net.x)
    expected = np.einsum("rtc,ntc->rn", windows(rows, window), weight) + bias
    if act == ELU:
        expected = np.where(expected > 0, expected, np.expm1(np.minimum(expected, 0)))
    made = net.stream(y, rows, feeding, threads).view(np.float64)
    np.testing.assert_allclose(made[:, :columns], expected, rtol=0, atol=1e-12)


@given(count=st.integers(2, 60), feeding=feedings, delays=st.lists(st.integers(0, 9), min_size=1))
def test_sum_of_branches_of_different_delay(
    threads: Threads, count: int, feeding: list[int], delays: list[int]
) -> None:
    """What is ahead waits; the first branch is reflected by one row at the start."""
    rows = np.random.default_rng(0).standard_normal((count, 16)).astype(np.float32)
    net, delays = Net(16), delays[:6]
    unit = pack_floats(np.eye(16, dtype=np.float32))
    branches = []
    for delay in delays:
        # reads only the newest row of a window that reaches so far to the right, moved back
        branch = net.sequence(16)
        matrix = np.zeros((16, 2 * delay + 1, 16), np.float32)
        matrix[:, delay] = np.eye(16)
        packed = pack_floats(matrix.reshape(16, -1)) if delay else unit
        window = Window(2 * delay + 1, delay, delay)
        net.program.add(Convolution(net.x, branch, window, packed), net.x)
        branches.append(branch)
    y = net.sequence(16)
    join = Join(branches, y, scale=0.5, slope=0.25, mirrored=branches[0])
    net.program.add(Mirror(branches[0], join), branches[0])
    net.program.add(join, *branches)
    first = np.concatenate([rows[1:2], rows])
    others = len(delays) - 1
    total = first[: len(rows) if others else None] + others * (rows if others else 0)
    expected = np.where(total > 0, 0.5, 0.125) * total
    np.testing.assert_allclose(net.stream(y, rows, feeding, threads), expected, atol=1e-6)


@given(count=st.integers(1, 150), scale=st.sampled_from([1.0, 30.0, 5000.0]), source=st.booleans())
def test_spectra(threads: Threads, count: int, scale: float, source: bool) -> None:
    rng, bins, most = np.random.default_rng(count), 16, 20.0
    rows = rng.standard_normal((count, 7 * bins)).astype(np.float32)
    rows[:, bins : 2 * bins] *= scale
    net = Net(7 * bins)
    parts = [net.sequence(3 * bins), net.sequence(4 * bins)]
    for index, part in enumerate(parts):
        picked = np.eye(7 * bins, dtype=np.float32)[3 * bins * index :][: part.width]
        net.program.add(Convolution(net.x, part, Window(1, 0, 0), pack_floats(picked)), net.x)
    y, filtered = net.sequence(2 * bins), parts[1] if source else None
    operation = Spectrum(parts[0], y, bins=bins, most=most, source=filtered)
    net.program.add(operation, *(parts if source else parts[:1]))
    if not source:
        net.program.add(Output(parts[1]), parts[1])
    gain, angle, noise, *spectra = rows.astype(np.float64).reshape(count, 7, bins).swapaxes(0, 1)
    size = np.minimum(np.exp(gain), most)
    expected = size * np.exp(1j * (angle if source else np.sin(angle)))
    if source:
        expected = expected * (spectra[0] + 1j * spectra[1])
        expected += np.minimum(np.exp(noise), most) * (spectra[2] + 1j * spectra[3])
    made = net.stream(y, rows, [count // 2], threads)
    whole = np.concatenate([expected.real, expected.imag], axis=1)
    np.testing.assert_allclose(made, whole, rtol=0, atol=1e-4)


def test_more_rows_than_planned_are_refused(threads: Threads) -> None:
    net = Net(16)
    y = net.sequence(16)
    matrix = pack_floats(np.eye(16, dtype=np.float32))
    net.program.add(Convolution(net.x, y, Window(1, 0, 0), matrix), net.x)
    net.stream(y, np.ones((5, 16), np.float32), [], threads)
    counts = net.program.advance([6], final=True)
    piece = net.program.piece([0] * len(counts), counts, final=True)
    with pytest.raises(BackendError, match="too many"):
        net.program.run(threads, piece, np.zeros(0, np.float32))
