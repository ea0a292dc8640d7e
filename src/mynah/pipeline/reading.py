"""Text to utterances: what the language model reads, and how long to pause after it.

Everything that can be wrong with a text is found by ``check`` before anything is spoken; the
utterances themselves are made one by one, when they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from mynah.backends.base import NO_IDS as NO_TOKENS
from mynah.text.lexicons import UserLexicon
from mynah.types import TokenArray

__all__ = [
    "NO_PROMPT",
    "NO_TOKENS",
    "SENTENCE_PAUSE_S",
    "BoolArray",
    "PromptKind",
    "PromptText",
    "TextInput",
    "TextReader",
    "Utterance",
    "pause_after",
]

PromptKind = Literal["transcript", "no_transcript", "instruction"]
"""The templates of ``mynah.config.PromptTemplates``."""

BoolArray = npt.NDArray[np.bool_]

SENTENCE_PAUSE_S, _CLAUSE_PAUSE_S, _PARAGRAPH_PAUSE_S = 0.4, 0.2, 0.7
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
    continues: bool = False
    """Whether this is more of the utterance before; only text that comes in pieces does that."""


@dataclass(frozen=True, eq=False)
class PromptText:
    """What the language model reads beside the text: a template filled in."""

    ids: TokenArray
    """(N,)"""
    num_fixed: int = 0
    """How many of them there are up to the last marker ``end_of_prompt``."""


NO_PROMPT = PromptText(NO_TOKENS)


class TextInput(Protocol):
    """Reads one text that comes in pieces of any size; where it is cut changes nothing."""

    def feed(self, text: str) -> list[Utterance]:
        """Take the next piece; return what can be spoken now, in order.

        More to say always follows what is returned, so that its end is no end of speech.

        Raises:
            InvalidRequestError: see ``TextReader.check``; the text is over then.
        """
        ...

    def finish(self) -> list[Utterance]:
        """Return the rest; afterwards a new text may begin.

        Raises:
            InvalidRequestError: see ``TextReader.check``.
        """
        ...


class TextReader(Protocol):
    """The text side of one model."""

    @property
    def tags(self) -> tuple[str, ...]:
        """The markup that the model understands, brackets included, but for pronunciations."""
        ...

    def in_words(self, text: str, language: str | None = None) -> str:
        """An utterance as it is read aloud: numbers and symbols in words, respelled words as
        they sound, tags as they are.

        Raises:
            MarkupError: for markup that is wrong.
        """
        ...

    def check(self, text: str, language: str | None = None) -> None:
        """Refuse a text that the model cannot say.

        Raises:
            InvalidRequestError: if there is nothing to say, markup is wrong (MarkupError), or the
                model does not speak the language (UnsupportedFeatureError).
        """
        ...

    def utterances(
        self,
        text: str,
        language: str | None = None,
        *,
        normalize: bool = True,
        split: bool = True,
    ) -> Iterator[Utterance]:
        """Cut a text into utterances.

        Args:
            text: that passed ``check``.
            language: by whose rules digits and symbols are read; None = found from the text.
            normalize: whether they are written out in words.
            split: False = one utterance, however long.
        """
        ...

    def open(self, language: str | None = None, *, normalize: bool = True) -> TextInput:
        """Begin a text that comes in pieces.

        Raises:
            UnsupportedFeatureError: if the model does not speak the language.
        """
        ...

    def with_lexicon(self, lexicon: UserLexicon) -> TextReader:
        """This reader with further pronunciations, which count before those it has."""
        ...

    def ids(self, text: str, language: str | None = None) -> TokenArray:
        """Ids (N,) of a text that is not cut, such as a transcript."""
        ...

    def prompt_text(
        self, kind: PromptKind, text: str = "", language: str | None = None
    ) -> PromptText:
        """Fill in the model's template for a transcript, for none, or for an instruction.

        Args:
            kind: which template.
            text: the words of the transcript or of the instruction.
            language: the request's language if it was named: where nothing else stands before the
                text, some models read a marker for it (CosyVoice 1).

        Raises:
            MarkupError: for a control marker in the text.
            UnsupportedFeatureError: if the model takes no instruction.
        """
        ...


def pause_after(text: str) -> float:
    """Seconds of silence that fit the end of an utterance."""
    stripped = text.rstrip()
    if text[len(stripped) :].count("\n") > 1:
        return _PARAGRAPH_PAUSE_S
    core = stripped.rstrip(_CLOSERS)
    if core.endswith(tuple(_SENTENCE_ENDS)) or "\n" in text[len(stripped) :]:
        return SENTENCE_PAUSE_S
    return _CLAUSE_PAUSE_S if core.endswith(tuple(_CLAUSE_ENDS)) else 0.0
