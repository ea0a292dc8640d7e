"""A speech that is being made for somebody, and its statistics."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from enum import Enum
from typing import Any, Self, TypeAlias

from mynah.engine.deadline import Deadline
from mynah.engine.stream import SpeechStream
from mynah.errors import DeadlineError, InvalidRequestError, SynthesisError
from mynah.server.runtime import Runtime, SpeechRecord
from mynah.types import AudioChunk


class _Mark(Enum):
    """Stands between the pieces of a text."""

    FLUSH = "flush"
    END = "end"


_Items: TypeAlias = "queue.SimpleQueue[str | _Mark]"


class SpokenStream:
    """A speech being made: iterate once with ``async for``, and always close it.

    Attributes:
        model: name of the model that speaks.
        voice: name of the voice.
        sample_rate: of the chunks, in Hz.
    """

    def __init__(
        self,
        runtime: Runtime,
        stream: SpeechStream,
        *,
        model: str,
        voice: str,
        sample_rate: int,
        protocol: str,
        characters: int,
        asked_at: float,
        in_time: bool = True,
        deadline: Deadline | None = None,
    ) -> None:
        """Take over a stream whose session is counted already; see ``speak``."""
        self.model, self.voice, self.sample_rate = model, voice, sample_rate
        self._runtime, self._stream = runtime, stream
        self._protocol, self._asked_at = protocol, asked_at
        self._num_characters = characters
        self._held: AudioChunk | None = None
        self._first_at: float | None = None
        self._text_at = asked_at
        self._dry_at = 0.0
        self._audio_s = 0.0
        self._underruns = 0
        self._underrun_s = 0.0
        self._in_time, self._deadline = in_time, deadline
        self._outcome = "cancelled"
        self._is_closed = False

    @property
    def seed(self) -> int:
        """Seed of the random choices; the same request with it gives the same samples."""
        return self._stream.seed

    @property
    def progress(self) -> float:
        """Share of the text that was spoken, 0 to 1."""
        return self._stream.progress

    @property
    def spoken_text(self) -> str:
        """What is spoken in the chunks that were taken so far, up to the last whole word."""
        return self._stream.spoken_text

    @property
    def audio_s(self) -> float:
        """Seconds of audio taken so far."""
        return self._audio_s

    async def first(self) -> None:
        """Wait until there is audio: what is wrong with the request is raised here at the latest.

        Raises:
            SynthesisError: see ``__anext__``.
        """
        if self._held is None and self._first_at is None:
            self._held = await self._next()

    def __aiter__(self) -> Self:
        """Return the stream itself."""
        return self

    async def __anext__(self) -> AudioChunk:
        """Wait for the next chunk.

        Raises:
            SynthesisError: whatever went wrong.
            DeadlineError: if the request takes longer than it may.
        """
        chunk, self._held = self._held, None
        return await self._next() if chunk is None else chunk

    async def aclose(self) -> None:
        """Stop the work, if there is any left, and take the speech off the count."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await asyncio.shield(self._runtime.in_speaking_thread(self._stream.close))
        finally:
            self._runtime.models.release(self.model)
            self._runtime.end()
            self._runtime.report(self._record())

    async def __aenter__(self) -> Self:
        """Return the stream itself."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close it."""
        await self.aclose()

    async def _next(self) -> AudioChunk:
        asked_at = time.monotonic()
        deadline = self._deadline
        try:
            async with asyncio.timeout(None if deadline is None else deadline.at - asked_at):
                chunk = await self._stream.__anext__()
        except StopAsyncIteration:
            self._outcome = "done"
            raise
        except TimeoutError as error:
            self._outcome = DeadlineError.code
            assert deadline is not None  # it was what ran out
            raise deadline.error() from error
        except SynthesisError as error:
            self._outcome = error.code
            raise
        except Exception:
            self._outcome = "internal"
            raise
        self._count(chunk, asked_at, time.monotonic())
        return chunk

    def _count(self, chunk: AudioChunk, asked_at: float, now: float) -> None:
        """Follow a listener who plays from the first chunk."""
        if self._first_at is None:
            self._first_at = self._dry_at = now
        elif now > self._dry_at:  # silence; ours only if the listener asked in time
            if self._in_time and asked_at < self._dry_at:
                self._underruns += 1
                self._underrun_s += now - self._dry_at
            self._dry_at = now
        self._dry_at += chunk.audio.duration_s
        self._audio_s += chunk.audio.duration_s
        if chunk.is_last:
            self._outcome = "done"

    def _record(self) -> SpeechRecord:
        return SpeechRecord(
            protocol=self._protocol,
            model=self.model,
            outcome=self._outcome,
            characters=self._num_characters,
            first_audio_s=None if self._first_at is None else self._first_at - self._text_at,
            total_s=time.monotonic() - self._asked_at,
            audio_s=self._audio_s,
            underruns=self._underruns,
            underrun_s=self._underrun_s,
            in_time=self._in_time,
        )


class TextStream(SpokenStream):
    """A speech whose text is fed while it is made. ``feed`` and ``flush`` never wait."""

    def __init__(self, *args: Any, **facts: Any) -> None:
        """See ``SpokenStream``."""
        super().__init__(*args, **facts)
        self._items: _Items = queue.SimpleQueue()
        # A stream takes text only when it needs some, so somebody has to wait: not the event loop.
        threading.Thread(
            target=_feed, args=(self._stream, self._items), name="mynah-feed", daemon=True
        ).start()

    def feed(self, text: str) -> None:
        """Append a piece of text of any size.

        Raises:
            InvalidRequestError: if the whole text becomes too long.
        """
        if not self._num_characters:
            self._text_at = time.monotonic()  # nobody can be quicker than the text
        self._num_characters += len(text)
        check_length(self._num_characters, self._runtime.settings.max_text_characters)
        self._items.put(text)

    def flush(self) -> None:
        """Have all that was fed spoken, without waiting for the end of its sentence."""
        self._items.put(_Mark.FLUSH)

    def end_text(self) -> None:
        """Say that no more text comes. Harmless to repeat."""
        self._items.put(_Mark.END)

    async def aclose(self) -> None:
        """Stop; see ``SpokenStream.aclose``."""
        try:
            await super().aclose()
        finally:
            self._items.put(_Mark.END)  # not before: the rest of the text would still be spoken


def check_length(count: int, limit: int) -> None:
    """Refuse a text that is too long.

    Raises:
        InvalidRequestError: naming both numbers.
    """
    if count > limit:
        raise InvalidRequestError(
            f"the text has {count} characters, the limit is {limit}",
            hint="split it into several requests, or send it as a job",
        )


def _feed(stream: SpeechStream, items: _Items) -> None:
    error: Exception | None = None
    try:
        while (item := items.get()) is not _Mark.END:
            if isinstance(item, _Mark):
                stream.flush()
            else:
                stream.feed(item)
    except Exception as caught:  # noqa: BLE001 - raised again by the listener, who waits for text
        error = caught
    stream.end_text(error)
