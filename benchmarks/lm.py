"""Speed, memory and error of the language model, by the way its weights are stored.

    python -m benchmarks.lm --threads 2 --json lm.json

Protocol: CosyVoice2-0.5B's sizes (or CosyVoice3's), random weights, ONNX Runtime as it is used, and
our own kernels beside it for the variants that they run; one process for each, all loaded at once
and measured in turn, so that a busy machine slows all alike: compare the rows of one table, not
tables. Prompts: 110 and 137 positions. A step is one token of every sequence. Medians over all
rounds, the best round in brackets. Error: teacher-forced scores of 200 tokens beside float32, on
these random weights.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, get_args

import numpy as np
from safetensors.numpy import save_file

from mynah.backends.base import SOS_MARKER, TASK_MARKER, Segment, SpeechLM
from mynah.backends.native.kernels import Threads
from mynah.backends.native.language_model import load_native_lm, why_no_native_lm
from mynah.backends.onnx.language_model import OnnxSpeechLM
from mynah.cli.checks import environment
from mynah.config import LMConfig
from mynah.export.builder import Array
from mynah.export.lm_graph import LMVariant, write_lm_graph

_NUM_TEXT, _NUM_PROMPT = 60, 75
_PROMPTS = (110, 137)
_NATIVE = ", native"
_STEPS, _SCORED = 24, 200
_CASES = ((1, 200), (1, 600), (2, 200), (4, 200), (4, 600))
_V2 = LMConfig(
    text_vocab_size=151936,
    hidden_size=896,
    num_layers=24,
    num_heads=14,
    num_kv_heads=2,
    head_dim=64,
    intermediate_size=4864,
)
_V3 = {"num_control_tokens": 200, "eos_offset": 1, "marker_offsets": (0, 2), "has_head_bias": False}
CONFIGS = {2: _V2, 3: LMConfig.model_validate(_V2.model_dump() | _V3)}


class RandomWeights(Mapping[str, Array]):
    """Tensors of a language model, drawn when asked for: the same at every time."""

    def __init__(self, config: LMConfig) -> None:
        c, heads = config, config.num_heads * config.head_dim
        keys, width = config.num_kv_heads * config.head_dim, config.hidden_size
        layer: dict[str, tuple[int, ...]] = {
            "attention_norm.weight": (width,),
            "attention.query.weight": (heads, width),
            "attention.query.bias": (heads,),
            "attention.key.weight": (keys, width),
            "attention.key.bias": (keys,),
            "attention.value.weight": (keys, width),
            "attention.value.bias": (keys,),
            "attention.output.weight": (width, heads),
            "feed_forward_norm.weight": (width,),
            "feed_forward.gate.weight": (c.intermediate_size, width),
            "feed_forward.up.weight": (c.intermediate_size, width),
            "feed_forward.down.weight": (width, c.intermediate_size),
        }
        self._shapes = {
            f"trunk.layers.{index}.{name}": shape
            for index in range(c.num_layers)
            for name, shape in layer.items()
        }
        self._shapes["trunk.norm.weight"] = (width,)
        self._shapes["speech_head.weight"] = (c.head_size, width)
        self._shapes["speech_head.bias"] = (c.head_size,)

    def __getitem__(self, name: str) -> Array:
        shape = self._shapes[name]
        rng = np.random.default_rng(list(name.encode()))
        values: Array = rng.standard_normal(shape, dtype=np.float32)
        if name.endswith("norm.weight"):
            return 1 + 0.2 * values
        return values * np.float32(0.2 if len(shape) == 1 else shape[1] ** -0.5)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def write_tables(config: LMConfig, path: Path) -> None:
    """Random embedding tables; the text table in eight bits."""
    rng = np.random.default_rng(0)
    shape = (config.text_vocab_size, config.hidden_size)
    tables: dict[str, Array] = {
        "text_embedding.weight": rng.integers(-127, 128, shape, dtype=np.int8),
        "text_embedding.scale": np.full(shape[0], 1 / 73, dtype=np.float32),
    }
    others = {"speech": config.head_size, "marker": 2}
    if config.marker_offsets is not None:
        del others["marker"]
    for name, rows in others.items():
        values = rng.standard_normal((rows, config.hidden_size), dtype=np.float32)
        tables[f"{name}_embedding.weight"] = values.astype(np.float16)
    save_file(tables, str(path))


def main() -> None:
    """Write the models, measure, print Markdown."""
    options = _options()
    config = CONFIGS[options.generation]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.folder or scratch)
        names = []
        for variant in dict.fromkeys([*options.variants, "float32"]):
            _write(config, folder / variant, variant)
            names.append(variant)
            if why_no_native_lm(folder / variant, config) is None:
                names.append(f"{variant}{_NATIVE}")
        rows = _measure(config, folder, names, options.threads, options.rounds)
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "environment": environment(),
        "threads": options.threads,
        "generation": options.generation,
        "variants": rows,
    }
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(_markdown(rows))


def _write(config: LMConfig, folder: Path, variant: LMVariant) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "lm.onnx").exists():
        write_lm_graph(RandomWeights(config), config, folder / "lm.onnx", variant)
        write_tables(config, folder / "lm_embeddings.safetensors")


def _measure(
    config: LMConfig, folder: Path, names: list[str], threads: int, rounds: int
) -> dict[str, dict[str, Any]]:
    context = multiprocessing.get_context("spawn")
    workers: dict[str, tuple[Any, Connection]] = {}
    rows: dict[str, dict[str, Any]] = {}
    scores: dict[str, Array] = {}
    for name in names:
        here, there = context.Pipe()
        variant = name.removesuffix(_NATIVE)
        arguments = (there, folder / variant, config, threads, name != variant)
        process = context.Process(target=_work, args=arguments)
        process.start()
        there.close()  # so that a worker that fails ends the waiting
        workers[name] = (process, here)
        rows[name] = here.recv()
        size = sum(path.stat().st_size for path in (folder / variant).glob("lm.onnx*"))
        rows[name]["file_mb"] = size / 1e6
    for name, (_, pipe) in workers.items():
        pipe.send("scores")
        scores[name] = pipe.recv()
    times: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, (_, pipe) in workers.items():
            pipe.send("times")
            times[name].append(pipe.recv())
    for name, (process, pipe) in workers.items():
        pipe.send("end")
        process.join()
        rows[name] |= _summary(times[name], scores[name], scores["float32"])
    return rows


def _summary(times: list[dict[str, float]], scores: Array, exact: Array) -> dict[str, Any]:
    cases = {case: [one[case] for one in times] for case in times[0]}
    difference = scores - exact
    return {
        "ms": {case: statistics.median(values) for case, values in cases.items()},
        "best_ms": {case: min(values) for case, values in cases.items()},
        "relative_error": float(np.linalg.norm(difference) / np.linalg.norm(exact)),
        "max_abs_error": float(np.abs(difference).max()),
        "token_agreement": float((scores.argmax(1) == exact.argmax(1)).mean()),
    }


def _work(pipe: Connection, folder: Path, config: LMConfig, threads: int, is_native: bool) -> None:
    before, started = _resident_mb(), time.perf_counter()
    network: SpeechLM
    if is_native:
        network = load_native_lm(folder, config, Threads(threads))
    else:
        network = OnnxSpeechLM(folder, config, threads)
    load = time.perf_counter() - started
    _times(network, config)
    pipe.send({"load_s": load, "resident_mb": _resident_mb() - before})
    answers = {"scores": _scores, "times": _times}
    while (request := pipe.recv()) != "end":
        pipe.send(answers[request](network, config))


def _prompt(config: LMConfig, num_speech: int) -> list[Segment]:
    rng = np.random.default_rng(1)
    return [
        Segment("marker", np.array([SOS_MARKER])),
        Segment("text", rng.integers(0, config.text_vocab_size, _NUM_TEXT)),
        Segment("marker", np.array([TASK_MARKER])),
        Segment("speech", rng.integers(0, config.speech_vocab_size, num_speech)),
    ]


def _scores(network: SpeechLM, config: LMConfig) -> Array:
    tokens = np.random.default_rng(2).integers(0, config.speech_vocab_size, _SCORED)
    logits, state = network.prefill(_prompt(config, _NUM_PROMPT))
    return np.stack(
        [logits, *(network.step(tokens[i : i + 1], [state])[0] for i in range(_SCORED))]
    )


def _times(network: SpeechLM, config: LMConfig) -> dict[str, float]:
    """Milliseconds of a prompt, and of a step by batch size and positions before it."""
    found = {}
    for length in _PROMPTS:
        prompt = _prompt(config, length - _NUM_TEXT - 2)
        started = time.perf_counter()
        network.prefill(prompt)
        found[f"prompt {length}"] = 1e3 * (time.perf_counter() - started)
    for batch, context in _CASES:
        _, state = network.prefill(_prompt(config, context - _NUM_TEXT - 2))
        states = [network.fork(state) for _ in range(batch)]
        times = []
        for step in range(_STEPS):
            started = time.perf_counter()
            network.step(np.full(batch, step), states)
            times.append(1e3 * (time.perf_counter() - started))
        found[f"step {batch} at {context}"] = statistics.median(times[2:])
    return found


def _resident_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _markdown(rows: Mapping[str, Mapping[str, Any]]) -> str:
    cases = list(next(iter(rows.values()))["ms"])
    titles = [*(f"{case}, ms" for case in cases), "load, s", "resident, MB", "file, MB"]
    titles += ["relative error", "largest error", "same token"]
    lines = ["| weights | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    for name, row in rows.items():
        cells = [f"{row['ms'][case]:.1f} [{row['best_ms'][case]:.1f}]" for case in cases]
        cells += [f"{row['load_s']:.2f}", f"{row['resident_mb']:.0f}", f"{row['file_mb']:.0f}"]
        cells += [f"{row['relative_error']:.2g}", f"{row['max_abs_error']:.2g}"]
        cells.append(f"{100 * row['token_agreement']:.0f} %")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generation", type=int, choices=sorted(CONFIGS), default=2)
    parser.add_argument(
        "--variants", nargs="+", choices=get_args(LMVariant), default=["int8", "int8_rows", "int4"]
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="keep the models here, and use them again")
    parser.add_argument("--json", help="write the figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
