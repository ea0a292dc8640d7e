"""``mynah voices``: the voices on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mynah.cli import options
from mynah.cli.failures import reported

if TYPE_CHECKING:
    from mynah.pipeline.voice_store import VoiceStore
    from mynah.pipeline.voices import VoiceInfo

app = typer.Typer(help="List, make, move and remove voices.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the voice.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


@app.command("list")
@reported
def list_voices(model: options.Model = "nano", json: options.Json = False) -> None:
    """List the voices that a model can use, and those it cannot."""
    from mynah.cli.console import show_json, show_table

    found = _store(model).describe()
    if json:
        show_json([_facts(info) for info in found])
        return
    rows = [
        (
            info.name,
            "with the model" if info.builtin else "yours",
            info.language,
            info.model_id,
            info.problem or "ready",
        )
        for info in found
    ]
    show_table(("name", "from", "language", "model", "state"), rows)


@app.command()
@reported
def show(name: Name, model: options.Model = "nano", json: options.Json = False) -> None:
    """Show what is known about a voice."""
    from mynah.cli.console import show_facts, show_json

    facts = _facts(_store(model).show(name))
    if json:
        show_json(facts)
    else:
        show_facts(facts)


@app.command()
@reported
def add(
    name: Name,
    recording: Annotated[
        Path, typer.Argument(help="1 to 30 s of one person speaking, at 16 kHz or more.")
    ],
    transcript: Annotated[
        str, typer.Option("--transcript", "-t", help="The words of the recording.")
    ] = "",
    language: Annotated[
        str, typer.Option("--language", "-l", help="Language code of the recording.")
    ] = "",
    licence: Annotated[
        str, typer.Option("--licence", help="Licence of the recording, for example CC0-1.0.")
    ] = "",
    consent: Annotated[
        str, typer.Option("--consent", help="Who agreed to what: kept inside the voice file.")
    ] = "",
    lexicon: Annotated[
        Path | None,
        typer.Option("--lexicon", help="File of pronunciations that always count for this voice."),
    ] = None,
    overwrite: Overwrite = False,
    model: options.Model = "nano",
    threads: options.Threads = None,
) -> None:
    """Make a voice from a recording and keep it.

    Use only recordings of people who agreed to be imitated, and note that with --consent.
    """
    from mynah.cli.console import note
    from mynah.text.lexicons import UserLexicon

    with options.load(model, "cpu", "auto", threads) as tts:
        voice = tts.create_voice(
            recording, transcript, name=name, language=language, licence=licence, consent=consent
        )
        if lexicon is not None:
            UserLexicon.load(lexicon)  # a wrong one leaves no voice behind
        path = tts.voices.add(voice, overwrite=overwrite)
        if lexicon is not None:
            tts.voices.add_lexicon(name, lexicon)
    note(f"voice {name} -> {path}")
    if not consent:
        note("  no note of consent was given; --consent keeps one inside the voice")


@app.command()
@reported
def remove(name: Name, model: options.Model = "nano") -> None:
    """Remove one of your voices."""
    from mynah.cli.console import note

    _store(model).remove(name)
    note(f"voice {name} was removed")


@app.command()
@reported
def export(
    name: Name,
    path: Annotated[Path, typer.Argument(help="File to write, or a folder.")],
    overwrite: Overwrite = False,
    model: options.Model = "nano",
) -> None:
    """Copy a voice to a file that can be carried elsewhere."""
    from mynah.cli.console import note
    from mynah.cli.places import check_file

    if not path.is_dir():
        check_file(path)
    note(f"voice {name} -> {_store(model).export(name, path, overwrite=overwrite)}")


@app.command("import")
@reported
def import_voice(
    path: Annotated[Path, typer.Argument(help="A voice file.")],
    name: Annotated[str | None, typer.Option("--name", help="Keep it under another name.")] = None,
    overwrite: Overwrite = False,
    model: options.Model = "nano",
) -> None:
    """Keep a voice file that came from elsewhere."""
    from mynah.cli.console import note

    voice = _store(model).import_file(path, name, overwrite=overwrite)
    note(f"voice {voice.name} was added")


def _store(model: str) -> VoiceStore:
    """The voices beside a model; its networks are not loaded."""
    from mynah.pipeline.voice_store import VoiceStore

    folder = options.find(model)
    return VoiceStore.for_model(folder, folder.config().model_id)


def _facts(info: VoiceInfo) -> dict[str, object]:
    return {
        "name": info.name,
        "model": info.model_id,
        "state": info.problem or "ready",
        "built in": info.builtin,
        "language": info.language,
        "transcript": info.transcript,
        "licence": info.licence,
        "consent": info.consent,
        "created": info.created,
        "speech tokens": info.num_tokens,
        "file": str(info.path),
    }
