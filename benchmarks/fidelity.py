"""Numeric error of reduced variants against the exact model, per stage and end to end.

    python benchmarks/fidelity.py ~/CosyVoice2-0.5B cosyvoice2-0.5b --tokens 250
    python benchmarks/fidelity.py float32 int8 int4 --lines 4 --json fidelity.json
    python benchmarks/fidelity.py nano nano:quality=fast nano:backend=torch

The first model is the exact one. It speaks the lines; what it said is forced upon all, and they
answer one after the other, so that one of them is in memory. A model is a name, a model folder or a
released folder, which torch computes as it is; ``:backend=``, ``:quality=`` and ``:threads=``
choose how it is loaded. With ``--note`` the figures are written into the manifest of each reduced
model folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mynah.backends.base import Backend, FloatArray
from mynah.backends.registry import STAGES, build_torch_backend, load_backend, load_noise
from mynah.cli.checks import environment
from mynah.config import ModelConfig
from mynah.evaluation.fidelity import Answer, Fidelity, Line, answer, compare, record
from mynah.evaluation.sentences import everyday_sentences, read_sentences
from mynah.hub import find_model
from mynah.hub.folders import note_fidelity
from mynah.pipeline.model import SpeechModel, build_model
from mynah.pipeline.quality import find_quality
from mynah.pipeline.readers import build_reader
from mynah.pipeline.voice_store import VoiceStore
from mynah.types import Voice

PROTOCOL = """\
{lines} lines, {tokens} tokens, the voice {voice} ({prompt_tokens} tokens of recording). The first
model spoke them (seed {seed}); its tokens, and its places in the text, are given to every model.
Same token: share of positions where the likeliest next token is the same. KL: mean Kullback-Leibler
divergence of the distributions, in nats. Along: both in the four quarters of a line. Mel: root mean
square (largest) difference, in parts of the mel's standard deviation, in a stream. SNR: vocoder
alone on the exact mel; flow and vocoder; the same with the exact pitch and phase. Spectrum: log-mel
of the samples. Stream: largest difference of the model's own stream to its one pass, mel / samples.
"""


@dataclass(frozen=True)
class Choice:
    """A model as it is given on the command line."""

    model: str
    backend: str = "auto"
    quality: str = "exact"
    threads: int = 2

    @classmethod
    def parse(cls, word: str) -> Choice:
        """Read ``MODEL[:key=value[,key=value]]``."""
        model, _, rest = word.partition(":")
        given: dict[str, Any] = dict(part.split("=", 1) for part in rest.split(",") if part)
        if "threads" in given:
            given["threads"] = int(given["threads"])
        return cls(model, **given)

    @property
    def is_released(self) -> bool:
        """Whether it is the folder of a release."""
        from mynah.hub.releases import is_official_folder

        return is_official_folder(Path(self.model))


def main() -> None:
    """Compare, print Markdown, write JSON where asked."""
    options = _options()
    words = [options.exact, *options.others]
    choices = {word: Choice.parse(word) for word in words}
    converted = next((c.model for c in choices.values() if not c.is_released), None)
    lines: list[Line] = []
    exact: list[Answer] = []
    found: dict[str, Fidelity] = {}
    for word in words:
        print(f"asking {word}", file=sys.stderr)
        model = _load(choices[word], converted)
        if not exact:
            lines = _lines(model, choices[word], options)
            exact = answer(model, lines)
        else:
            found[word] = compare(exact, answer(model, lines, exact))
        del model  # before the next one is loaded
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": "python benchmarks/fidelity.py " + " ".join(sys.argv[1:]),
        "environment": environment(),
        "protocol": _protocol(lines, options),
        "exact": options.exact,
        "variants": {word: asdict(fidelity) for word, fidelity in found.items()},
    }
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.note:
        for word, fidelity in found.items():
            folder = find_model(choices[word].model, checksums=False)
            note_fidelity(folder.path, _facts(report, choices[word], fidelity))
    print(_markdown(report, found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("exact", help="MODEL[:key=value,...], the exact one")
    parser.add_argument("others", nargs="+", help="the same, the reduced ones")
    parser.add_argument("--text", type=Path, help="one sentence a line; everyday ones by default")
    parser.add_argument("--lines", type=int, default=2, help="sentences that are spoken")
    parser.add_argument("--tokens", type=int, help="of every line; default: the model stops")
    parser.add_argument("--voice", help="name of a voice; 'random' = 75 random tokens")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="file for everything measured")
    parser.add_argument("--note", action="store_true", help="write into the folders' manifests")
    return parser.parse_args()


def _load(choice: Choice, converted: str | None) -> SpeechModel:
    """Load a model; a release takes text front end and noise of the first converted one."""
    if choice.is_released:
        if converted is None:
            raise SystemExit("give one converted model folder beside the released one")
        config, backend = _released(Path(choice.model), choice.threads)
        path = find_model(converted, checksums=False).path
    else:
        folder = find_model(choice.model, checksums=False)
        config, path = folder.config(), folder.path
        backend = load_backend(path, config, backend=choice.backend, threads=choice.threads)
    config = find_quality(choice.quality).apply(config)
    noise: FloatArray | None = load_noise(path)
    return build_model(config, backend, build_reader(config, path), noise=noise)


def _released(path: Path, threads: int) -> tuple[ModelConfig, Backend]:
    import torch

    from mynah.export.official_folder import read_official_folder

    torch.set_num_threads(threads)
    folder = read_official_folder(path)
    modules = {stage: folder.load_stage(stage) for stage in STAGES}
    return folder.config, build_torch_backend(modules, torch.device("cpu"))


def _lines(model: SpeechModel, choice: Choice, options: argparse.Namespace) -> list[Line]:
    sentences = everyday_sentences() if options.text is None else read_sentences(options.text)
    voice = _voice(model.config, choice, options.voice)
    lines: list[Line] = []
    for index, text in enumerate(sentences[: options.lines]):
        seed = options.seed + index
        lines += record(model, text, voice, seed=seed, num_tokens=options.tokens)
    return lines


def _voice(config: ModelConfig, choice: Choice, name: str | None, size: int = 75) -> Voice:
    if name != "random" and not choice.is_released:
        store = VoiceStore.for_model(find_model(choice.model, checksums=False), config.model_id)
        return store.load(name or config.default_voice or "default")
    rng = np.random.default_rng(2)
    mel = rng.standard_normal((config.num_frames(size), config.flow.n_mels)) - 5
    return Voice(
        name="random",
        model_id=config.model_id,
        transcript="Known words." if config.lm.reads_prompt_speech else "",
        speech_tokens=rng.integers(0, config.flow.speech_vocab_size, size),
        mel=mel.astype(np.float32),
        speaker_embedding=rng.standard_normal(config.flow.speaker_dim).astype(np.float32),
    )


def _protocol(lines: list[Line], options: argparse.Namespace) -> str:
    voice = lines[0].voice
    return PROTOCOL.format(
        lines=len(lines),
        tokens=sum(len(line.tokens) for line in lines),
        voice=voice.name,
        prompt_tokens=len(voice.speech_tokens),
        seed=options.seed,
    )


def _facts(report: Mapping[str, Any], choice: Choice, fidelity: Fidelity) -> dict[str, Any]:
    """What a manifest keeps: the figures, and how to get them again."""
    manner = {key: value for key, value in asdict(choice).items() if key != "model"}
    return {"date": report["date"], "against": Path(report["exact"]).name, **manner} | asdict(
        fidelity
    )


def _markdown(report: Mapping[str, Any], found: Mapping[str, Fidelity]) -> str:
    head = (
        "variant", "same token", "KL", "along: same, KL", "moves", "mel", "vocoder, dB",
        "whole, dB", "same pitch, dB", "spectrum", "stream",
    )  # fmt: skip
    rows = [head, tuple("---" for _ in head)]
    rows += [_row(Path(word).name, fidelity) for word, fidelity in found.items()]
    lines = [f"Measured {report['date']}: `{report['command']}`", ""]
    lines += [f"- {name}: {value}" for name, value in report["environment"].items()]
    lines += ["", report["protocol"]]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    exact = next(iter(found.values())).exact_stream
    lines += ["", f"Stream of the exact model: {exact.mel:.1e} / {exact.samples:.1e}."]
    return "\n".join(lines)


def _row(name: str, found: Fidelity) -> tuple[str, ...]:
    tokens, moves = found.tokens, found.moves
    same = " ".join(f"{100 * value:.0f}" for value in tokens.same_along)
    nats = " ".join(f"{value:.2g}" for value in tokens.divergence_along)
    return (
        name,
        f"{100 * tokens.same:.1f} %",
        f"{tokens.divergence:.2g}",
        f"{same} %, {nats}",
        "" if moves is None else f"{100 * moves.same:.1f} %, {moves.divergence:.2g}",
        f"{100 * found.mel_error:.2g} % ({100 * found.mel_largest:.2g} %)",
        _decibels(found.vocoder_db),
        _decibels(found.whole_db),
        _decibels(found.same_source_db),
        f"{100 * found.spectrum_error:.2g} %",
        f"{found.stream.mel:.1e} / {found.stream.samples:.1e}",
    )


def _decibels(value: float | None) -> str:
    return "the same" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    main()
