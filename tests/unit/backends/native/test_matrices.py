"""Packed matrices: where they lie, and their scales in half precision."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from mynah.backends.native.kernels import AnyArray, Pages, Threads, aligned, instruction_sets
from mynah.backends.native.matrices import pack_codes, pack_floats
from mynah.backends.native.program import Program, Rows
from tests.unit.backends.native.programs import slots_of

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="the kernels were not built")


@pytest.fixture(scope="module", params=instruction_sets())
def threads(request: pytest.FixtureRequest) -> Threads:
    return Threads(2, request.param)


@pytest.mark.parametrize("size", [1e-36, 1e-7, 1.0, 1e5, 1e30])
def test_scales_of_blocks_are_of_any_size(threads: Threads, size: float) -> None:
    """They are kept in half precision, whose range would not hold them."""
    rng = np.random.default_rng(0)
    x, y = Program(3).rows(64), Rows(aligned((3, 80), np.float32), 80)
    program = Program(3)
    codes = program.codes(64, 16)
    x.memory[:] = rng.standard_normal(x.memory.shape)
    weights = rng.integers(-128, 128, (80, 64)).astype(np.int8)
    scales = (size * 10.0 ** rng.uniform(-6, 1, (80, 4))).astype(np.float32)
    program.map(x, codes=codes)
    program.product(codes, pack_codes(weights, scales, block=16), y)
    program.run(threads, slots_of(3))
    rows = np.repeat(codes.scales, 16, axis=1) * codes.codes.astype(np.float64)
    matrix = np.repeat(scales, 16, axis=1) * weights.astype(np.float64)
    most = np.abs(rows) @ np.abs(matrix).T
    assert (np.abs(y.memory - rows @ matrix.T) < 2.0**-11 * most).all()
    assert np.abs(y.memory / most).max() > 0.1


def test_scales_that_are_all_zero(threads: Threads) -> None:
    program = Program(1)
    x, codes, y = program.rows(32), program.codes(32, 16), program.rows(64)
    x.memory[:], y.memory[:] = 1.0, 1.0
    program.map(x, codes=codes)
    none = np.zeros((64, 2), np.float32)
    program.product(codes, pack_codes(np.ones((64, 32), np.int8), none, block=16), y)
    program.run(threads, slots_of(1))
    assert not y.memory.any()


def test_scales_are_rounded_where_a_tap_has_several() -> None:
    codes = np.ones((70, 32), np.int8)
    scales = np.full((70, 2), 1 / 3, np.float32)
    halves = pack_codes(codes, scales, block=16)
    assert halves.scales.dtype == np.float16
    found = halves.scales.astype(np.float64) * halves.unit
    assert found.max() == np.float16(1 / 3)
    assert found[1, :, 70 - 64 :].max() == 0  # columns that do not exist
    for whole in (pack_codes(codes, scales[:, :1]), pack_codes(codes, scales, taps=2)):
        assert whole.scales.dtype == np.float32
        assert whole.unit == 1.0
        assert whole.scales.max() == np.float32(1 / 3)


def test_matrices_lie_one_after_the_other() -> None:
    pages, rng = Pages(), np.random.default_rng(0)
    codes = rng.integers(-128, 128, (70, 48)).astype(np.int8)
    scales, floats = (rng.random(shape, np.float32) for shape in ((70, 3), (70, 48)))

    def pack(number: int) -> tuple[AnyArray, ...]:
        if number % 2:
            return (pack_floats(floats, pages=pages).tiles,)
        matrix = pack_codes(codes, scales, block=16, pages=pages)
        return matrix.tiles, matrix.scales

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(pack, range(40)))
    alone = pack_codes(codes, scales, block=16), pack_floats(floats)
    for number, arrays in enumerate(made):
        wanted = [alone[1].tiles] if number % 2 else [alone[0].tiles, alone[0].scales]
        for found, expected in zip(arrays, wanted, strict=True):
            np.testing.assert_array_equal(found, expected)
    places = sorted((one.ctypes.data, one.nbytes) for arrays in made for one in arrays)
    assert all(address % 64 == 0 for address, _ in places)
    gaps = [b - a - size for (a, size), (b, _) in pairwise(places)]
    assert all(0 <= gap < 64 for gap in gaps)


def test_what_is_larger_than_a_piece() -> None:
    pages = Pages()
    first, large = pages.take((3,), np.float32), pages.take((70 << 20,), np.uint8)
    large[-1] = 1
    first[:] = 2.0
    last = pages.take((5, 2), np.float16)
    assert last.shape == (5, 2)
    assert not last.any()
    assert large[-1] == 1
    assert not large[:100].any()
