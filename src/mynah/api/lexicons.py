"""Finding the lexicon that somebody means; files are read once for each state they are in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from mynah.engine.cache import Cache
from mynah.errors import InvalidRequestError
from mynah.files import expand_user
from mynah.text.lexicons import NO_LEXICON, UserLexicon

LexiconLike: TypeAlias = UserLexicon | Mapping[str, str] | str | os.PathLike[str] | None
"""A lexicon, its entries (word -> pronunciation), or the path of a lexicon file; None = none."""

_FILES_KEPT = 16


class LexiconFinder:
    """Lexicons by what was passed for them. Safe to share between threads."""

    def __init__(self) -> None:
        """Begin with none."""
        self._files: Cache[UserLexicon] = Cache(_FILES_KEPT)

    def find(self, lexicon: LexiconLike) -> UserLexicon:
        """Return the lexicon that is meant.

        Raises:
            InvalidRequestError: if it cannot be read, or naming the entry that is wrong.
        """
        if lexicon is None:
            return NO_LEXICON
        if isinstance(lexicon, UserLexicon):
            return lexicon
        if isinstance(lexicon, Mapping):
            return UserLexicon(lexicon)
        if not isinstance(lexicon, str | os.PathLike):
            raise InvalidRequestError(
                f"lexicon is {type(lexicon).__name__}",
                hint="pass a UserLexicon, a dictionary, or the path of a lexicon file",
            )
        path = expand_user(os.fspath(lexicon))
        return self._files.get(_state(path), lambda: UserLexicon.load(path))


def _state(path: Path) -> tuple[object, ...]:
    try:
        status = path.stat()
    except (OSError, ValueError):  # reading it says what is wrong
        return (str(path),)
    return (str(path.resolve()), status.st_size, status.st_mtime_ns)
