"""Linear interpolation in time, for a whole array at once."""

from __future__ import annotations

import numpy as np

from mynah.backends.base import FloatArray


def resize(rows: FloatArray, count: int) -> FloatArray:
    """Resample rows (T, C) to (count, C); output i lies at (i + 0.5) * T / count - 0.5.

    Positions before the first row's or after the last row's centre take that row. Torch's
    ``interpolate`` with ``align_corners=False`` is the same.
    """
    if not count:
        return rows[:0]
    positions = np.maximum((np.arange(count) + 0.5) * (len(rows) / count) - 0.5, 0.0)
    left = np.minimum(np.floor(positions).astype(np.int64), len(rows) - 1)
    right = np.minimum(left + 1, len(rows) - 1)
    weight = (positions - left).astype(np.float32)[:, None]
    resized: FloatArray = rows[left] * (1 - weight) + rows[right] * weight
    return resized
