"""Finding clicks: places where a waveform breaks off instead of going on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mynah.types import FloatArray

_AROUND = 240
"""Samples on both sides of a join that tell how rough the sound is there anyway."""
_TOUCHED = 3
"""Samples on both sides whose differences reach over the join."""
_THRESHOLD = 6.0
_AUDIBLE = 0.004
"""Smaller steps (-48 dBFS) are no clicks."""


def clicks(samples: FloatArray, joins: Iterable[int]) -> list[int]:
    """The joins at which the second difference is far larger than anywhere near.

    A waveform with a step or a kink has a peak there in its second difference; speech that goes on
    has about the same values on both sides of a join as at it.
    """
    rough = np.abs(np.diff(samples, 2))
    return [join for join in joins if _is_click(rough, join - 1)]


def _is_click(rough: FloatArray, place: int) -> bool:
    at = rough[max(place - _TOUCHED, 0) : place + _TOUCHED]
    before = rough[max(place - _AROUND, 0) : max(place - _TOUCHED, 0)]
    after = rough[place + _TOUCHED : place + _AROUND]
    near = np.concatenate([before, after])
    if not len(at) or not len(near):
        return False
    return bool(at.max() > _AUDIBLE and at.max() > _THRESHOLD * np.percentile(near, 99))
