"""Attention to scores and values that are larger, smaller or less alike than most."""

from __future__ import annotations

import numpy as np
import pytest

from mynah.backends.native.kernels import TILE, Threads, aligned, instruction_sets
from mynah.backends.native.program import FIRST_SLOT, Program
from mynah.backends.native.segments import POSITIONS
from mynah.types import FloatArray
from tests.unit.backends.native.programs import attention, slots_of

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="the kernels were not built")


@pytest.fixture(scope="module", params=instruction_sets())
def threads(request: pytest.FixtureRequest) -> Threads:
    return Threads(2, request.param)


def attended(threads: Threads, q: FloatArray, k: FloatArray, v: FloatArray) -> FloatArray:
    """One head of 64: the last rows of ``k`` and ``v`` (P, 64) are those of ``q`` (F, 64)."""
    frames, positions, size = len(q), len(k), q.shape[1]
    unit = POSITIONS * (size + TILE + 2 * 2)
    count = -(-positions // POSITIONS)
    segments = [aligned((unit,), np.uint8) for _ in range(count)]
    for first, stop in ((0, positions - frames), (positions - frames, positions)):
        program = Program(stop - first)
        qkv, y = program.rows(3 * size), program.rows(size)
        program.attend(qkv, y, heads=1, size=size, layer=0, slot=FIRST_SLOT)
        rows = np.zeros((stop - first, size), np.float32) if first == 0 else q
        qkv.memory[:] = np.concatenate([rows, k[first:stop], v[first:stop]], axis=1)
        words = [-(-stop // POSITIONS), first // POSITIONS, first % POSITIONS]
        for n in range(words[0]):
            words += [segments[n].ctypes.data, min(POSITIONS, stop - n * POSITIONS)]
        program.run(threads, slots_of(stop - first, 1, *words))
    return y.memory


@pytest.mark.parametrize("unit", [1e-5, 1e-4, 1e-3, 1e-2, 0.1])
def test_attention_to_scores_of_any_size(threads: Threads, unit: float) -> None:
    rng = np.random.default_rng(3)
    q, k = (rng.integers(-126, 127, (rows, 64)).astype(np.float32) for rows in (13, 150))
    q[:, 5] = k[:, 9] = 127  # so that eight bits hold them as they are
    v = rng.standard_normal((150, 64)).astype(np.float32)
    q *= np.float32(unit)
    found = attended(threads, q, k, v)
    wanted = attention(q, k, v, np.zeros((13, 150), np.bool_))
    assert np.abs(found - wanted).max() < 0.02


@pytest.mark.parametrize("spread", [0.0, 3.0, 8.0])
def test_attention_to_values_of_any_size(threads: Threads, spread: float) -> None:
    rng = np.random.default_rng(4)
    q, k, v = (rng.standard_normal((rows, 64)).astype(np.float32) for rows in (20, 170, 170))
    v *= 2.0 ** rng.uniform(-spread, 0.0, (170, 1)).astype(np.float32) * 100
    q /= np.float32(8.0)
    found = attended(threads, q, k, v)
    wanted = attention(q, k, v, np.zeros((20, 170), np.bool_))
    assert np.sqrt(((found - wanted) ** 2).mean()) < 0.03 * np.sqrt((wanted**2).mean())


def test_attention_to_what_has_next_to_no_value(threads: Threads) -> None:
    rng = np.random.default_rng(5)
    q, k, v = (rng.standard_normal((rows, 64)).astype(np.float32) for rows in (20, 170, 170))
    q /= np.float32(8.0)
    q[:, 0], k[:, 0], k[3, 0], v[3] = 2.0, 0.0, 4.0, 1e-3 * v[3]
    found = attended(threads, q, k, v)
    wanted = attention(q, k, v, np.zeros((20, 170), np.bool_))
    assert np.sqrt(((found - wanted) ** 2).mean()) < 0.06 * np.sqrt((wanted**2).mean())


@pytest.mark.parametrize("octaves", [10.5, 11, 12])
def test_attention_to_what_has_a_value_many_times_smaller(threads: Threads, octaves: float) -> None:
    rng = np.random.default_rng(6)
    q, k, v = (rng.standard_normal((rows, 64)).astype(np.float32) for rows in (9, 100, 100))
    q[:, 0], k[:, 0], k[3, 0] = 40.0, 0.0, 4.0  # all of the weight
    v /= np.abs(v).max(axis=1, keepdims=True)
    v[3] *= np.float32(2.0**-octaves)
    found = attended(threads, q, k, v)
    wanted = attention(q, k, v, np.zeros((9, 100), np.bool_))
    assert np.abs(found - wanted).max() < 0.15 * np.abs(wanted).max()


def test_attention_where_all_scores_are_far_below_zero(threads: Threads) -> None:
    rng = np.random.default_rng(7)
    q, k, v = (rng.standard_normal((rows, 64)).astype(np.float32) for rows in (9, 70, 70))
    q *= np.float32(0.01)
    q[:, 0], k[:, 0] = 10.0, -35.4
    found = attended(threads, q, k, v)
    wanted = attention(q, k, v, np.zeros((9, 70), np.bool_))
    assert np.abs(found - wanted).max() < 0.05
