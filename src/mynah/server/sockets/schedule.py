"""When text that comes bit by bit is handed on: ElevenLabs' rules for its buffer."""

from __future__ import annotations

from collections.abc import Sequence

DEFAULT_SCHEDULE = (120, 160, 250, 290)
"""Characters after which speaking begins; the last value repeats."""

_LEAST = 20
"""Characters that are worth a beginning when the client asks for one."""
_ENDS = ".!?…。！？\n"

FLUSH = None
"""Stands between pieces of text: speak what came before."""


class Buffer:
    """Collects text; ``add`` returns what is to be spoken now: pieces, and flushes between them.

    A whole sentence in the buffer needs no flush: it is spoken as soon as it is handed on, and
    what follows it keeps its own sentence.
    """

    def __init__(self, schedule: Sequence[int] = DEFAULT_SCHEDULE, *, auto: bool = False) -> None:
        """Begin empty; ``auto`` = every piece is a whole sentence."""
        self._schedule = list(schedule) or list(DEFAULT_SCHEDULE)
        self._auto = auto
        self._text = ""

    def add(self, text: str, *, trigger: bool = False, flush: bool = False) -> list[str | None]:
        """Append text; ``trigger`` asks to begin early, ``flush`` to speak all of it now."""
        self._text += text
        if (flush or self._auto) and self._text.strip():
            whole, self._text = self._text, ""
            return [whole, FLUSH]
        if len(self._text.strip()) < (min(_LEAST, self._schedule[0]) if trigger else self._goal):
            return []
        return self._begin()

    def rest(self) -> str:
        """Take what is left at the end."""
        rest, self._text = self._text, ""
        return rest

    @property
    def _goal(self) -> int:
        return self._schedule[0]

    def _begin(self) -> list[str | None]:
        if len(self._schedule) > 1:
            del self._schedule[0]
        end = self._text.rfind(" ") + 1 or len(self._text)  # never inside a word
        part, self._text = self._text[:end], self._text[end:]
        if any(mark in part for mark in _ENDS):
            return [part]
        return [part, FLUSH]
