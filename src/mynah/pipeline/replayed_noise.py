"""The uniform noise that released CosyVoice 3 programs hear, drawn again number by number.

The official program keeps its vocoder's noise in a table of 300 seconds, drawn while its networks
are built: from torch's generator on the CPU, whose seed was set to 0 a little before. That is a
Mersenne Twister, which NumPy has, too. So neither the table nor torch is needed, only how many
numbers were drawn before the table.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from mynah.types import FloatArray

_SEED = 0
_MANTISSA_BITS = 24  # of a float32 from 0 to 1: torch throws the other bits of a draw away


class ReplayedNoise:
    """What ``numpy.random.Generator`` is to other vocoders; goes on where the table would end."""

    def __init__(self, offset: int) -> None:
        """Begin behind the first ``offset`` numbers."""
        self._generator = np.random.MT19937()
        self._generator.state = _state(offset)

    def random(self, size: tuple[int, ...], *, dtype: Any) -> FloatArray:
        """The next values in [0, 1), rows first."""
        draws = self._generator.random_raw(int(np.prod(size)))
        bits = (draws & ((1 << _MANTISSA_BITS) - 1)).astype(np.float32)
        values: FloatArray = (bits * np.float32(2.0**-_MANTISSA_BITS)).reshape(size).astype(dtype)
        return values

    def standard_normal(self, size: tuple[int, ...], *, dtype: Any) -> FloatArray:
        """There is none: no released model has normal noise in a table."""
        raise NotImplementedError("replayed noise is uniform")


@lru_cache(maxsize=4)
def _state(offset: int) -> Any:
    """State of the generator after ``offset`` numbers; only ever read."""
    generator = np.random.MT19937()
    # torch expands a seed as NumPy's legacy generator does, not as its new ones do
    generator.state = np.random.RandomState(_SEED).get_state(legacy=False)  # type: ignore[assignment]  # also the tuple of legacy=True
    generator.random_raw(offset, output=False)
    return generator.state
