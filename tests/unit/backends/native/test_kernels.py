"""Every step of a program, with every set of kernels that this machine runs, against NumPy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.backends.native.kernels import TILE, Threads, aligned, instruction_sets
from mynah.backends.native.matrices import pack_codes, pack_floats
from mynah.backends.native.program import (
    FIRST_SLOT,
    Act,
    CausalHeads,
    Codes,
    Program,
    Rows,
)
from mynah.backends.native.segments import POSITIONS
from mynah.types import FloatArray
from tests.unit.backends.native.programs import attention, slots_of

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="the kernels were not built")

MULTIPLE = 16
quick = settings(max_examples=25, deadline=None)


@pytest.fixture(scope="module", params=instruction_sets())
def threads(request: pytest.FixtureRequest) -> Threads:
    return Threads(2, request.param)


def up(size: int) -> int:
    return -(-size // MULTIPLE) * MULTIPLE


@dataclass(frozen=True)
class Sizes:
    """Of a product; ``inner`` elements for each of ``taps``."""

    frames: int
    branches: int
    inner: int
    block: int
    taps: int
    columns: int
    seed: int

    @property
    def rows(self) -> int:
        return self.branches * (self.frames + self.taps - 1)


@st.composite
def product_sizes(draw: st.DrawFn) -> Sizes:
    inner = MULTIPLE * draw(st.integers(1, 9))
    return Sizes(
        draw(st.integers(1, 70)),
        draw(st.integers(1, 3)),
        inner,
        draw(st.sampled_from([inner, MULTIPLE, 2 * MULTIPLE, 5 * MULTIPLE])),
        draw(st.integers(1, 4)),
        draw(st.integers(1, 200)),
        draw(st.integers(0, 1000)),
    )


def neighbours(x: FloatArray, sizes: Sizes) -> FloatArray:
    """Rows with padding to rows of all taps (frames of all branches, taps * inner)."""
    by_branch = x.reshape(sizes.branches, sizes.frames + sizes.taps - 1, -1)
    taps = [by_branch[:, tap : tap + sizes.frames] for tap in range(sizes.taps)]
    return np.concatenate(taps, axis=-1).reshape(sizes.branches * sizes.frames, -1)


@quick
@given(sizes=product_sizes(), signed=st.booleans(), more=st.booleans())
def test_products_in_eight_bits(threads: Threads, sizes: Sizes, signed: bool, more: bool) -> None:
    rng = np.random.default_rng(sizes.seed)
    program, pad = Program(sizes.rows), sizes.taps - 1
    x = program.rows(sizes.inner, pad)
    codes = program.codes(sizes.inner, sizes.block, pad)
    y = Rows(aligned((sizes.rows, up(sizes.columns)), np.float32), sizes.columns)
    added = Rows(aligned((sizes.rows, up(sizes.columns)), np.float32), sizes.columns)
    added.memory[:] = rng.standard_normal(added.memory.shape)
    x.memory[:] = rng.standard_normal(x.memory.shape)
    weights = rng.integers(-128, 128, (sizes.columns, sizes.taps * sizes.inner)).astype(np.int8)
    blocks = -(-sizes.inner // sizes.block)
    scales = rng.uniform(0.001, 0.01, (sizes.columns, sizes.taps * blocks)).astype(np.float32)
    scales = scales.astype(np.float16).astype(np.float32)  # as those of several blocks are kept
    bias = rng.standard_normal(sizes.columns).astype(np.float32)
    stored = weights if signed else (weights.astype(np.int16) + 128).astype(np.uint8)
    matrix = pack_codes(
        stored, scales, block=sizes.block, taps=sizes.taps, bias=bias if more else None
    )
    program.map(x, codes=codes)
    program.product(codes, matrix, y, addend=added if more else None)
    program.run(threads, slots_of(sizes.frames, sizes.branches))

    block_of = np.arange(sizes.inner) // sizes.block
    rows = codes.codes * codes.scales[:, block_of]
    spread = np.concatenate([block_of + tap * blocks for tap in range(sizes.taps)])
    wanted = neighbours(rows, sizes).astype(np.float64) @ (weights * scales[:, spread]).T
    count = sizes.frames * sizes.branches
    if more:
        wanted += bias + added.memory[:count, : sizes.columns]
    np.testing.assert_allclose(y.memory[:count, : sizes.columns], wanted, atol=3e-4)
    assert not y.memory[count:].any()


@quick
@given(sizes=product_sizes(), transposed=st.booleans())
def test_products_in_floats(threads: Threads, sizes: Sizes, transposed: bool) -> None:
    rng = np.random.default_rng(sizes.seed)
    program = Program(sizes.rows)
    x = program.rows(sizes.inner, sizes.taps - 1)
    y = Rows(aligned((sizes.rows, up(sizes.columns)), np.float32), sizes.columns)
    x.memory[:] = rng.standard_normal(x.memory.shape)
    weights = rng.standard_normal((sizes.columns, sizes.taps * sizes.inner)).astype(np.float32)
    stored = np.asfortranarray(weights) if transposed else weights
    program.product(x, pack_floats(stored, taps=sizes.taps), y)
    program.run(threads, slots_of(sizes.frames, sizes.branches))
    wanted = neighbours(x.memory, sizes).astype(np.float64) @ weights.T
    count = sizes.frames * sizes.branches
    np.testing.assert_allclose(y.memory[:count, : sizes.columns], wanted, atol=2e-4)


@pytest.mark.parametrize("taps", [1, 3])
def test_products_write_beside_the_padding_of_their_output(threads: Threads, taps: int) -> None:
    sizes = Sizes(7, 2, 32, 32, taps, 48, 0)
    program = Program(sizes.branches * (sizes.frames + 2))
    x = program.rows(32, taps - 1)
    y = program.rows(48, 2)
    y.memory[:] = -1.0
    weights = np.zeros((48, taps * 32), np.float32)
    program.product(x, pack_floats(weights, taps=taps), y)
    program.run(threads, slots_of(sizes.frames, sizes.branches))
    by_branch = y.memory.reshape(sizes.branches, sizes.frames + 2, 48)
    assert (by_branch[:, :2] == -1.0).all()
    assert not by_branch[:, 2:].any()


def erf(x: FloatArray) -> FloatArray:
    return np.vectorize(math.erf)(x)


ACTIVATIONS = {
    Act.NONE: lambda x: x,
    Act.MISH: lambda x: x * np.tanh(np.logaddexp(0, x)),
    Act.GELU: lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))),
    Act.GELU_TANH: lambda x: (
        x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    Act.SILU: lambda x: x / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_activations(threads: Threads, act: Act) -> None:
    program = Program(4)
    x, y = program.rows(256), program.rows(256)
    x.memory[:] = np.linspace(-30, 30, x.memory.size).reshape(x.memory.shape)
    x.memory[0, :3] = 0.0, -1e-12, 1e-12
    program.map(x, act=act, y=y)
    program.run(threads, slots_of(4))
    wanted = ACTIVATIONS[act](x.memory.astype(np.float64))
    np.testing.assert_allclose(y.memory, wanted, atol=3e-6, rtol=2e-6)


def test_gates(threads: Threads) -> None:
    program = Program(9)
    x, y = program.rows(64), program.rows(32)
    x.memory[:] = np.random.default_rng(0).standard_normal(x.memory.shape)
    program.map(x, act=Act.SILU_GATE, y=y)
    program.run(threads, slots_of(9))
    gate, passed = x.memory[:, :32], x.memory[:, 32:]
    np.testing.assert_allclose(y.memory, ACTIVATIONS[Act.SILU](gate) * passed, atol=1e-6)


@quick
@given(
    frames=st.integers(1, 40),
    branches=st.integers(1, 3),
    width=st.integers(1, 20).map(lambda n: MULTIPLE * n),
    norm=st.sampled_from(["none", "layer", "root mean square"]),
    adds=st.booleans(),
    pads=st.tuples(st.integers(0, 2), st.integers(0, 3)),
)
def test_rows(
    threads: Threads,
    frames: int,
    branches: int,
    width: int,
    norm: str,
    adds: bool,
    pads: tuple[int, int],
) -> None:
    rng = np.random.default_rng(width)
    program = Program(branches * (frames + max(pads)))
    x, y, added = program.rows(width, pads[0]), program.rows(width, pads[1]), program.rows(width)
    for rows in (x, y, added):
        rows.memory[:] = rng.standard_normal(rows.memory.shape)
    gain, bias, shifts = (
        rng.standard_normal(size).astype(np.float32) for size in (width, width, 99)
    )
    shifts = np.concatenate([shifts, np.zeros(width, np.float32)])

    def frames_of(rows: Rows) -> FloatArray:
        used = rows.memory[: branches * (frames + rows.pad)]
        return used.reshape(branches, frames + rows.pad, width)[:, rows.pad :].reshape(-1, width)

    value = frames_of(x).astype(np.float64)
    if adds:
        value = total = value + added.memory[: branches * frames]
    if norm == "layer":
        value = value - value.mean(axis=-1, keepdims=True)
    if norm != "none":
        value = value / np.sqrt((value**2).mean(axis=-1, keepdims=True) + 1e-4) * gain
    if norm == "layer":
        value = value + bias
    program.map(
        x,
        addend=added if adds else None,
        keeps_sum=adds,
        gain=None if norm == "none" else gain,
        bias=bias if norm == "layer" else None,
        epsilon=1e-4,
        act=Act.MISH,
        shift=(FIRST_SLOT, 5),
        y=y,
    )
    program.run(threads, slots_of(frames, branches, shifts.ctypes.data))
    wanted = ACTIVATIONS[Act.MISH](value) + shifts[5 : 5 + width]
    np.testing.assert_allclose(frames_of(y), wanted, atol=2e-5, rtol=2e-5)
    if adds:
        np.testing.assert_allclose(frames_of(x), total, atol=1e-6)


def check_codes(codes: Codes, wanted: FloatArray) -> None:
    for first in range(0, codes.width, codes.block):
        part = codes.codes[: len(wanted), first : first + codes.block].astype(np.float64)
        scale = codes.scales[: len(wanted), first // codes.block, np.newaxis]
        assert (
            np.abs(part * scale - wanted[:, first : first + codes.block]) <= 0.501 * scale
        ).all()
        totals = codes.totals[: len(wanted), first // codes.block]
        np.testing.assert_array_equal(totals, part.sum(axis=-1))
        assert (np.abs(part).max(axis=-1) == 127).all()


@pytest.mark.parametrize("block", [16, 48, 80])
def test_codes_of_a_block_share_a_scale(threads: Threads, block: int) -> None:
    program = Program(11)
    x, codes = program.rows(80), program.codes(80, block)
    x.memory[:] = np.random.default_rng(block).standard_normal(x.memory.shape)
    program.map(x, codes=codes)
    program.run(threads, slots_of(11))
    check_codes(codes, x.memory)


def test_codes_of_zeros_are_zeros(threads: Threads) -> None:
    program = Program(3)
    x, codes = program.rows(16), program.codes(16, 16)
    codes.codes[:] = 1
    program.map(x, codes=codes)
    program.run(threads, slots_of(3))
    assert not codes.codes.any()
    assert not codes.totals.any()


def test_context_comes_from_the_state_and_goes_back(threads: Threads) -> None:
    branches, pad, width, offset = 2, 3, 16, 8
    state = np.arange(branches * (offset + pad * width) + 5, dtype=np.float32)
    whole: list[list[FloatArray]] = [[] for _ in range(branches)]
    kept = state[offset * branches :][: branches * pad * width].reshape(branches, pad, width)
    for branch in range(branches):
        whole[branch].append(kept[branch].copy())
    rest = state[branches * (offset + pad * width) :].copy()
    rng = np.random.default_rng(0)
    for frames in (5, 1, 2):
        program = Program(branches * (pad + frames))
        x = program.rows(width, pad)
        x.memory[:] = rng.standard_normal(x.memory.shape)
        by_branch = x.memory.reshape(branches, pad + frames, width)
        for branch in range(branches):
            whole[branch].append(by_branch[branch, pad:].copy())
        program.context(x, FIRST_SLOT, offset)
        program.run(threads, slots_of(frames, branches, state.ctypes.data))
        for branch in range(branches):
            past = np.concatenate(whole[branch])
            np.testing.assert_array_equal(by_branch[branch], past[-pad - frames :])
            np.testing.assert_array_equal(kept[branch], past[-pad:])
    np.testing.assert_array_equal(state[branches * (offset + pad * width) :], rest)


@quick
@given(
    calls=st.lists(st.integers(1, 90), min_size=1, max_size=3),
    branches=st.integers(1, 2),
    heads=st.integers(1, 3),
    size=st.sampled_from([16, 32, 48, 64]),
    hide=st.integers(0, POSITIONS - 1),
)
def test_attention_without_a_mask(
    threads: Threads, calls: list[int], branches: int, heads: int, size: int, hide: int
) -> None:
    rng = np.random.default_rng(sum(calls))
    layers, layer, inner = 2, 1, heads * size
    unit = POSITIONS * (size + TILE + 2 * 2)
    count = -(-sum(calls) // POSITIONS)
    segments = [aligned((layers * branches * heads * unit,), np.uint8) for _ in range(count)]
    past = np.zeros((branches, 0, 3, heads, size), np.float32)
    for frames in calls:
        program = Program(branches * frames)
        qkv, y = program.rows(3 * inner), program.rows(inner)
        program.attend(qkv, y, heads=heads, size=size, layer=layer, slot=FIRST_SLOT)
        qkv.memory[:] = rng.standard_normal(qkv.memory.shape)
        qkv.memory[:, :inner] /= math.sqrt(size)
        before = past.shape[1]
        new = qkv.memory.reshape(branches, frames, 3, heads, size)
        past = np.concatenate([past, new], axis=1)
        stop, begin = before + frames, min(hide, before)
        words = [-(-stop // POSITIONS), before // POSITIONS, before % POSITIONS]
        for n in range(words[0]):
            first = begin if n == 0 else 0
            end = min(POSITIONS, stop - n * POSITIONS)
            words += [segments[n].ctypes.data, first << 32 | end]
        program.run(threads, slots_of(frames, branches, *words))
        hidden = np.broadcast_to(np.arange(stop) < begin, (frames, stop))
        for branch in range(branches):
            for head in range(heads):
                q, k, v = (past[branch, :, part, head] for part in range(3))
                wanted = attention(q[before:], k, v, hidden)
                rows = y.memory[branch * frames : (branch + 1) * frames]
                found = rows[:, head * size : (head + 1) * size]
                assert np.abs(found - wanted).max() < 0.1  # of values that are normal
                assert np.sqrt(((found - wanted) ** 2).mean()) < 0.02


@quick
@given(
    calls=st.lists(st.integers(1, 80), min_size=1, max_size=3),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    size=st.sampled_from([16, 64, 80, 128]),
)
def test_causal_attention(
    threads: Threads, calls: list[int], shape: tuple[int, int], size: int
) -> None:
    keys, share = shape
    heads, sequences, half = CausalHeads(keys * share, keys, size, 0.3), 2, size // 2
    rng = np.random.default_rng(sum(calls))
    length, inner = sum(calls), heads.queries * size
    angles = np.outer(np.arange(length), rng.uniform(0, 1, half))
    cosines, sines = (turn(angles).astype(np.float32) for turn in (np.cos, np.sin))
    unit = TILE * size + -(-size // TILE) * TILE * TILE
    caches = [aligned((-(-length // TILE), keys * unit), np.float16) for _ in range(sequences)]
    tables = [np.array([part.ctypes.data for part in cache], np.int64) for cache in caches]
    past = np.zeros((sequences, 0, heads.queries + 2 * keys, size), np.float32)

    def turned(x: FloatArray, first: int) -> FloatArray:
        c, s = (part[first : first + len(x)] for part in (cosines, sines))
        a, b = x[:, :half], x[:, half:]
        return np.concatenate([a * c - b * s, b * c + a * s], axis=-1)

    def kept(x: FloatArray) -> FloatArray:
        return x.astype(np.float16).astype(np.float32)

    for frames in calls:
        program = Program(sequences * frames)
        qkv, y = program.rows(inner + 2 * keys * size), program.rows(inner)
        program.append(qkv, heads, layer=0, slot=FIRST_SLOT)
        program.causal(qkv, y, heads, layer=0, slot=FIRST_SLOT)
        qkv.memory[:] = rng.standard_normal(qkv.memory.shape)
        before = past.shape[1]
        past = np.concatenate([past, qkv.memory.reshape(sequences, frames, -1, size)], axis=1)
        words = [cosines.ctypes.data, sines.ctypes.data]
        for table in tables:
            words += [before, table.ctypes.data]
        program.run(threads, slots_of(frames, sequences, *words))
        positions = np.arange(before + frames)
        hidden = positions[np.newaxis] > positions[before:, np.newaxis]
        for sequence in range(sequences):
            for head in range(heads.queries):
                q = turned(past[sequence, before:, head], before) * heads.scale
                k = kept(turned(past[sequence, :, heads.queries + head // share], 0))
                v = kept(past[sequence, :, heads.queries + keys + head // share])
                rows = y.memory[sequence * frames : (sequence + 1) * frames]
                found = rows[:, head * size : (head + 1) * size]
                np.testing.assert_allclose(found, attention(q, k, v, hidden), atol=2e-4)
