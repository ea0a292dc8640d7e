"""What the commands that make sound share: their options, the voice, and where the audio goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mynah.api import TTS
    from mynah.cli.sinks import OpenSink
    from mynah.engine.stream import SpeechStream
    from mynah.types import Voice

Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        help="Where to: a .wav, .flac, .ogg, .opus or .mp3 file, or - for standard output. "
        "Without it the speech is played, or written to speech.wav where nothing can play.",
    ),
]
VoiceName = Annotated[
    str | None,
    typer.Option("--voice", "-v", help="Name of a voice, a voice file, or a recording to imitate."),
]
Transcript = Annotated[
    str, typer.Option("--transcript", help="The words of the recording given as --voice.")
]
Language = Annotated[
    str | None, typer.Option("--language", "-l", help="Language code; found from the text.")
]
Speed = Annotated[float, typer.Option("--speed", help="1 = normal, 2 = twice as fast.")]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Same seed, same samples; without it any.")
]
Stream = Annotated[
    bool,
    typer.Option("--stream", help="Write to standard output while the audio is being made."),
]
Raw = Annotated[
    bool, typer.Option("--raw", help="To standard output: 16-bit PCM without a WAV header.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
SpeechMode = Annotated[
    str | None,
    typer.Option(
        "--mode",
        help="sft, zero_shot, cross_lingual or instruct; without it the most that voice and "
        "model allow.",
    ),
]
Instruction = Annotated[
    str | None, typer.Option("--instruction", help="How to say it, in words; not every model can.")
]
Emotion = Annotated[
    str | None, typer.Option("--emotion", help="A name from `mynah styles`; so do the next two.")
]
Dialect = Annotated[str | None, typer.Option("--dialect", help="A name from `mynah styles`.")]
Style = Annotated[str | None, typer.Option("--style", help="A name from `mynah styles`.")]
Lexicon = Annotated[
    Path | None,
    typer.Option("--lexicon", help="File of pronunciations: a word, a tab, how it is said."),
]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", help="Give up after so many seconds; what was made is kept."),
]
NoSplit = Annotated[bool, typer.Option("--no-split", help="Speak the text in one go, uncut.")]
NoNormalize = Annotated[
    bool, typer.Option("--no-normalize", help="Leave numbers and symbols as they are written.")
]


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


def write_speech(
    open_speech: Callable[[], SpeechStream],
    sample_rate: int,
    open_sink: OpenSink,
    place: str,
    *,
    quiet: bool,
) -> None:
    """Make a speech and put it where it belongs, with a progress line and a summary.

    Args:
        open_speech: begins it, or refuses the request.
        sample_rate: of the speech, in Hz.
        open_sink: of ``choose_sink``.
        place: likewise.
        quiet: whether to keep silent on standard error.

    Raises:
        SynthesisError: whatever is wrong; what was made until then is kept.
    """
    from mynah.cli.console import note
    from mynah.cli.progress import Progress

    with (
        open_speech() as speech,
        open_sink(sample_rate) as sink,
        Progress(quiet=quiet) as progress,
    ):
        for chunk in speech:
            sink.write(chunk.audio.samples)
            progress.update(chunk.audio.duration_s, speech.progress)
        took_s, factor = progress.elapsed_s, progress.real_time_factor
    if place and not quiet:
        note(
            f"{progress.audio_s:.2f} s of speech in {took_s:.2f} s "
            f"({factor:.2f} x real time) -> {place}"
        )
