"""Where the text to say comes from: an argument, a file, or standard input.

Standard input can be spoken while it still comes, as a language model types it.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from mynah.errors import InvalidRequestError
from mynah.types import MAX_TEXT_CHARACTERS

STDIN = "-"
_PIECE_BYTES = 4096
_MOST_BYTES = 4 * MAX_TEXT_CHARACTERS  # UTF-8 needs up to four for one character


def open_text(argument: str | None, file: Path | None, *, live: bool = True) -> str | Iterable[str]:
    """Return the text, or for the argument ``-`` its pieces as they arrive.

    The first words are waited for, so that an empty input is refused before anything is written.

    Args:
        argument: the text, or ``-``.
        file: where it is instead.
        live: False = read standard input to its end first.

    Raises:
        InvalidRequestError: see ``read_text``; what comes later is raised by the iterable.
    """
    if argument != STDIN or file is not None or not live:
        return read_text(argument, file)
    pieces = _pieces(sys.stdin.fileno())
    begun = []
    for piece in pieces:
        begun.append(piece)
        if piece.strip():
            return chain(begun, pieces)
    raise InvalidRequestError("standard input is empty", hint="pipe at least one word in")


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


def _pieces(descriptor: int) -> Iterator[str]:
    """Text from a pipe as it comes. Read without Python's buffer: that one's lock, held by a
    thread that waits for text, would be in the way when the process ends."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    read = 0
    while True:
        try:
            data = os.read(descriptor, _PIECE_BYTES)
        except OSError as error:
            raise InvalidRequestError(
                f"cannot read standard input: {error.strerror}", hint="pipe a text in"
            ) from error
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise InvalidRequestError(
                f"standard input is not UTF-8 text: byte {error.object[error.start]:#04x} "
                f"behind {read} bytes",
                hint="convert it, for example: iconv -f latin1 -t utf-8 FILE",
            ) from error
        read += len(data)
        if text:
            yield text
        if not data:
            return


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
