"""Pronunciations for a request, a voice or a project: a word and how it is said.

A lexicon is a text file in UTF-8, one entry a line, word and pronunciation separated by a tab::

    # a comment
    重庆<TAB>chong2 qing4
    nginx<TAB>"engine x"
    tomato<TAB>T AH0 M EY1 T OW2

Pronunciations are those of hints (``mynah.text.readings``). Words match whole words without
regard to case, Chinese and Japanese ones anywhere; the longest entry wins. Inside markup nothing is
replaced, and a hint in the text wins over a lexicon.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

from mynah.errors import InvalidRequestError, MarkupError
from mynah.text.markup import Hint, Piece, PlainText
from mynah.text.readings import HELP, parse_reading

_SPELLED: Final = re.compile(r"[A-Za-z\u00c0-\u024f\u0400-\u04ff\d]")


class UserLexicon:
    """Words with their pronunciation. Immutable; safe to share between threads."""

    def __init__(self, entries: Mapping[str, str] | None = None) -> None:
        """Check the entries.

        Raises:
            InvalidRequestError: naming the word whose pronunciation cannot be understood.
        """
        checked: dict[str, str] = {}
        for word, pronunciation in (entries or {}).items():
            stripped = word.strip()
            if not stripped or not any(c.isalnum() for c in stripped) or "\n" in stripped:
                raise InvalidRequestError(f"{word!r} is no word", hint="give words with letters")
            try:
                parse_reading(Hint(stripped, pronunciation, 0))
            except MarkupError as error:
                raise InvalidRequestError(
                    f"lexicon entry {stripped!r}: {error.message}", hint=HELP
                ) from error
            checked[stripped] = pronunciation.strip()
        self.entries: Mapping[str, str] = MappingProxyType(checked)
        self._folded = {word.casefold(): text for word, text in checked.items()}
        self._pattern = _pattern(checked)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a file.

        Raises:
            InvalidRequestError: if it cannot be read, or naming the line that is wrong.
        """
        entries: dict[str, str] = {}
        try:
            lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequestError(
                f"cannot read the lexicon {path}: {error}", hint="give a text file in UTF-8"
            ) from error
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            word, tab, pronunciation = line.partition("\t")
            if not tab or not word.strip() or not pronunciation.strip():
                raise InvalidRequestError(
                    f"{path}, line {number}: {line!r} is no entry",
                    hint="write the word, a tab and its pronunciation",
                )
            entries[word] = pronunciation
        return cls(entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __or__(self, stronger: UserLexicon) -> UserLexicon:
        """Both together; where they disagree, the right one counts."""
        if not self.entries or not stronger.entries:
            return stronger if stronger.entries else self
        weaker = {w: p for w, p in self.entries.items() if w.casefold() not in stronger._folded}
        return UserLexicon({**weaker, **stronger.entries})

    def apply(self, pieces: list[Piece]) -> list[Piece]:
        """Put hints where the words stand in plain text."""
        if self._pattern is None:
            return pieces
        return [new for piece in pieces for new in self._applied(piece)]

    def _applied(self, piece: Piece) -> Iterator[Piece]:
        if not isinstance(piece, PlainText) or self._pattern is None:
            yield piece
            return
        end = 0
        for match in self._pattern.finditer(piece.text):
            if match.start() > end:
                yield PlainText(piece.text[end : match.start()], piece.position + end)
            pronunciation = self._folded[match[0].casefold()]
            yield Hint(match[0], pronunciation, piece.position + match.start())
            end = match.end()
        if end < len(piece.text):
            yield PlainText(piece.text[end:], piece.position + end)


def _pattern(entries: Mapping[str, str]) -> re.Pattern[str] | None:
    """Any entry; a spelled word only where no other letter is beside it."""
    if not entries:
        return None
    words = []
    for word in sorted(entries, key=len, reverse=True):
        before = r"(?<![^\W_])" if _SPELLED.match(word) else ""
        after = r"(?![^\W_])" if _SPELLED.fullmatch(word[-1]) else ""
        words.append(f"{_beside_wide(before)}{re.escape(word)}{_beside_wide(after)}")
    return re.compile("|".join(words), re.IGNORECASE)


def _beside_wide(guard: str) -> str:
    """In Chinese text no space separates a Latin word from the characters beside it."""
    letters = r"[A-Za-z\u00c0-\u024f\u0370-\u052f\d]"
    return guard.replace(r"[^\W_]", letters)


NO_LEXICON: Final = UserLexicon()
"""No entries."""
