"""The vocoder stage by ONNX Runtime, in windows, and by the native kernels, every frame once.

    python benchmarks/vocoder.py cosyvoice2-0.5b --threads 2
    python benchmarks/vocoder.py ./model --chunk 12 --seconds 4

Random mel frames come in chunks, as from the flow. Both take turns in one process, so that a slow
moment of the machine meets both; what counts is the ratio. Best of the runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from mynah.backends.base import FloatArray, VocoderNetwork
from mynah.backends.native.kernels import Threads, instruction_sets
from mynah.backends.native.vocoder import load_native_vocoder, vocoder_obstacle
from mynah.backends.onnx.vocoder import OnnxVocoder
from mynah.cli.checks import environment
from mynah.config import ModelConfig
from mynah.hub import find_model
from mynah.pipeline.vocoder import advance, new_state

_COMPARED = 50
"""Mel frames that both decode from the same source: errors of F0 would grow in its phase."""


def speak(
    network: VocoderNetwork, config: ModelConfig, mel: FloatArray, chunk: int
) -> tuple[FloatArray, float, float]:
    """Samples, seconds until the first of them since their last frame came, and in all."""
    state = new_state(config.vocoder, config.sample_rate, np.random.default_rng(0))
    parts, first, busy = [], 0.0, 0.0
    for start in range(0, len(mel), chunk):
        began = time.perf_counter()
        final = start + chunk >= len(mel)
        made = advance(network, config.vocoder, mel[start : start + chunk], state, final=final)
        took = time.perf_counter() - began
        if len(made) and not first:
            first = took
        busy += took
        parts.append(made)
    return np.concatenate(parts), first, busy


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="name or folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--chunk", type=int, default=50, help="mel frames that come at once")
    parser.add_argument("--seconds", type=float, default=6.0, help="of audio")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    model = find_model(options.model)
    folder, config = model.path, model.config()
    obstacle = vocoder_obstacle(folder, config.vocoder) if instruction_sets() else "no kernels"
    if obstacle:
        parser.error(f"the vocoder does not run natively: {obstacle}")
    networks: dict[str, VocoderNetwork] = {
        "onnx": OnnxVocoder(folder, threads=options.threads),
        "native": load_native_vocoder(folder, config.vocoder, Threads(options.threads)),
    }
    frames = round(options.seconds * config.sample_rate / config.vocoder.samples_per_frame)
    noise = np.random.default_rng(0).standard_normal((frames, config.vocoder.n_mels))
    mel = (noise * 1.5 - 5).astype(np.float32)
    results: dict[str, list[tuple[FloatArray, float, float]]] = {name: [] for name in networks}
    for _ in range(options.runs):
        for name, network in networks.items():
            results[name].append(speak(network, config, mel, options.chunk))
    seconds = frames * config.vocoder.samples_per_frame / config.sample_rate
    busy = {name: min(run[2] for run in runs) / seconds * 1e3 for name, runs in results.items()}
    first = {name: min(run[1] for run in runs) * 1e3 for name, runs in results.items()}
    waves = results["onnx"][0][0][: _COMPARED * config.vocoder.samples_per_frame] * np.float32(0.1)
    source = waves if config.vocoder.head == "polar" else np.stack([waves, waves[::-1]], axis=1)
    exact, made = (n.decode(mel[:_COMPARED], source).astype(float) for n in networks.values())
    snr = 10 * np.log10(np.square(exact).sum() / np.square(exact - made).sum())
    figures = {
        "model": config.model_id,
        "threads": options.threads,
        "chunk_frames": options.chunk,
        "busy_ms_per_audio_s": busy,
        "first_chunk_ms": first,
        "ratio": busy["onnx"] / busy["native"],
        "snr_db": snr,
        "environment": environment(),
    }
    for name in networks:
        print(f"{name:8}{busy[name]:8.1f} ms for a second   first chunk {first[name]:8.1f} ms")
    print(f"native is {figures['ratio']:.2f} times as fast; SNR to onnx {snr:.1f} dB")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
