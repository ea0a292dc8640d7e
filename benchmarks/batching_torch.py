"""Does it pay to render several streams in one call of the torch backend on this device?

    python benchmarks/batching_torch.py --device cuda
    python benchmarks/batching_torch.py --device cpu --size small --threads 2 --streams 1,2,4

A flow and a vocoder of CosyVoice2-0.5B with random weights (or small ones); a voice of 3 s is read
once and shared. Streams that are one to four chunks into their utterances are given a chunk of 25
tokens (one second) each, over and over: once one stream after the other, and once all of them in
one call, in turns. Prints seconds of audio made in a second, medians of the rounds, and the ratio
to one after the other; on a graphics card also the memory that was needed at most.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from mynah.backends.registry import torch_stage
from mynah.config import FlowConfig, TokenEncoderConfig, VelocityConfig, VocoderConfig
from mynah.networks.flow import Flow
from mynah.networks.vocoder import HiFT
from mynah.pipeline import flow, vocoder
from mynah.pipeline.flow import FlowPrompt, FlowStageState
from mynah.pipeline.noise import SeededNoise
from mynah.pipeline.sharing import unwrapped
from mynah.pipeline.vocoder import VocoderStageState
from mynah.types import FloatArray

CHUNK, AHEAD, PROMPT = 25, 3, 75
SAMPLE_RATE = 24000
SIZES = {
    "full": (
        TokenEncoderConfig(dim=512, num_heads=8, feed_forward=2048),
        VelocityConfig(),
        VocoderConfig(),
    ),
    "small": (
        TokenEncoderConfig(dim=64, num_heads=2, feed_forward=128, num_blocks=2, num_up_blocks=1),
        VelocityConfig(channels=64, num_heads=2, head_dim=32, num_mid_blocks=2),
        VocoderConfig(base_channels=64, f0_channels=64),
    ),
}

Stream = tuple[FlowStageState, VocoderStageState]


class Renderer:
    """Flow and vocoder on a device."""

    def __init__(self, size: str, device: str) -> None:
        """Random weights; the size is one of ``SIZES``."""
        encoder, velocity, self.vocoder_config = SIZES[size]
        self.config = FlowConfig(encoder=encoder, velocity=velocity, noise="numpy")
        torch.manual_seed(0)
        self.flow = torch_stage("flow", Flow(self.config).to(device))
        self.vocoder = torch_stage("vocoder", HiFT(self.vocoder_config).to(device))
        rng = np.random.default_rng(0)
        mel = rng.standard_normal((2 * (PROMPT + AHEAD), self.config.n_mels))
        voice = FlowPrompt(
            rng.standard_normal(self.config.speaker_dim).astype(np.float32),
            self.tokens(rng, PROMPT + AHEAD),
            (mel * self.config.mel_std + self.config.mel_mean).astype(np.float32),
        )
        self._prefix = flow.prefix_state(
            self.flow, self.config, voice, SeededNoise(self.config.n_mels)
        )

    def tokens(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Random speech tokens (count,)."""
        return rng.integers(0, self.config.speech_vocab_size, count)

    def streams(self, count: int, rng: np.random.Generator) -> list[Stream]:
        """Streams that are one to four chunks into their utterances."""
        made = []
        for index in range(count):
            state = flow.fork(self.flow, self._prefix)
            noise = np.random.default_rng(index)
            stream = (state, vocoder.new_state(self.vocoder_config, SAMPLE_RATE, noise))
            for chunk in range(1 + index % 4):
                self.render([stream], [self.tokens(rng, CHUNK + (0 if chunk else AHEAD))])
            made.append(stream)
        return made

    def render(self, streams: Sequence[Stream], tokens: Sequence[np.ndarray]) -> list[FloatArray]:
        """Samples of new tokens, by calls that the streams share."""
        going = [False] * len(streams)
        flows, vocoders = zip(*streams, strict=True)
        mels = flow.advance_many(self.flow, self.config, tokens, flows, going)
        ready = [unwrapped(mel) for mel in mels]
        samples = vocoder.advance_many(self.vocoder, self.vocoder_config, ready, vocoders, going)
        return [unwrapped(one) for one in samples]


def main() -> None:
    """Measure in turns, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--streams", default="1,2,4,8,16")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="count processor seconds: for --device cpu --threads 1 where others are busy",
    )
    args = parser.parse_args()
    clock = time.process_time if args.processor_time else time.perf_counter
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    renderer = Renderer(args.size, args.device)
    print(f"{_name(args.device)}, torch {torch.__version__}, {args.size} size\n")
    print("| Streams | One by one, audio s/s | Together | Ratio | Most memory |")
    print("|---|---|---|---|---|")
    for count in (int(one) for one in args.streams.split(",")):
        alone, together = _measure(renderer, count, args.rounds, clock)
        ratio = f"{together / alone:.2f} | {_memory(args.device)}"
        print(f"| {count} | {alone:.2f} | {together:.2f} | {ratio} |", flush=True)


def _measure(
    renderer: Renderer, count: int, rounds: int, clock: Callable[[], float]
) -> tuple[float, float]:
    """Seconds of audio made in a second by ``count`` streams, one by one and together."""
    rng = np.random.default_rng(1)
    apart, joined = renderer.streams(count, rng), renderer.streams(count, rng)
    ways: dict[str, Callable[[list[np.ndarray]], int]] = {
        "apart": lambda tokens: sum(
            len(renderer.render([stream], [one])[0])
            for stream, one in zip(apart, tokens, strict=True)
        ),
        "joined": lambda tokens: sum(len(one) for one in renderer.render(joined, tokens)),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        tokens = [renderer.tokens(rng, CHUNK) for _ in range(count)]
        for name, render in ways.items():
            started = clock()
            samples = render(tokens)
            took = clock() - started
            if number:  # the first round warms up
                rates[name].append(samples / SAMPLE_RATE / took)
    return statistics.median(rates["apart"]), statistics.median(rates["joined"])


def _name(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device}, {torch.get_num_threads()} threads"


def _memory(device: str) -> str:
    if torch.device(device).type != "cuda":
        return "–"
    return f"{torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB"


if __name__ == "__main__":
    main()
