"""Convolutions that are stored in floats and run in eight bits."""

from __future__ import annotations

import numpy as np
import pytest

from mynah.backends.native.kernels import Threads, instruction_sets
from mynah.backends.native.matrices import Matrix
from mynah.backends.native.named_weights import NamedWeights
from mynah.backends.native.program import Program
from mynah.types import FloatArray
from tests.unit.backends.native.programs import slots_of

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="the kernels were not built")

TAPS, WIDTH, COLUMNS, FRAMES = 3, 32, 80, 9


@pytest.fixture
def weights() -> dict[str, FloatArray]:
    """As a graph stores them; taps and columns of different sizes, one column of zeros."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((TAPS, WIDTH, COLUMNS)) * np.geomspace(0.01, 100, COLUMNS)
    weight *= np.array([1, 0.01, 10])[:, np.newaxis, np.newaxis]
    weight[:, :, 7] = 0
    bias = rng.standard_normal(COLUMNS)
    stored = {"conv.weight": weight.reshape(TAPS * WIDTH, COLUMNS), "conv.bias": bias}
    return {name: array.astype(np.float32) for name, array in stored.items()}


def convolve(matrix: Matrix, x: FloatArray) -> FloatArray:
    program = Program(len(x))
    rows, y = program.rows(WIDTH, TAPS - 1), program.rows(COLUMNS)
    codes = program.codes(WIDTH, WIDTH, TAPS - 1)
    rows.memory[:] = x
    program.map(rows, codes=codes)
    program.product(rows if matrix.is_exact else codes, matrix, y)
    program.run(Threads(1), slots_of(FRAMES))
    return y.memory[:FRAMES]


@pytest.mark.parametrize("half", [False, True])
def test_rounded_is_near_exact(weights: dict[str, FloatArray], half: bool) -> None:
    """Every column and tap, and every frame, to what eight bits can tell of the largest value."""
    if half:
        weights["conv.weight.half"] = weights.pop("conv.weight").astype(np.float16)
    named, rng = NamedWeights(weights), np.random.default_rng(1)
    rounded, exact = named.rounded("conv", TAPS), named.exact("conv", TAPS)
    assert (rounded.is_exact, exact.is_exact) == (False, True)
    assert rounded.tiles.nbytes == exact.tiles.nbytes // 4
    frames = rng.standard_normal((FRAMES + TAPS - 1, WIDTH))
    frames *= np.geomspace(0.1, 1000, len(frames))[:, np.newaxis]
    weight = weights.get("conv.weight", weights.get("conv.weight.half"))
    assert weight is not None
    by_tap = weight.astype(np.float64).reshape(TAPS, WIDTH, COLUMNS)
    steps = np.abs(by_tap).max(axis=1) / 127
    for tap in range(TAPS):  # only every third frame: what a tap adds is not hidden by others
        x = np.zeros_like(frames, dtype=np.float32)
        x[tap::TAPS] = frames[tap::TAPS]
        step = np.abs(x).max(axis=1, keepdims=True) / 127
        wanted, most = weights["conv.bias"].astype(np.float64), np.zeros((FRAMES, COLUMNS))
        for n in range(TAPS):  # half a step of either factor, at most
            part, size = x[n : n + FRAMES].astype(np.float64), step[n : n + FRAMES]
            wanted = wanted + part @ by_tap[n]
            most += size / 2 * np.abs(by_tap[n]).sum(axis=0) + WIDTH / 4 * size * steps[n]
            most += np.abs(part).sum(axis=1, keepdims=True) * steps[n] / 2
        found = convolve(rounded, x)
        assert (np.abs(found - wanted) <= most + 1e-5 * np.abs(wanted) + 1e-6).all()
        np.testing.assert_array_equal(found[:, 7], np.full(FRAMES, weights["conv.bias"][7]))
    np.testing.assert_allclose(convolve(exact, x), wanted, rtol=1e-4, atol=1e-4 * np.ptp(wanted))
