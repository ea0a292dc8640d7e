"""Finding clicks: places where a waveform breaks off instead of going on.

Speech is predictable from one sample to the next. A linear prediction is fitted to the sound around
a join; where the sound goes on, the samples at the join are predicted about as well as their
neighbours, and where it was cut, doubled or made louder at once, they are not.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mynah.types import FloatArray

_ORDER = 24
_AROUND = 480
"""Samples on both sides of a join that tell what the sound is like there."""
_TOUCHED = 3
"""Samples on both sides that a break can reach; the prediction is not fitted to them."""
_THRESHOLD = 1.2
"""How much worse than everywhere near a prediction must be. Of 400 places in real speech none
reached 1.0; samples that are left out reach 2.8 at half of them."""
_AUDIBLE = 0.002
"""Smaller errors (-54 dBFS) are no clicks."""


def clicks(samples: FloatArray, joins: Iterable[int]) -> list[int]:
    """The joins at which the waveform does not go on."""
    return [join for join in joins if _is_click(samples, join)]


def _is_click(samples: FloatArray, join: int) -> bool:
    start = max(join - _AROUND, 0)
    sound = samples[start : join + _AROUND].astype(np.float64)
    count = len(sound) - _ORDER
    place = join - start - _ORDER
    if count < 4 * _ORDER or place < _TOUCHED:
        return False
    past = np.stack([sound[_ORDER - 1 - k : len(sound) - 1 - k] for k in range(_ORDER)], axis=1)
    wanted = sound[_ORDER:]
    near = np.ones(count, np.bool_)
    near[place - _TOUCHED : place + _TOUCHED] = False
    squares = past[near].T @ past[near]
    squares += np.eye(_ORDER) * (1e-9 * np.trace(squares) + 1e-12)
    weights = np.linalg.solve(squares, past[near].T @ wanted[near])
    error = np.abs(wanted - past @ weights)
    worst = error[~near].max()
    return bool(worst > _AUDIBLE and worst > _THRESHOLD * error[near].max())
