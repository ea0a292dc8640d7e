"""What one chunk of the flow costs: variants, quality tiers, and how cost grows with the context.

    python benchmarks/flow.py --model nano --seconds 10
    python benchmarks/flow.py --random --variants float32,int8 --seconds 10 --threads 2

Protocol: a voice of 3 s is read once, then an utterance is fed chunk by chunk; all rows of a table
take turns at every chunk, so that a busy machine slows all of them. "wall" is the median over the
chunks, "cpu" the processor time of all threads. Errors are of the log-mel against the first row:
root mean square, in parts of the mel's standard deviation. ``--random`` makes a CosyVoice2-0.5B
flow with random weights (needs torch; errors of random weights are pessimistic).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mynah.backends.base import FlowNetwork
from mynah.config import FlowConfig, TokenEncoderConfig, VelocityConfig
from mynah.pipeline import flow
from mynah.pipeline.flow import FlowPrompt, FlowStageState
from mynah.pipeline.noise import SeededNoise
from mynah.pipeline.quality import QUALITIES
from mynah.types import FloatArray

CHUNK, AHEAD, PROMPT = 25, 3, 75
FULL_SIZE = FlowConfig(
    encoder=TokenEncoderConfig(dim=512, num_heads=8, feed_forward=2048),
    velocity=VelocityConfig(),
    noise="numpy",
)


@dataclass(eq=False)
class Row:
    """One way to compute the same utterance."""

    name: str
    network: FlowNetwork
    config: FlowConfig
    state: FlowStageState | None = None
    prefix_s: float = 0.0
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    mel: list[FloatArray] = field(default_factory=list)


def load_random(variant: str, folder: Path, threads: int) -> FlowNetwork:
    """Write a full-size flow with random weights, unless it is there, and load it."""
    from mynah.backends.onnx.flow import OnnxFlow

    if not (folder / "flow_embeddings.safetensors").exists():
        import torch

        from mynah.export.flow import export_flow
        from mynah.export.shrink import shrink
        from mynah.networks.flow import Flow

        torch.manual_seed(0)
        export_flow(Flow(FULL_SIZE).eval(), folder, variant)  # type: ignore[arg-type]  # from argv
        for path in folder.glob("*.onnx"):
            shrink(path, variant)  # type: ignore[arg-type]  # the same
    started = time.perf_counter()
    network = OnnxFlow(folder, threads=threads)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{variant}: {size / 1e6:.0f} MB, loaded in {time.perf_counter() - started:.2f} s")
    return network


def load_model(name: str, threads: int) -> tuple[FlowNetwork, FlowConfig]:
    """Load the flow of a model."""
    from mynah.backends.registry import onnx_stages
    from mynah.hub import find_model

    folder = find_model(name)
    config = folder.config()
    return onnx_stages(folder.path, config, threads)["flow"](), config.flow


@contextmanager
def timed(note: Callable[[float, float], None]) -> Iterator[None]:
    """Pass on wall and processor time of the block."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    note(time.perf_counter() - wall, time.process_time() - cpu)


def start(row: Row, voice: FlowPrompt, noise: SeededNoise) -> None:
    """Read the voice, then begin an utterance with it."""
    with timed(lambda wall, cpu: setattr(row, "prefix_s", wall)):
        prefix = flow.prefix_state(row.network, row.config, voice, noise)
    row.state = flow.fork(row.network, prefix)


def speak(rows: list[Row], seconds: int) -> None:
    """Feed all rows the same tokens, in turns."""
    config, rng = rows[0].config, np.random.default_rng(0)
    speaker = rng.standard_normal(config.speaker_dim).astype(np.float32)
    mel = rng.standard_normal((2 * (PROMPT + AHEAD), config.n_mels)) * config.mel_std
    voice = FlowPrompt(
        speaker,
        rng.integers(0, config.speech_vocab_size, PROMPT + AHEAD),
        (mel + config.mel_mean).astype(np.float32),
    )
    for row in rows:
        start(row, voice, SeededNoise(config.n_mels))
    for part in np.split(rng.integers(0, config.speech_vocab_size, seconds * CHUNK), seconds):
        for row in rows:
            assert row.state is not None

            def note(wall: float, cpu: float, row: Row = row) -> None:
                row.wall_s.append(wall)
                row.cpu_s.append(cpu)

            with timed(note):
                made = flow.advance(row.network, row.config, part, row.state, final=False)
            row.mel.append(made)


def table(rows: list[Row]) -> str:
    """Markdown of what was measured."""
    reference = np.concatenate(rows[0].mel)
    lines = [
        "| | voice, s | wall, ms | cpu, ms | cpu first | cpu last | state, MB | error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        assert row.state is not None
        error = np.concatenate(row.mel) - reference
        relative = float(np.sqrt(np.square(error).mean()) / reference.std())
        cells = [
            row.name,
            f"{row.prefix_s:.2f}",
            f"{1000 * np.median(row.wall_s):.0f}",
            f"{1000 * np.median(row.cpu_s):.0f}",
            f"{1000 * row.cpu_s[0]:.0f}",
            f"{1000 * row.cpu_s[-1]:.0f}",
            f"{sum(one.nbytes() for one in row.state.velocity) / 1e6:.0f}",
            f"{relative:.4f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print a table of variants, and one of quality tiers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--random", action="store_true", help="full size, random weights")
    parser.add_argument("--variants", default="float32,int8", help="with --random")
    parser.add_argument("--folder", type=Path, help="keep the random graphs here")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = []
        if options.random:
            root = options.folder or Path(scratch)
            for variant in options.variants.split(","):
                network = load_random(variant, root / variant, options.threads)
                rows.append(Row(variant, network, FULL_SIZE))
        else:
            network, config = load_model(options.model, options.threads)
            rows.append(Row(options.model, network, config))
        print(f"{options.seconds} s in chunks of a second, {options.threads} threads\n")
        if len(rows) > 1:
            speak(rows, options.seconds)
            print(table(rows) + "\n")
        last = rows[-1]
        tiers = [Row(n, last.network, q.flow(last.config)) for n, q in QUALITIES.items()]
        speak(tiers, options.seconds)
        print(table(tiers))


if __name__ == "__main__":
    main()
