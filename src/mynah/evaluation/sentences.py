"""Sentences to judge a voice by."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from mynah.errors import InvalidRequestError


def everyday_sentences() -> list[str]:
    """Two hundred everyday English sentences, written for this purpose.

    Every word is in the recogniser's dictionary, and none of the sentences comes from a speech
    corpus or from the text that the embedded voice was trained on.
    """
    text = resources.files("mynah.evaluation").joinpath("sentences_en.txt")
    return text.read_text(encoding="utf-8").splitlines()


def read_sentences(path: Path) -> list[str]:
    """Read a list, one sentence a line; empty lines and lines that begin with # are left out.

    Raises:
        InvalidRequestError: if the file cannot be read or holds no sentence.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(
            f"cannot read the sentences in {path}: {error}",
            hint="pass a UTF-8 text file with one sentence a line",
        ) from error
    found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not found:
        raise InvalidRequestError(
            f"{path} holds no sentence", hint="write one sentence a line into it"
        )
    return found
