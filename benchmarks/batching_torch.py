"""Does it pay that several streams share a call of the torch backend on this device?

    python benchmarks/batching_torch.py --device cuda
    python benchmarks/batching_torch.py --device cpu --size small --threads 2 --streams 1,2,4
    python benchmarks/batching_torch.py --stage lm --streams 1,4,16,64

A flow and a vocoder of CosyVoice2-0.5B with random weights (or small ones); a voice of 3 s is read
once and shared. Streams that are one to four chunks into their utterances are given a chunk of 25
tokens (one second) each, over and over: once one stream after the other, and once all of them in
one call, in turns. With ``--stage lm`` it is the language model instead: a prompt is read once and
shared, and every stream makes one second of speech tokens after pasts of unequal length. Prints
seconds of audio made in a second, medians of the rounds, and the ratio to one after the other; on a
graphics card also the memory that was needed at most.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from mynah.backends.base import Segment
from mynah.backends.registry import torch_stage
from mynah.config import FlowConfig, LMConfig, TokenEncoderConfig, VelocityConfig, VocoderConfig
from mynah.networks.flow import Flow
from mynah.networks.language_model import SpeechLanguageModel
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

LANGUAGE_MODELS = {
    "full": LMConfig(
        text_vocab_size=151936,
        hidden_size=896,
        num_layers=24,
        num_heads=14,
        num_kv_heads=2,
        head_dim=64,
        intermediate_size=4864,
    ),
    "small": LMConfig(
        text_vocab_size=1000,
        hidden_size=256,
        num_layers=6,
        num_heads=4,
        num_kv_heads=2,
        head_dim=64,
        intermediate_size=768,
    ),
}
TOKENS_PER_SECOND = 25

Stream = tuple[FlowStageState, VocoderStageState]
Round = Callable[[], float]
"""Does the work once; returns the seconds of audio that it was for."""


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


class Rendering:
    """``count`` streams that are rendered one by one, and as many that are rendered together."""

    def __init__(self, renderer: Renderer, count: int) -> None:
        """Begin all streams."""
        self._renderer, self._rng = renderer, np.random.default_rng(1)
        self._apart, self._joined = (renderer.streams(count, self._rng) for _ in range(2))

    def rounds(self) -> dict[str, Round]:
        """The same new tokens in both ways."""
        render = self._renderer.render
        tokens = [self._renderer.tokens(self._rng, CHUNK) for _ in self._apart]
        pairs = list(zip(self._apart, tokens, strict=True))
        return {
            "apart": lambda: _seconds([render([stream], [one])[0] for stream, one in pairs]),
            "joined": lambda: _seconds(render(self._joined, tokens)),
        }


class Speaking:
    """``count`` sequences that are stepped one by one, and as many that are stepped together."""

    def __init__(self, size: str, device: str, count: int) -> None:
        """Read a prompt of 10 s once; sequences go on from 0 to 9 s behind it."""
        torch.manual_seed(0)
        self._config = LANGUAGE_MODELS[size]
        self._lm = torch_stage("lm", SpeechLanguageModel(self._config).to(device))
        self._rng = np.random.default_rng(1)
        _, prompt = self._lm.prefill([Segment("speech", self._tokens(10 * TOKENS_PER_SECOND))])
        self._apart, self._joined = ([self._lm.fork(prompt) for _ in range(count)] for _ in "12")
        for index in range(count):
            if behind := index * 7 % 10 * TOKENS_PER_SECOND:
                read = [Segment("speech", self._tokens(behind))]
                for states in (self._apart, self._joined):
                    self._lm.prefill(read, states[index])

    def _tokens(self, count: int) -> np.ndarray:
        return self._rng.integers(0, self._config.speech_vocab_size, count)

    def rounds(self) -> dict[str, Round]:
        """The same tokens in both ways; the sequences stay as long as they are."""
        tokens = [self._tokens(len(self._apart)) for _ in range(TOKENS_PER_SECOND)]

        def apart() -> float:
            states = [self._lm.fork(state) for state in self._apart]
            for column in tokens:
                for token, state in zip(column, states, strict=True):
                    self._lm.step(token[None], [state])
            return float(len(states))

        def joined() -> float:
            states = [self._lm.fork(state) for state in self._joined]
            for column in tokens:
                self._lm.step(column, states)
            return float(len(states))

        return {"apart": apart, "joined": joined}


def main() -> None:
    """Measure in turns, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--stage", choices=("rendering", "lm"), default="rendering")
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
    renderer = Renderer(args.size, args.device) if args.stage == "rendering" else None
    print(f"{_name(args.device)}, torch {torch.__version__}, {args.size} size\n")
    print("| Streams | One by one, audio s/s | Together | Ratio | Most memory |")
    print("|---|---|---|---|---|")
    for count in (int(one) for one in args.streams.split(",")):
        work = (
            Speaking(args.size, args.device, count)
            if renderer is None
            else Rendering(renderer, count)
        )
        alone, together = _measure(work, args.rounds, clock)
        ratio = f"{together / alone:.2f} | {_memory(args.device)}"
        print(f"| {count} | {alone:.2f} | {together:.2f} | {ratio} |", flush=True)


def _measure(
    work: Rendering | Speaking, rounds: int, clock: Callable[[], float]
) -> tuple[float, float]:
    """Seconds of audio made in a second, one by one and together."""
    rates: dict[str, list[float]] = {"apart": [], "joined": []}
    for number in range(rounds + 1):
        for name, run in work.rounds().items():
            started = clock()
            seconds = run()
            took = clock() - started
            if number:  # the first round warms up
                rates[name].append(seconds / took)
    return statistics.median(rates["apart"]), statistics.median(rates["joined"])


def _seconds(samples: Sequence[FloatArray]) -> float:
    return sum(map(len, samples)) / SAMPLE_RATE


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
