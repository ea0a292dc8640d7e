"""Comparisons that parity tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mynah.backends.native.kernels import instruction_sets

FloatArray = npt.NDArray[np.float32]

needs_native = pytest.mark.skipif(not instruction_sets(), reason="the kernels were not built")


def assert_close(ours: Any, official: Any, tolerance: float) -> None:
    """Same shape, and nowhere further apart than ``tolerance``."""
    ours, official = np.asarray(ours), np.asarray(official)
    assert ours.shape == official.shape
    assert np.abs(ours - official).max() <= tolerance


def assert_waveform(ours: FloatArray, theirs: FloatArray, tolerance: float, snr_db: float) -> None:
    """The same, and the error's energy so much below the signal's."""
    assert_close(ours, theirs, tolerance)
    error = np.square((ours - theirs).astype(np.float64)).sum()
    if error:
        assert 10 * np.log10(np.square(theirs, dtype=np.float64).sum() / error) >= snr_db


class TableNoise:
    """Hands out given noise instead of drawing it."""

    def __init__(self, values: FloatArray) -> None:
        self._rest = values

    def standard_normal(self, size: tuple[int, ...], *, dtype: Any) -> FloatArray:
        drawn, self._rest = self._rest[: size[0]], self._rest[size[0] :]
        assert drawn.shape == size
        return drawn.astype(dtype)

    random = standard_normal
