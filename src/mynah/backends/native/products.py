"""Which is faster here: a matrix product in eight bits, or in float32? Of the native kernels."""

from __future__ import annotations

import time

import numpy as np

from mynah.backends.native.kernels import Threads
from mynah.backends.native.matrices import pack_codes, pack_floats
from mynah.backends.native.program import Program
from mynah.backends.processor import ProductTimes

_ROWS = {"lm": 1, "flow": 100}
_BLOCKS = {"lm": 128, "flow": 896}
_INNER, _OUTER = 896, 1152
_REPEATS, _ROUNDS = 20, 9


def time_products(threads: int = 1) -> list[ProductTimes]:
    """Measure a product of a language model's step and one of a flow's chunk; best of a few runs.

    Raises:
        BackendUnavailableError: if there are no native kernels.
    """
    group, found = Threads(threads), []
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((_OUTER, _INNER)).astype(np.float32)
    for name, rows in _ROWS.items():
        block = _BLOCKS[name]
        codes = np.round(weight * 30).clip(-127, 127).astype(np.int8)
        scales = np.full((_OUTER, _INNER // block), 1 / 30, np.float32)
        programs = []
        for is_int8 in (True, False):
            program = Program(rows)
            x, y = program.rows(_INNER), program.rows(_OUTER)
            x.memory[:] = rng.standard_normal(x.memory.shape)
            for _ in range(_REPEATS):
                if is_int8:
                    quantised = program.codes(_INNER, block)
                    program.map(x, codes=quantised)
                    program.product(quantised, pack_codes(codes, scales, block=block), y)
                else:
                    program.product(x, pack_floats(weight), y)
            programs.append(program)
        slots = np.array([rows, 1], dtype=np.int64)
        best = [float("inf")] * 2
        for number in range(_ROUNDS):
            for index, program in enumerate(programs):
                started = time.perf_counter()
                program.run(group, slots)
                took = (time.perf_counter() - started) / _REPEATS
                if number:  # the first runs touch memory
                    best[index] = min(best[index], took)
        found.append(ProductTimes(name, *best))
    return found
