"""What incremental state saves: streaming a long utterance beside recomputing it for every chunk.

    python benchmarks/streaming.py --seconds 30

Protocol: the same tokens, voice and networks, one thread. "recompute" runs the flow over prompt and
all tokens so far at each chunk, as streaming without state must; "incremental" is what mynah does.
Both give the same frames (the largest difference is printed).
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from mynah.backends.registry import load_backend
from mynah.hub import find_model
from mynah.pipeline import flow
from mynah.pipeline.noise import noise_source
from mynah.pipeline.schedule import ChunkSchedule

CHUNK, AHEAD = 25, 3


def main() -> None:
    """Print cost per chunk at the beginning and at the end, and the totals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    folder = find_model(options.model)
    config = folder.config()
    network = load_backend(folder.path, config, threads=1).flow
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, config.flow.speech_vocab_size, options.seconds * config.token_rate)
    prompt = flow.FlowPrompt(rng.standard_normal(config.flow.speaker_dim).astype(np.float32))
    noise = noise_source(config.flow, None)
    schedule = ChunkSchedule(CHUNK, AHEAD)

    state = flow.prefix_state(network, config.flow, prompt, noise, schedule=schedule)
    made, incremental = [], []
    for start in range(0, len(tokens), CHUNK):
        part, final = tokens[start : start + CHUNK], start + CHUNK >= len(tokens)
        started = time.perf_counter()
        made.append(flow.advance(network, config.flow, part, state, final=final))
        incremental.append(time.perf_counter() - started)

    recompute, whole = [], np.zeros((0, config.flow.n_mels), np.float32)
    for stop in range(CHUNK, len(tokens) + CHUNK, CHUNK):
        started = time.perf_counter()
        known, ahead = tokens[:stop], tokens[stop : stop + AHEAD]
        whole = flow.decode_whole(
            network, config.flow, prompt, known, noise, lookahead=ahead if len(ahead) else None
        )
        recompute.append(time.perf_counter() - started)

    difference = float(np.abs(np.concatenate(made) - whole).max())
    last = max(2, len(incremental) // 5)
    print(f"{config.model_id}, {options.seconds} s in chunks of {CHUNK} tokens, one thread")
    print(f"largest difference of the mels: {difference:.1e}")
    for name, costs in (("incremental", incremental), ("recompute", recompute)):
        early, late = np.median(costs[1 : last + 1]), np.median(costs[-last:])
        print(
            f"{name:>12}: {1000 * early:.0f} ms a chunk at the beginning, {1000 * late:.0f} ms at "
            f"the end, {sum(costs):.2f} s in all"
        )
    print(f"{'ratio':>12}: {sum(recompute) / sum(incremental):.1f} times less work in all")


if __name__ == "__main__":
    main()
