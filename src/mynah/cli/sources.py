"""Where the text to say comes from: an argument, a file, or standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

from mynah.errors import InvalidRequestError
from mynah.types import MAX_TEXT_CHARACTERS

STDIN = "-"
_MOST_BYTES = 4 * MAX_TEXT_CHARACTERS  # UTF-8 needs up to four for one character


def read_text(argument: str | None, file: Path | None) -> str:
    """Return the text: from the argument, else the file, else standard input if it is a pipe.

    Raises:
        InvalidRequestError: if there is none or more than one, or it cannot be read.
    """
    if file is not None and argument is not None:
        raise InvalidRequestError("both a text and --file were given", hint="give one of them")
    if file is not None and str(file) != STDIN:
        try:
            with open(file, "rb") as stream:
                return _decode(stream, str(file))
        except OSError as error:
            raise InvalidRequestError(
                f"cannot read {file}: {error.strerror}", hint="check the path"
            ) from error
    if argument is not None and argument != STDIN:
        return argument
    if argument is None and file is None and sys.stdin.isatty():
        raise InvalidRequestError(
            "there is no text to say",
            hint='try: mynah say "Hello there.", or --file story.txt, or pipe a text in',
        )
    return _decode(sys.stdin.buffer, "standard input")


def _decode(stream: BinaryIO, name: str) -> str:
    data = stream.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise InvalidRequestError(
            f"{name} holds more than {MAX_TEXT_CHARACTERS} characters",
            hint="split it into several files",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            f"{name} is not UTF-8 text: byte {data[error.start]:#04x} at position {error.start}",
            hint="convert it, for example: iconv -f latin1 -t utf-8 FILE",
        ) from error
