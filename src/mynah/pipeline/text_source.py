"""Where a session's text comes from: there from the start, or in pieces while it is spoken.

Both give utterances in order. One thread takes them; ``PiecedText`` may be fed by others.
"""

from __future__ import annotations

import enum
import threading
from collections import deque
from collections.abc import Iterator
from typing import Protocol, TypeAlias

from mynah.errors import InvalidRequestError
from mynah.pipeline.reading import TextInput, TextReader, Utterance
from mynah.types import MAX_TEXT_CHARACTERS, SynthesisRequest


class Break(enum.Enum):
    """Ends the utterance before it, whatever follows."""

    HERE = "here"


Item: TypeAlias = Utterance | Break


class TextSource(Protocol):
    """Utterances of one request that have something to say."""

    num_characters: int
    """Characters of the text, as far as it is known."""

    @property
    def needs_text(self) -> bool:
        """Whether ``peek`` knows nothing before more text comes, or its end."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether nothing comes after what was taken; right after a ``peek``."""
        ...

    def ends_with(self, utterance: Utterance) -> bool:
        """Whether nothing follows one that was taken; the answer never depends on the time."""
        ...

    def peek(self) -> Item | None:
        """Return the next item without taking it; None = over, or not known yet.

        Raises:
            InvalidRequestError: if the text cannot be spoken.
        """
        ...

    def take(self) -> None:
        """Take the item that ``peek`` returned."""
        ...


class WholeText:
    """A text that is there from the start; it is read bit by bit."""

    needs_text = False

    def __init__(self, reader: TextReader, request: SynthesisRequest, text: str) -> None:
        """Check the text.

        Raises:
            InvalidRequestError: see ``TextReader.check``.
        """
        reader.check(text, request.language)
        self.num_characters = len(text)
        self._waiting: Iterator[Utterance] = reader.utterances(
            text, request.language, normalize=request.normalize, split=request.split
        )
        self._next: Utterance | None = None

    @property
    def is_over(self) -> bool:
        """See ``TextSource``."""
        return self.peek() is None

    def ends_with(self, utterance: Utterance) -> bool:
        """See ``TextSource``."""
        return self.is_over

    def peek(self) -> Utterance | None:
        """See ``TextSource``."""
        if self._next is None:
            # silent text counts to the utterance before
            self._next = next((part for part in self._waiting if len(part.ids)), None)
        return self._next

    def take(self) -> None:
        """See ``TextSource``."""
        self._next = None


class PiecedText:
    """A text that comes in pieces of any size; how it is cut changes nothing."""

    def __init__(self, reader: TextReader, request: SynthesisRequest) -> None:
        """Wait for the first piece.

        Raises:
            UnsupportedFeatureError: if the model does not speak the language.
        """
        self.num_characters = 0
        self._input: TextInput = reader.open(request.language, normalize=request.normalize)
        self._lock = threading.Lock()
        self._given: deque[str | Break | None] = deque()
        """Not yet read: text, a break, None = the end."""
        self._read: deque[Item] = deque()
        self._has_end = False
        self._is_read = False
        self._last: Utterance | None = None

    @property
    def needs_text(self) -> bool:
        """See ``TextSource``."""
        return not (self._given or self._read or self._is_read)

    @property
    def is_over(self) -> bool:
        """See ``TextSource``."""
        return self._is_read and not self._read

    def ends_with(self, utterance: Utterance) -> bool:
        """See ``TextSource``. What was certain before the end came is followed by more."""
        return utterance is self._last

    def feed(self, text: str) -> None:
        """Append a piece; from any thread.

        Raises:
            InvalidRequestError: if it is no text, the text has ended, or it is too long in all.
        """
        check_piece(text)
        with self._lock:
            if self._has_end:
                raise InvalidRequestError("the text has ended", hint="start a new request")
            if self.num_characters + len(text) > MAX_TEXT_CHARACTERS:
                raise InvalidRequestError(
                    f"the text has more than {MAX_TEXT_CHARACTERS} characters",
                    hint="split it into several requests",
                )
            self.num_characters += len(text)
            self._given.append(text)

    def flush(self) -> None:
        """Have everything spoken that was fed so far; from any thread."""
        with self._lock:
            if not self._has_end:
                self._given.append(Break.HERE)

    def end(self) -> None:
        """Say that nothing more comes; from any thread, harmless to repeat."""
        with self._lock:
            if not self._has_end:
                self._has_end = True
                self._given.append(None)

    def peek(self) -> Item | None:
        """See ``TextSource``."""
        while not self._read and self._given:
            self._accept(self._given.popleft())
        return self._read[0] if self._read else None

    def take(self) -> None:
        """See ``TextSource``."""
        self._read.popleft()

    def _accept(self, given: str | Break | None) -> None:
        if isinstance(given, str):
            self._append(self._input.feed(given))
            return
        parts = self._append(self._input.finish())
        if given is None:
            self._is_read = True
            self._last = parts[-1] if parts else None
        else:
            self._read.append(Break.HERE)

    def _append(self, parts: list[Utterance]) -> list[Utterance]:
        parts = [part for part in parts if len(part.ids)]
        self._read.extend(parts)
        return parts


def check_piece(text: str) -> None:
    """Refuse what is no piece of text.

    Raises:
        InvalidRequestError: naming its type, or half a character in it.
    """
    if not isinstance(text, str):
        raise InvalidRequestError(
            f"a piece of text is {type(text).__name__}, expected a string",
            hint="decode bytes first",
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"a piece of text holds half a character (surrogate) at position {error.start}",
            hint="decode the text with the right encoding",
        ) from error
