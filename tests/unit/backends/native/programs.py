"""Small programs for the tests of the kernels."""

from __future__ import annotations

import numpy as np

from mynah.backends.native.kernels import Words
from mynah.backends.native.matrices import pack_codes
from mynah.backends.native.program import Act, Program, Rows
from mynah.types import FloatArray

LAYERS = 4


def slots_of(frames: int, branches: int = 1, *more: int) -> Words:
    """A slot table."""
    return np.array([frames, branches, *more], dtype=np.int64)


def chain(rows: int, width: int, seed: int) -> tuple[Program, Rows]:
    """Norms, products and activations on random rows, one after the other."""
    rng = np.random.default_rng(seed)
    program = Program(rows)
    x, codes = program.rows(width), program.codes(width, width)
    x.memory[:] = rng.standard_normal(x.memory.shape)
    for _ in range(LAYERS):
        weights = rng.integers(-127, 128, (width, width), dtype=np.int8)
        matrix = pack_codes(weights, np.full(width, 1e-3, np.float32))
        program.map(x, gain=np.ones(width, np.float32), act=Act.SILU, codes=codes)
        program.product(codes, matrix, x)
    return program, x


def attention(q: FloatArray, k: FloatArray, v: FloatArray, hidden: FloatArray) -> FloatArray:
    """Plain attention (queries, size) to (positions, size); ``hidden`` (queries, positions)."""
    scores = np.where(hidden, -np.inf, q.astype(np.float64) @ k.T)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ v
