"""Does it pay to batch the flows of several streams on this processor?

    python benchmarks/batching.py [--threads 2]

The flow's products have 100 rows for one stream (a chunk of 50 frames, two guidance branches) and
as many more for each further one. Batching pays where more rows are multiplied faster. Prints the
throughput of CosyVoice2's matrices for one, two and four streams at once, and the ratio to one.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from mynah.backends.native.kernels import Threads
from mynah.backends.native.matrices import pack_codes
from mynah.backends.native.program import Program

MATRICES = ((256, 1536), (512, 256), (256, 1024), (1024, 256))
"""Inner and outer size: queries, keys and values; their output; the feed-forward layers."""
ROWS = 100
STREAMS = (1, 2, 4)
_LAYERS, _ROUNDS = 14, 15


def main() -> None:
    """Measure in turns, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    threads = Threads(parser.parse_args().threads)
    programs = {streams: _program(streams * ROWS) for streams in STREAMS}
    took: dict[int, list[float]] = {streams: [] for streams in STREAMS}
    for _ in range(_ROUNDS):
        for streams, program in programs.items():
            slots = np.array([streams * ROWS, 1], dtype=np.int64)
            started = time.perf_counter()
            program.run(threads, slots)
            took[streams].append(time.perf_counter() - started)
    products = _LAYERS * sum(inner * outer for inner, outer in MATRICES) * ROWS
    rates = {n: n * products / statistics.median(times) / 1e9 for n, times in took.items()}
    print(f"{threads.instruction_set}, {threads.count} threads\n")
    print("| Streams in one call | Products, 1e9 a second | Beside one |\n|---|---|---|")
    for streams, rate in rates.items():
        print(f"| {streams} | {rate:.0f} | {rate / rates[1]:.2f} |")


def _program(rows: int) -> Program:
    program, rng = Program(rows), np.random.default_rng(0)
    for inner, outer in MATRICES * _LAYERS:
        x, codes, y = program.rows(inner), program.codes(inner, inner), program.rows(outer)
        x.memory[:] = rng.standard_normal(x.memory.shape)
        weight = rng.integers(-127, 128, (outer, inner)).astype(np.int8)
        program.map(x, codes=codes)
        program.product(codes, pack_codes(weight, np.ones(outer, np.float32)), y)
    return program


if __name__ == "__main__":
    main()
