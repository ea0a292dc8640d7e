"""How long reading takes: the same reader, with a note after every call."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from mynah.backends.timed import OnCall, timed_call, timed_object
from mynah.pipeline.reading import PromptKind, PromptText, TextInput, TextReader, Utterance
from mynah.text.lexicons import UserLexicon
from mynah.types import TokenArray

_STAGE = "text"


class TimedReader:
    """A ``TextReader`` that does what another one does, and tells how long it took."""

    def __init__(self, reader: TextReader, on_call: OnCall) -> None:
        """Watch a reader.

        Args:
            reader: does the work.
            on_call: told after every call, and after every utterance that is made.
        """
        self._reader, self._on_call = reader, on_call
        self._timed = timed_object(reader, _STAGE, on_call)

    @property
    def tags(self) -> tuple[str, ...]:
        """See ``TextReader``."""
        return self._reader.tags

    def in_words(self, text: str, language: str | None = None) -> str:
        """See ``TextReader``."""
        return self._timed.in_words(text, language)

    def check(self, text: str, language: str | None = None) -> None:
        """See ``TextReader``."""
        self._timed.check(text, language)

    def utterances(
        self,
        text: str,
        language: str | None = None,
        *,
        normalize: bool = True,
        split: bool = True,
    ) -> Iterator[Utterance]:
        """See ``TextReader``; what is done between two utterances is not counted."""
        made = self._timed.utterances(text, language, normalize=normalize, split=split)
        following = timed_call(partial(next, made, None), _STAGE, self._on_call)
        while (utterance := following()) is not None:
            yield utterance

    def open(self, language: str | None = None, *, normalize: bool = True) -> TextInput:
        """See ``TextReader``."""
        opened = self._timed.open(language, normalize=normalize)
        return timed_object(opened, _STAGE, self._on_call)

    def with_lexicon(self, lexicon: UserLexicon) -> TextReader:
        """See ``TextReader``."""
        return TimedReader(self._reader.with_lexicon(lexicon), self._on_call)

    def ids(self, text: str, language: str | None = None) -> TokenArray:
        """See ``TextReader``."""
        return self._timed.ids(text, language)

    def prompt_text(
        self, kind: PromptKind, text: str = "", language: str | None = None
    ) -> PromptText:
        """See ``TextReader``."""
        return self._timed.prompt_text(kind, text, language)
