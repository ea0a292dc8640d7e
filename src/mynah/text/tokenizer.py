"""From the text of one utterance to the ids a language model reads: the interface."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from mynah.errors import InvalidRequestError
from mynah.text.clean import speakable
from mynah.text.languages import Language
from mynah.text.lexicons import NO_LEXICON, UserLexicon

TokenArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class TextTokenizer(Protocol):
    """Turns the text of one utterance, markup included, into ids."""

    @property
    def vocab_size(self) -> int:
        """Number of ids; every id is below it."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Markup tags that the model understands."""

    def check(self, text: str, lexicon: UserLexicon = NO_LEXICON, *, closed: bool = True) -> None:
        """Refuse markup that the model does not understand.

        Args:
            text: With markup.
            lexicon: Pronunciations of words.
            closed: Whether every opened span must be closed; False for a part of a longer text.

        Raises:
            MarkupError: for a control marker, an unknown or unclosed tag, or a pronunciation that
                the model cannot say (also one of the lexicon).
        """

    def encode(
        self,
        text: str,
        language: Language | None = None,
        *,
        normalize: bool = True,
        lexicon: UserLexicon = NO_LEXICON,
        whole: bool = True,
    ) -> TokenArray:
        """Ids (T,) of an utterance.

        Args:
            text: With markup.
            language: How digits and symbols are read; None = by the text's own language.
            normalize: Whether they are written out; if not, the text is read as it stands.
            lexicon: Pronunciations of words.
            whole: False for a part of an utterance: spaces at its edges count, nothing is
                completed, and there may be nothing to say.

        Raises:
            InvalidRequestError: if nothing in the text can be spoken.
            MarkupError: see ``check``.
            UnsupportedFeatureError: for a script that the model cannot say.
        """

    def is_pause(self, ids: TokenArray) -> BoolArray:
        """Which ids (T,) are silence or punctuation: (T,) bool."""

    def count(self, text: str) -> int:
        """About how many ids a text has; cheap, for splitting. Never raises."""


def require_speech(text: str) -> None:
    """Refuse text without anything to say.

    Raises:
        InvalidRequestError: if there is no letter and no digit.
    """
    if not speakable(text):
        raise nothing_to_speak(text)


def nothing_to_speak(text: str) -> InvalidRequestError:
    """The error for a text without anything to say."""
    shown = f"there is nothing to speak in {text[:40]!r}" if text.strip() else "the text is empty"
    return InvalidRequestError(shown, hint="give at least one word, number or letter")
