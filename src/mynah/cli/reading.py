"""``mynah styles`` and ``mynah normalize``: what a model can be told, and how it reads a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mynah.cli import options, speaking

if TYPE_CHECKING:
    from mynah.config import ModelConfig
    from mynah.pipeline.reading import TextReader


def styles(model: options.Model = "nano", json: options.Json = False) -> None:
    """List the emotions, dialects, styles and tags that a model understands."""
    from mynah.cli.console import show_facts, show_json
    from mynah.text.styles import catalogue

    config, reader = _open(model)
    name = None if config.instruct is None else config.instruct.styles
    known = {} if name is None else catalogue(name)
    facts = {
        "model": config.model_id,
        "instructions": "no" if config.instruct is None else "in words too",
        "emotions": list(known.get("emotion", ())),
        "dialects": list(known.get("dialect", ())),
        "styles": list(known.get("style", ())),
        "tags": list(reader.tags),
    }
    if json:
        show_json(facts | {"instructions": config.instruct is not None})
        return
    show_facts(
        {
            key: (" ".join(value) or "none") if isinstance(value, list) else value
            for key, value in facts.items()
        }
    )


def normalize(
    text: Annotated[str | None, typer.Argument(help="What to read; - or nothing = a pipe.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Read the text from a file (UTF-8).")
    ] = None,
    language: speaking.Language = None,
    lexicon: speaking.Lexicon = None,
    no_split: speaking.NoSplit = False,
    model: options.Model = "nano",
    json: options.Json = False,
) -> None:
    """Show how a text would be read, without speaking it: one utterance a line.

    Each with what is read aloud, the number of ids for the language model, and the silence after.
    """
    from mynah.cli.console import show_json, show_table
    from mynah.cli.sources import read_text
    from mynah.text.lexicons import UserLexicon

    words = read_text(text, file)
    _, reader = _open(model)
    if lexicon is not None:
        reader = reader.with_lexicon(UserLexicon.load(lexicon))
    reader.check(words, language)
    utterances = [
        {
            "text": utterance.text,
            "spoken": reader.in_words(utterance.text, language),
            "ids": len(utterance.ids),
            "pause_s": utterance.pause_s,
        }
        for utterance in reader.utterances(words, language, split=not no_split)
    ]
    if json:
        show_json(utterances)
        return
    rows = [(str(u["spoken"]), f"{u['ids']} ids", f"{u['pause_s']} s") for u in utterances]
    show_table(("spoken", "ids", "pause"), rows)


def _open(model: str) -> tuple[ModelConfig, TextReader]:
    """The text side of a model; its networks are not loaded."""
    from mynah.pipeline.readers import build_reader

    folder = options.find(model)
    config = folder.config()
    return config, build_reader(config, folder.path)
