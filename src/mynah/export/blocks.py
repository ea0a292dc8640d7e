"""Matrices in a few bits: one scale per output channel, or one per short block of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

BLOCK_SIZE: Mapping[int, int] = {8: 128, 4: 32}
"""Weights that share a scale, by number of bits; a power of two."""

_CODE_MAX = 127
_TINY = 1e-12


def channel_codes(matrix: Array) -> tuple[Array, Array]:
    """Matrix (K, N) -> codes (K, N) int8 and scales (N,): symmetric, full range used."""
    scale = np.maximum(np.abs(matrix).max(axis=0), _TINY).astype(np.float32) / _CODE_MAX
    return np.round(matrix / scale).astype(np.int8), scale


def block_codes(matrix: Array, bits: int) -> tuple[Array, Array]:
    """Matrix (N, K) -> codes and scales as the operator ``MatMulNBits`` reads them.

    Codes (N, blocks, bytes) uint8, two to a byte when they have four bits, the first one low; a
    value is ``(code - 2 ** (bits - 1)) * scale``. Scales (N * blocks,). The value farthest from
    zero becomes the end of the range that has one code more.
    """
    rows, columns = matrix.shape
    size, half = BLOCK_SIZE[bits], 1 << (bits - 1)
    blocks = -(-columns // size)
    values = np.pad(matrix, ((0, 0), (0, blocks * size - columns))).reshape(rows, blocks, size)
    farthest = np.take_along_axis(values, np.abs(values).argmax(-1)[..., None], -1)
    scale = np.where(farthest == 0, 1, farthest / -half).astype(np.float32)
    codes: Array = np.clip(np.round(values / scale) + half, 0, 2 * half - 1).astype(np.uint8)
    if bits == 4:
        codes = codes[..., 0::2] | (codes[..., 1::2] << 4)
    return codes, scale.reshape(-1)
