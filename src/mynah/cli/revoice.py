"""``mynah revoice``: a recording said again with another voice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mynah.cli import options, speaking


def revoice(
    recording: Annotated[
        Path, typer.Argument(help="Speech of 0.3 s or more, at 16 kHz or more; any length.")
    ],
    voice: speaking.VoiceName = None,
    output: speaking.Output = None,
    speed: speaking.Speed = 1.0,
    seed: speaking.Seed = None,
    stream: speaking.Stream = False,
    raw: speaking.Raw = False,
    quiet: speaking.Quiet = False,
    model: options.Model = "nano",
    backend: options.Backend = "auto",
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Say a recording again with another voice: words, timing and melody stay.

    Use only voices of people who agreed to be imitated.
    """
    from mynah.cli.sinks import choose_sink
    from mynah.files import expand_user

    open_sink, place = choose_sink(output, stream=stream, raw=raw)
    with options.load(model, device, backend, threads) as tts:
        speaking.write_speech(
            lambda: tts.stream_convert(expand_user(recording), voice, speed=speed, seed=seed),
            tts.sample_rate,
            open_sink,
            place,
            quiet=quiet,
        )
