"""``mynah say``: speak a text into a file, a pipe or the loudspeaker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mynah.cli import options

if TYPE_CHECKING:
    from mynah.api import TTS
    from mynah.types import Voice


def say(
    text: Annotated[
        str | None, typer.Argument(help="What to say; - or nothing = standard input.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Read the text from a file (UTF-8).")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="Where to: a .wav, .flac, .ogg, .opus or .mp3 file, or - for standard output. "
            "Without it the speech is played, or written to speech.wav where nothing can play.",
        ),
    ] = None,
    voice: Annotated[
        str | None,
        typer.Option(
            "--voice", "-v", help="Name of a voice, a voice file, or a recording to imitate."
        ),
    ] = None,
    transcript: Annotated[
        str, typer.Option("--transcript", help="The words of the recording given as --voice.")
    ] = "",
    language: Annotated[
        str | None, typer.Option("--language", "-l", help="Language code; found from the text.")
    ] = None,
    speed: Annotated[float, typer.Option("--speed", help="1 = normal, 2 = twice as fast.")] = 1.0,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Same seed, same samples; without it any.")
    ] = None,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Write to standard output while the audio is being made."),
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="To standard output: 16-bit PCM without a WAV header.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
    model: options.Model = "nano",
    backend: options.Backend = "onnx",
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Speak a text.

    A WAV file can be played while it grows, and stays playable when you press Ctrl-C.
    """
    from mynah.cli.console import note
    from mynah.cli.progress import Progress
    from mynah.cli.sinks import open_sink
    from mynah.cli.sources import read_text

    words = read_text(text, file)
    with options.load(model, device, backend, threads) as tts:
        speech = tts.stream(
            words,
            resolve_voice(tts, voice, transcript),
            language=language,
            speed=speed,
            seed=seed,
        )
        with speech:
            sink, place = open_sink(output, tts.sample_rate, stream=stream, raw=raw)
            with sink, Progress(quiet=quiet) as progress:
                for chunk in speech:
                    sink.write(chunk.audio.samples)
                    progress.update(chunk.audio.duration_s, speech.progress)
                took_s, factor = progress.elapsed_s, progress.real_time_factor
    if place and not quiet:
        note(
            f"{progress.audio_s:.2f} s of speech in {took_s:.2f} s "
            f"({factor:.2f} x real time) -> {place}"
        )


def resolve_voice(tts: TTS, voice: str | None, transcript: str) -> Voice | str | None:
    """Return what ``TTS.stream`` takes as a voice.

    Raises:
        InvalidRequestError: if a transcript was given without a recording.
        PromptAudioError: if the recording cannot be read or is unsuitable.
    """
    if not transcript:
        return voice
    from mynah.errors import InvalidRequestError
    from mynah.files import expand_user

    if voice is None or not set(voice) & {"/", "\\", "."} or voice.endswith(".safetensors"):
        raise InvalidRequestError(
            f"a transcript was given, but {voice or 'no voice'} is not a recording",
            hint="a transcript belongs to --voice clip.wav",
        )
    return tts.create_voice(expand_user(voice), transcript, name="clip")
