"""Text to utterances: what the language model reads, and how long to pause after it.

Everything that can be wrong with a text is found by ``check`` before anything is spoken; the
utterances themselves are made one by one, when they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mynah.backends.base import NO_IDS as NO_TOKENS
from mynah.types import TokenArray

__all__ = ["NO_TOKENS", "BoolArray", "TextReader", "Utterance", "pause_after"]

BoolArray = npt.NDArray[np.bool_]

_SENTENCE_PAUSE_S, _CLAUSE_PAUSE_S, _PARAGRAPH_PAUSE_S = 0.4, 0.2, 0.7
_CLOSERS = "\"')]}\u201d\u2019\u300d\u300f\u300b\u3011\uff09>"
_SENTENCE_ENDS = ".?!\u2026\u3002\uff1f\uff01\uff61"
_CLAUSE_ENDS = ",;:-\u2013\u2014\uff0c\uff1b\uff1a\u3001"


@dataclass(frozen=True, eq=False)
class Utterance:
    """Text spoken in one run of the language model."""

    text: str
    """As it stands in the request; the utterances join to the whole text."""
    ids: TokenArray
    """What the language model reads (N,); empty where there is nothing to say."""
    pauses: BoolArray
    """(N,): which ids are punctuation or silence."""
    pause_s: float
    """Silence wanted before the next utterance."""


class TextReader(Protocol):
    """The text side of one model."""

    def check(self, text: str, language: str | None = None) -> None:
        """Refuse a text that the model cannot say.

        Raises:
            InvalidRequestError: if there is nothing to say, markup is wrong (MarkupError), or the
                model does not speak the language (UnsupportedFeatureError).
        """
        ...

    def utterances(self, text: str, language: str | None = None) -> Iterator[Utterance]:
        """Cut a text into utterances."""
        ...

    def ids(self, text: str, language: str | None = None) -> TokenArray:
        """Ids (N,) of a text that is not cut, such as a transcript."""
        ...

    def instruction_ids(self, text: str) -> TokenArray:
        """Ids (N,) of an instruction, its end marker included.

        Raises:
            UnsupportedFeatureError: if the model takes none.
        """
        ...


def pause_after(text: str) -> float:
    """Seconds of silence that fit the end of an utterance."""
    stripped = text.rstrip()
    if text[len(stripped) :].count("\n") > 1:
        return _PARAGRAPH_PAUSE_S
    core = stripped.rstrip(_CLOSERS)
    if core.endswith(tuple(_SENTENCE_ENDS)) or "\n" in text[len(stripped) :]:
        return _SENTENCE_PAUSE_S
    return _CLAUSE_PAUSE_S if core.endswith(tuple(_CLAUSE_ENDS)) else 0.0
