r"""Inline markup: event tags, spans, pronunciation hints; control markers are refused.

========================  ====================================================
``[laughter]``            an event, at this place
``<strong>word</strong>`` a span
``行{háng}`` ``word{W ER1 D}``  a character or a word with its pronunciation
``[重庆](chong2 qing4)``  the same for several characters or words
``\[`` ``\<`` ``\{``       a bracket that is no markup
========================  ====================================================

What a pronunciation may be is said in ``mynah.text.readings``.

A bracket with anything but one name in it, like ``[1]`` or ``a < b``, is ordinary text. Every model
lists the tags it understands; another name is an error, never spoken and never dropped silently.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from mynah.errors import MarkupError
from mynah.text.special_tokens import PRONUNCIATION_TOKENS

_WIDE: Final = (
    "\u3005\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_TOKEN: Final = re.compile(
    r"\\(?P<escaped>[\[\]<>{}\\])"
    r"|\[(?P<word>[^\[\]\n]{1,64})\]\((?P<phonemes>[^()\n]{1,200})\)"
    rf"|(?P<one>[{_WIDE}]|(?<![A-Za-z0-9])(?!['\u2019-])(?:(?![{_WIDE}_])[\w'\u2019-]){{1,64}})"
    r"\{(?P<reading>[^{}\n]{1,200})\}"
    r"|(?P<tag>\[[A-Za-z][A-Za-z_-]{0,31}\]|</?[A-Za-z][A-Za-z0-9_-]{0,31}>)"
    r"|(?P<token>\[[^\W_]{1,6}\])"
)
_INVISIBLE: Final = r"[\s\u200b-\u200f\u2060\ufeff\u00ad]{0,8}"
_LESS: Final = "[<\uff1c\ufe64]"
_MORE: Final = "[>\uff1e\ufe65]"
_BAR: Final = "[|\uff5c]"
_CONTROL: Final = re.compile(rf"{_LESS}{_INVISIBLE}{_BAR}[^<>|\n]{{0,80}}{_BAR}{_INVISIBLE}{_MORE}")


@dataclass(frozen=True)
class PlainText:
    """Ordinary text; ``position`` is where it starts in the parsed text, in characters."""

    text: str
    position: int


@dataclass(frozen=True)
class Tag:
    """A tag, brackets included."""

    name: str
    position: int


@dataclass(frozen=True)
class Hint:
    """A word whose pronunciation is given, as it is written between the brackets."""

    word: str
    phonemes: str
    position: int


Piece = PlainText | Tag | Hint


def refuse_control_markers(text: str) -> None:
    """Refuse ``<|...|>``: such markers steer a model and may not come from a user's text.

    Raises:
        MarkupError: naming the first marker and its position.
    """
    match = _CONTROL.search(text)
    if match is not None:
        raise MarkupError(
            f"control marker {match[0]!r} at character {match.start()} is not allowed in text",
            hint="remove it; instructions and prompts have their own parameters",
            position=match.start(),
        )


def parse_markup(
    text: str, tags: Collection[str] = (), *, hints: bool = False, closed: bool = True
) -> list[Piece]:
    """Cut a text into plain text, tags and pronunciation hints.

    Args:
        text: Text with markup.
        tags: The tags that the model understands, brackets included.
        hints: Whether the model understands pronunciation hints.
        closed: Whether every opened span must be closed; False for a piece of a longer text.

    Raises:
        MarkupError: for a control marker, an unknown tag, or a span that is not opened, not closed
            or badly nested; with the position.
    """
    refuse_control_markers(text)
    pieces: list[Piece] = []
    plain: list[str] = []
    plain_start = end = 0

    def flush(next_start: int) -> None:
        nonlocal plain_start
        if plain:
            pieces.append(PlainText("".join(plain), plain_start))
            plain.clear()
        plain_start = next_start

    for match in _TOKEN.finditer(text):
        if match.start() > end:
            plain.append(text[end : match.start()])
        end = match.end()
        if match["escaped"] or (match["token"] and match["token"] not in tags):
            plain.append(match["escaped"] or match["token"])
            continue
        flush(end)
        name = match["tag"] or match["token"]
        if name:
            _require_known(name, match.start(), tags)
            pieces.append(Tag(name, match.start()))
        elif hints:
            word, reading = match["word"] or match["one"], match["phonemes"] or match["reading"]
            pieces.append(Hint(word, reading, match.start()))
        else:
            raise MarkupError(
                f"pronunciation hint {match[0]!r} at character {match.start()}: "
                "this model takes no hints",
                hint="write the word as it sounds instead",
                position=match.start(),
            )
    plain.append(text[end:])
    flush(len(text))
    if closed:
        _require_balanced(pieces)
    return [piece for piece in pieces if not isinstance(piece, PlainText) or piece.text]


def _require_known(name: str, position: int, tags: Collection[str]) -> None:
    if name in tags:
        return
    close = difflib.get_close_matches(name, tags, n=1, cutoff=0.5)
    suggestion = f"did you mean {close[0]}? " if close else ""
    listed = [tag for tag in tags if tag not in PRONUNCIATION_TOKENS]
    allowed = f"this model knows {' '.join(listed)}" if listed else "this model knows no tags"
    raise MarkupError(
        f"unknown tag {name!r} at character {position}",
        hint=f"{suggestion}{allowed}; write \\{name} for a plain bracket",
        position=position,
    )


def _require_balanced(pieces: list[Piece]) -> None:
    stack: list[Tag] = []
    for piece in pieces:
        if not isinstance(piece, Tag) or not piece.name.startswith("<"):
            continue
        if not piece.name.startswith("</"):
            stack.append(piece)
        elif not stack or stack[-1].name[1:] != piece.name[2:]:
            raise MarkupError(
                f"{piece.name} at character {piece.position} closes nothing",
                hint=f"write <{piece.name[2:]} before it",
                position=piece.position,
            )
        else:
            stack.pop()
    if stack:
        raise MarkupError(
            f"{stack[-1].name} at character {stack[-1].position} is never closed",
            hint=f"write </{stack[-1].name[1:]} after the span",
            position=stack[-1].position,
        )
