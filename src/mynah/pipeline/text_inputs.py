"""Texts that come in pieces: what of them can be spoken already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from mynah.pipeline.reading import SENTENCE_PAUSE_S, Utterance, pause_after
from mynah.text.clean import speakable
from mynah.text.feed import TextFeed
from mynah.text.languages import Language
from mynah.text.split import Splitter

_WIDE_GROUP = 6
"""Characters of a script without blanks that are tokenised together, so that words stay whole."""

_LANGUAGE_REACH = 2000
"""Characters that decide by whose rules digits are read."""


@dataclass(frozen=True)
class Limits:
    """Sizes of an utterance, in what the tokenizer counts."""

    budget: int
    """The most."""
    minimum: int
    """Shorter sentences are spoken together with the next one."""


class PartReader(Protocol):
    """What reads the parts; ``TokenizerReader`` is one."""

    @property
    def limits(self) -> Limits:
        """Sizes of its utterances."""

    @property
    def phrases(self) -> Iterable[str]:
        """Words that are not to be cut."""

    def count(self, text: str) -> int:
        """About how many ids a text has."""

    def check_part(self, text: str, language: str | None) -> None:
        """Refuse what the model cannot say."""

    def language_of(self, text: str, language: str | None) -> Language:
        """The language by whose rules digits and symbols are read."""

    def utterance(
        self,
        text: str,
        language: Language,
        *,
        normalize: bool,
        whole: bool = True,
        continues: bool = False,
    ) -> Utterance:
        """Read an utterance, or with ``whole`` = False a part of one."""


class SentenceInput:
    """``TextInput`` of a model that wants whole utterances: one comes when it is complete."""

    def __init__(self, reader: PartReader, language: str | None, *, normalize: bool) -> None:
        """Begin a text."""
        self._reader = reader
        self._language = language
        self._normalize = normalize
        limits = reader.limits
        self._splitter = Splitter(reader.count, limits.budget, limits.minimum)

    def feed(self, text: str) -> list[Utterance]:
        """See ``TextInput``."""
        return [self._read(part) for part in self._splitter.feed(text)]

    def finish(self) -> list[Utterance]:
        """See ``TextInput``."""
        return [self._read(part) for part in self._splitter.finish()]

    def _read(self, text: str) -> Utterance:
        self._reader.check_part(text, self._language)
        language = self._reader.language_of(text, self._language)
        return self._reader.utterance(text, language, normalize=self._normalize)


class TurnInput:
    """``TextInput`` of a model that listens while it speaks: every certain word comes at once.

    A new utterance begins at the end of a sentence once the current one is as long as the model
    likes, so that a text without end stays within what it was trained on; without a sentence end,
    behind any word when it is twice as long.
    """

    def __init__(self, reader: PartReader, language: str | None, *, normalize: bool) -> None:
        """Begin a text."""
        self._reader = reader
        self._language = language
        self._normalize = normalize
        self._begin()

    def feed(self, text: str) -> list[Utterance]:
        """See ``TextInput``."""
        return [part for segment in self._feed.feed(text) for part in self._gather(segment)]

    def finish(self) -> list[Utterance]:
        """See ``TextInput``."""
        for segment in self._feed.finish():
            self._group += segment
        parts = self._read()
        self._begin()
        return parts

    def _begin(self) -> None:
        self._feed = TextFeed(self._reader.phrases)
        self._group = self._seen = ""
        self._open_utterance()

    def _open_utterance(self) -> None:
        self._count = 0
        self._pause_s = 0.0

    def _gather(self, segment: str) -> list[Utterance]:
        """Hold characters of a script without blanks back until they make a word or a clause."""
        self._group += segment
        last = self._group.rstrip()[-1:]
        is_wide = last.isalnum() and ord(last) >= 0x3000
        if not last or (is_wide and len(self._group) < _WIDE_GROUP):
            return []  # a blank belongs to what follows it
        return self._read()

    def _read(self) -> list[Utterance]:
        """Read what is gathered, as a part of this utterance or as the first one of the next."""
        text, self._group = self._group, ""
        if not text.strip():
            return []
        self._reader.check_part(text, self._language)
        if self._is_long_enough() and speakable(text):
            self._open_utterance()
        continues = self._count > 0
        self._seen = (self._seen + text)[:_LANGUAGE_REACH]
        language = self._reader.language_of(self._seen, self._language)
        part = self._reader.utterance(
            text if continues else text.lstrip(),
            language,
            normalize=self._normalize,
            whole=False,
            continues=continues,
        )
        self._count += len(part.ids)
        self._pause_s = pause_after(text)
        return [part]

    def _is_long_enough(self) -> bool:
        budget = self._reader.limits.budget
        at_sentence = self._pause_s >= SENTENCE_PAUSE_S
        return self._count >= (budget if at_sentence else 2 * budget)
