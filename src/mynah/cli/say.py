"""``mynah say``: speak a text into a file, a pipe or the loudspeaker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from mynah.cli import options, speaking

if TYPE_CHECKING:
    from mynah.types import Mode


def say(
    text: Annotated[
        str | None,
        typer.Argument(
            help="What to say. - = standard input, spoken while it still comes; nothing = "
            "standard input, read to its end first."
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Read the text from a file (UTF-8).")
    ] = None,
    output: speaking.Output = None,
    voice: speaking.VoiceName = None,
    transcript: speaking.Transcript = "",
    mode: speaking.SpeechMode = None,
    instruction: speaking.Instruction = None,
    emotion: speaking.Emotion = None,
    dialect: speaking.Dialect = None,
    style: speaking.Style = None,
    language: speaking.Language = None,
    lexicon: speaking.Lexicon = None,
    no_normalize: speaking.NoNormalize = False,
    no_split: speaking.NoSplit = False,
    speed: speaking.Speed = 1.0,
    seed: speaking.Seed = None,
    timeout: speaking.Timeout = None,
    stream: speaking.Stream = False,
    raw: speaking.Raw = False,
    quiet: speaking.Quiet = False,
    model: options.Model = "nano",
    backend: options.Backend = "auto",
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Speak a text.

    A WAV file can be played while it grows, and stays playable when you press Ctrl-C.
    """
    from mynah.cli.sinks import choose_sink
    from mynah.cli.sources import open_text

    open_sink, place = choose_sink(output, stream=stream, raw=raw)
    words = open_text(text, file, live=not no_split)
    with options.load(model, device, backend, threads) as tts:
        speaking.write_speech(
            lambda: tts.stream(
                words,
                speaking.resolve_voice(tts, voice, transcript),
                mode=cast("Mode | None", mode),  # checked by the request
                instruction=instruction,
                emotion=emotion,
                dialect=dialect,
                style=style,
                language=language,
                lexicon=lexicon,
                normalize=not no_normalize,
                split=not no_split,
                speed=speed,
                seed=seed,
                timeout_s=timeout,
            ),
            tts.sample_rate,
            open_sink,
            place,
            quiet=quiet,
        )
