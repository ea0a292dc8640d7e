r"""Inline markup: event tags, spans, pronunciation hints; control markers are refused.

========================  ====================================================
``[laughter]``            an event, at this place
``<strong>word</strong>`` a span
``[tomato](T AH0 M AA1 T OW0)``  a word with its pronunciation (ARPAbet; pinyin: ``[重](chong2)``)
``\[`` ``\<``             a bracket that is no markup
========================  ====================================================

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

COSYVOICE2_TAGS: Final[tuple[str, ...]] = (
    "[breath]", "<strong>", "</strong>", "[noise]", "[laughter]", "[cough]", "[clucking]",
    "[accent]", "[quick_breath]", "<laughter>", "</laughter>", "[hissing]", "[sigh]",
    "[vocalized-noise]", "[lipsmack]", "[mn]",
)  # fmt: skip
"""Tags of the CosyVoice2 models, in the order of their token ids."""

_TOKEN: Final = re.compile(
    r"\\(?P<escaped>[\[\]<>\\])"
    r"|\[(?P<word>[^\[\]\n]{1,64})\]\((?P<phonemes>[^()\n]{1,200})\)"
    r"|(?P<tag>\[[A-Za-z][A-Za-z_-]{0,31}\]|</?[A-Za-z][A-Za-z0-9_-]{0,31}>)"
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
    """A word whose pronunciation is given."""

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
        if match["escaped"]:
            plain.append(match["escaped"])
            continue
        flush(end)
        if match["tag"]:
            _require_known(match["tag"], match.start(), tags)
            pieces.append(Tag(match["tag"], match.start()))
        elif hints:
            pieces.append(Hint(match["word"], match["phonemes"], match.start()))
        else:
            raise MarkupError(
                f"pronunciation hint {match[0]!r} at character {match.start()}: "
                "this model takes no hints",
                hint=f"write {match['word']!r} as it sounds instead",
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
    allowed = f"this model knows {' '.join(tags)}" if tags else "this model knows no tags"
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
