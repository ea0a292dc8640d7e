"""A speech whose text a client sends bit by bit, and whose manner may change on the way."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

import numpy as np

from mynah.errors import InvalidRequestError
from mynah.server.parameters import Manner
from mynah.server.pieces import Piece, pieces_of
from mynah.server.runtime import Runtime
from mynah.server.speech import open_text_stream, time_limit
from mynah.server.spoken import TextStream, check_length
from mynah.types import check_speed

_PAUSE_S = 0.2  # between two manners, at normal speed
_FLUSH = None


@dataclass(eq=False)
class _Part:
    """Text in one manner."""

    manner: Manner
    items: list[str | None] = field(default_factory=list)
    """What came before there was a stream; None = a flush."""
    stream: TextStream | None = None
    has_text: bool = False
    """Whether there is anything but blanks."""
    is_ended: bool = False


class FedSpeech:
    """Feed it from one task, take its pieces in another; all in the event loop.

    Nothing is opened before there is text. Text in a new manner is spoken after all before it.
    """

    def __init__(
        self,
        runtime: Runtime,
        manner: Manner,
        *,
        protocol: str,
        in_time: bool = True,
        timeout_s: float | None = None,
    ) -> None:
        """Wait for text.

        Args:
            runtime: of the server.
            manner: of the text that comes first.
            protocol: for the statistics.
            in_time: whether somebody listens while it is made; see ``speak``.
            timeout_s: when all of it has to be over, in seconds from now; None = as the server
                is set.
        """
        self._runtime, self._protocol, self._in_time = runtime, protocol, in_time
        limit = time_limit(runtime.settings.request_s, timeout_s, time.monotonic())
        assert limit is not None  # the server has one
        self._deadline = limit
        self._last = _Part(manner)
        """Takes the text that comes."""
        self._parts = deque([self._last])
        """Not yet spoken to their end."""
        self._changed = asyncio.Event()
        self._half = ""
        """Of a character (surrogate); the other half comes with the next text."""
        self._num_characters = 0
        self._is_flushed = True  # nothing came since

    @property
    def is_ended(self) -> bool:
        """Whether all text came."""
        return self._last.is_ended

    @property
    def manner(self) -> Manner:
        """Of the text that comes next."""
        return self._last.manner

    def feed(self, text: str) -> None:
        """Append a piece of text of any size, which may be cut inside a surrogate pair.

        A surrogate without its other half is what ``pieces`` fails with.

        Raises:
            InvalidRequestError: if the text has ended or becomes too long.
        """
        if self._last.is_ended:
            raise InvalidRequestError("the text has ended", hint="begin a new request")
        text, self._half = _joined(self._half + text)
        if text:
            self._append(text)

    def _append(self, text: str) -> None:
        part = self._last
        check_length(self._num_characters + len(text), self._runtime.settings.max_text_characters)
        self._num_characters += len(text)
        part.has_text = part.has_text or bool(text.strip())
        self._is_flushed = False
        if part.stream is None:
            part.items.append(text)
        else:
            part.stream.feed(text)
        self._changed.set()

    def flush(self) -> None:
        """Have all that was fed spoken, without waiting for the end of its sentence."""
        part = self._last
        if self._is_flushed or part.is_ended:
            return
        self._is_flushed = True
        if part.stream is None:
            part.items.append(_FLUSH)
        else:
            part.stream.flush()

    def change(self, manner: Manner) -> None:
        """Speak what comes from now on in another manner; ends the sentence before.

        Raises:
            InvalidRequestError: if the text has ended, or the model is another one.
        """
        part = self._last
        if part.is_ended:
            raise InvalidRequestError("the text has ended", hint="begin a new request")
        if manner.model != part.manner.model:
            raise InvalidRequestError(
                "the model cannot change while it speaks", hint="begin a new request"
            )
        if not part.has_text:  # nobody will notice
            part.manner = manner
            return
        self._end(part)
        self._last = _Part(manner)
        self._parts.append(self._last)
        self._is_flushed = True

    def end(self) -> None:
        """Say that no more text comes. Harmless to repeat."""
        half, self._half = self._half, ""
        if half:
            self._append(half)
        self._end(self._last)

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """Speak, part by part; iterate once, inside ``contextlib.aclosing``.

        Raises:
            SynthesisError: whatever went wrong with the request.
        """
        start_s, utterances = 0.0, 0
        while self._parts and (part := await self._next_part()) is not None:
            async with await self._opened(part) as stream:
                _hand_over(part, stream)
                if start_s:
                    pause = _silence(stream.sample_rate, part.manner.speed)
                    yield Piece(pause, start_s, len(pause) / stream.sample_rate, utterances)
                    start_s += len(pause) / stream.sample_rate
                    utterances += 1
                last = Piece(np.zeros(0, np.float32), 0.0, 0.0, 0)
                async for piece in pieces_of(stream):
                    last = piece
                    yield replace(
                        piece,
                        start_s=start_s + piece.start_s,
                        utterance=utterances + piece.utterance,
                    )
            start_s += last.start_s + last.duration_s
            utterances += last.utterance
            self._parts.popleft()

    async def _next_part(self) -> _Part | None:
        """Wait for text; None = there is no more.

        Raises:
            DeadlineError: if it does not come in time.
        """
        while True:
            part = self._parts[0]
            if part.has_text:
                return part
            if part.is_ended:
                return None
            self._changed.clear()
            left = self._deadline.at - time.monotonic()
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError as error:
                raise self._deadline.error() from error

    async def _opened(self, part: _Part) -> TextStream:
        return await open_text_stream(
            self._runtime,
            part.manner,
            protocol=self._protocol,
            in_time=self._in_time,
            deadline=self._deadline,
        )

    def _end(self, part: _Part) -> None:
        part.is_ended = True
        if part.stream is not None:
            part.stream.end_text()
        self._changed.set()


def _hand_over(part: _Part, stream: TextStream) -> None:
    """Feed a stream what came before it was there; what comes later goes there by itself."""
    for item in part.items:
        if item is _FLUSH:
            stream.flush()
        else:
            stream.feed(item)
    part.items.clear()
    part.stream = stream
    if part.is_ended:
        stream.end_text()


def _joined(text: str) -> tuple[str, str]:
    """The text with whole characters for surrogate pairs, and a first half at its end apart.

    JavaScript counts in UTF-16, so its clients may cut inside an emoji.
    """
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return (text[:-1], text[-1]) if "\ud800" <= text[-1:] <= "\udbff" else (text, "")


def _silence(sample_rate: int, speed: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.zeros(int(sample_rate * _PAUSE_S / check_speed(speed)), np.float32)
