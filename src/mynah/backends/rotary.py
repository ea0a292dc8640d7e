"""Rotary positions (Su et al. 2021): the tables that attention kernels read."""

from __future__ import annotations

import numpy as np

from mynah.config import LMConfig
from mynah.types import FloatArray


def rotary_tables(config: LMConfig, positions: int, head: int) -> tuple[FloatArray, FloatArray]:
    """Cosines and sines (positions, head / 2), in float32 as the torch module has them.

    ``head`` is the size of a head with its padding, which does not turn.
    """
    size = config.head_dim
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    frequencies = np.float32(1) / np.float32(config.rope_theta) ** exponents
    angles = np.arange(positions, dtype=np.float32)[:, None] * frequencies
    padding = ((0, 0), (0, (head - size) // 2))
    return np.pad(np.cos(angles), padding), np.pad(np.sin(angles), padding)
