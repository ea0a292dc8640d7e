"""Matrices as the kernels read them: tiles of 64 columns, in eight bits or in float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mynah.backends.native.kernels import TILE, AnyArray, Pages, aligned, load_library
from mynah.types import FloatArray


@dataclass(frozen=True, eq=False)
class Matrix:
    """A packed matrix, or the kernel of a causal convolution."""

    tiles: AnyArray
    scales: AnyArray
    """Of every tile, tap and block: halves where a tap has several blocks; empty in float32."""
    bias: FloatArray | None
    columns: int
    taps: int
    unit: float = 1.0
    """What scales in half precision count: a power of two."""

    @property
    def is_exact(self) -> bool:
        """Whether it is in float32."""
        return not self.scales.size


def pack_codes(
    codes: AnyArray,
    scales: FloatArray,
    *,
    block: int | None = None,
    bias: FloatArray | None = None,
    taps: int = 1,
    pages: Pages | None = None,
) -> Matrix:
    """A matrix in eight bits.

    Args:
        codes: (N, taps * K) int8, or uint8 where 128 stands for zero; any strides.
        scales: (N,), or (N, taps * blocks).
        block: inner elements that share a scale; None = all of a tap.
        bias: (N,).
        taps: of a convolution.
        pages: where it is to lie; None = in memory of its own.
    """
    library, take = load_library(), pages.take if pages else aligned
    rows, inner = codes.shape[0], codes.shape[1] // taps
    block = block or inner
    sizes = [min(block, inner - first) for first in range(0, inner, block)]
    per_tap = sum(-(-size // 4) for size in sizes)
    steps, tiles = taps * per_tap, -(-rows // TILE)
    packed = take((tiles, steps, TILE, 4), np.uint8)
    flip = codes.dtype == np.int8
    at = column = 0
    for _tap in range(taps):
        for size in sizes:
            part = codes[:, column : column + size]
            library.pack_bytes(
                part.ctypes.data, rows, size, *part.strides, int(flip), steps, at,
                packed.ctypes.data,
            )  # fmt: skip
            at, column = at + -(-size // 4), column + size
    spread = np.zeros((tiles * TILE, taps * len(sizes)), dtype=np.float32)
    spread[:rows] = scales.reshape(rows, -1)
    by_tile = np.ascontiguousarray(spread.reshape(tiles, TILE, -1).transpose(0, 2, 1))
    if len(sizes) == 1:
        return Matrix(packed, by_tile, bias, rows, taps)
    # The largest comes close to the largest number in half precision: all that are more than 2**-28
    # of it keep eleven bits, and smaller ones are 2**-39 of it off, however small the weights are.
    exponent = int(np.frexp(np.abs(by_tile).max())[1]) - 15
    halves = take(by_tile.shape, np.float16)
    halves[:] = np.ldexp(by_tile, -exponent)
    return Matrix(packed, halves, bias, rows, taps, 2.0**exponent)


def pack_floats(
    matrix: FloatArray,
    *,
    bias: FloatArray | None = None,
    taps: int = 1,
    pages: Pages | None = None,
) -> Matrix:
    """A matrix (N, taps * K) in float32; for ``pages`` see ``pack_codes``."""
    matrix = np.asarray(matrix, dtype=np.float32)
    rows, inner = matrix.shape
    take = pages.take if pages else aligned
    packed = take((-(-rows // TILE), inner, TILE), np.float32)
    outer, step = (stride // 4 for stride in matrix.strides)
    load_library().pack_floats(
        matrix.ctypes.data, rows, inner, outer, step, inner, 0, packed.ctypes.data
    )
    return Matrix(packed, np.zeros(0, np.float32), bias, rows, taps)
