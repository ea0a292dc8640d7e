"""``mynah eval``: figures of a voice, measured on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mynah.cli import options

if TYPE_CHECKING:
    from mynah.api import TTS
    from mynah.evaluation.report import Judges, SentenceResult, SpeakerCheck
    from mynah.types import Audio, Voice


def evaluate(
    sentences: Annotated[
        Path | None,
        typer.Option("--sentences", help="One sentence a line; 200 everyday ones by default."),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="Use the first N sentences only.")
    ] = None,
    voice: Annotated[
        str | None, typer.Option("--voice", "-v", help="Name of a voice, or a file.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the first sentence.")] = 0,
    save_audio: Annotated[
        Path | None, typer.Option("--save-audio", help="Keep every sentence in this folder.")
    ] = None,
    json: options.Json = False,
    model: options.Model = "nano",
    backend: options.Backend = "auto",
    device: options.Device = "cpu",
    threads: options.Threads = None,
    quality: options.Quality = "exact",
) -> None:
    """Measure word error rate, DNSMOS, speaker similarity, lengths and speed.

    Words are recognised by pocketsphinx with its default English model, a weak judge: people
    reading aloud score about 0.1 to 0.3 with it. Needs the extra eval.
    """
    from mynah.cli.checks import environment
    from mynah.cli.console import show_json
    from mynah.cli.places import check_folder
    from mynah.evaluation.dnsmos import Dnsmos
    from mynah.evaluation.recognizer import Recognizer
    from mynah.evaluation.report import Judges, summarise
    from mynah.evaluation.sentences import everyday_sentences, read_sentences

    chosen = (everyday_sentences() if sentences is None else read_sentences(sentences))[:count]
    if save_audio is not None:
        check_folder(save_audio)
    recognizer, dnsmos = Recognizer(), Dnsmos()
    with options.load(model, device, backend, threads, quality) as tts:
        spoken = _voice(tts, voice)
        judges = Judges(recognizer, dnsmos, _speaker_check(model, tts, spoken, threads))
        results = _run(tts, spoken, chosen, judges, seed, save_audio)
        summary = summarise(results)
        protocol = {
            "model": tts.config.model_id,
            "voice": spoken.name,
            "backend": backend,
            "device": device,
            "quality": quality,
            "sentences": f"{len(chosen)} from {sentences or 'the everyday sentences of mynah'}",
            "seed": seed,
            "recogniser": recognizer.name,
            **environment(),
        }
    if json:
        show_json(
            {
                "protocol": protocol,
                "summary": summary,
                "results": [result.as_dict() for result in results],
            }
        )
        return
    _show(protocol, summary)


def _run(
    tts: TTS,
    voice: Voice,
    sentences: list[str],
    judges: Judges,
    seed: int,
    folder: Path | None,
) -> list[SentenceResult]:
    """Judge all sentences behind a progress line."""
    from mynah.cli.progress import Progress
    from mynah.evaluation.report import judge
    from mynah.files import output_error

    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(folder, error) from error

    def speak(text: str, seed: int) -> Audio:
        return tts.synthesize(text, voice, seed=seed)

    def keep(index: int, audio: Audio) -> None:
        if folder is not None:
            audio.save(folder / f"{index:04}.wav")

    results = []
    with Progress() as progress:
        for result in judge(sentences, speak, judges, seed=seed, keep=keep):
            results.append(result)
            progress.update(result.duration_s, len(results) / len(sentences))
    return results


def _voice(tts: TTS, name: str | None) -> Voice:
    """The voice as a value: its speaker embedding is compared."""
    from mynah.files import expand_user
    from mynah.pipeline.voices import VOICE_SUFFIX, load_voice

    if name is None:
        usable = [info.name for info in tts.voices.describe() if not info.problem]
        name = tts.config.default_voice or next(iter(usable), "default")
    if name.endswith(VOICE_SUFFIX):
        return load_voice(name, model_id=tts.config.model_id)
    if set(name) & {"/", "\\", "."}:
        return tts.create_voice(expand_user(name), name="clip")
    return tts.voices.load(name)


def _speaker_check(model: str, tts: TTS, voice: Voice, threads: int | None) -> SpeakerCheck | None:
    """Compare with the voice and with all others of the model; None if it has no encoder."""
    from mynah.backends.registry import load_encoders
    from mynah.errors import UnsupportedFeatureError
    from mynah.evaluation.report import SpeakerCheck

    try:
        _, encoder = load_encoders(options.find(model).path, threads)
    except UnsupportedFeatureError:
        return None
    others = [
        tts.voices.load(info.name).speaker_embedding
        for info in tts.voices.describe()
        if not info.problem and info.name != voice.name
    ]
    return SpeakerCheck(encoder, voice.speaker_embedding, others)


def _show(protocol: dict[str, Any], summary: dict[str, Any]) -> None:
    from mynah.cli.console import show_facts

    def number(key: str, digits: int = 2) -> str:
        value = summary[key]
        return "not measured" if value is None else f"{value:.{digits}f}"

    of = summary["sentences"]
    baseline = number("wrong_speaker_similarity")
    show_facts(protocol)
    typer.echo()
    show_facts(
        {
            "word error rate": number("word_error_rate", 3),
            "sentences without an error": f"{summary['sentences_without_error']} of {of}",
            "stopped by themselves": f"{summary['stopped']} of {of}",
            "length 0.7 to 1.4 of expected": f"{summary['length_ok']} of {of} "
            f"(mean {number('length_ratio_mean')}, {number('length_ratio_min')} to "
            f"{number('length_ratio_max')})",
            "DNSMOS overall": number("dnsmos_overall"),
            "DNSMOS speech": number("dnsmos_speech"),
            "DNSMOS background": number("dnsmos_background"),
            "speaker similarity": f"{number('speaker_similarity')} (other voices: {baseline})",
            "audio": f"{number('audio_s', 1)} s",
            "real-time factor": number("real_time_factor", 3),
        }
    )
