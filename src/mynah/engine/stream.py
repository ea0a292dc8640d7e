"""What a caller holds of a request: its chunks as they are made, and the line its text goes in."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterable, Callable, Iterable
from types import TracebackType
from typing import Self

from mynah.engine.channel import Channel
from mynah.engine.deadline import Deadline
from mynah.engine.scheduler import Scheduler
from mynah.engine.task import Task
from mynah.engine.text import TextLine, pull, pull_async
from mynah.errors import InvalidRequestError
from mynah.pipeline.synthesizer import Speaking
from mynah.types import AudioChunk

CAPACITY = 8
"""Chunks made ahead of the listener; with about a second each, memory stays small."""


class SpeechStream:
    """Chunks of one request, to be iterated once: ``for`` or ``async for``.

    The audio is made by the model's scheduler while earlier chunks are played. Leaving early, by
    ``close``, a ``with`` block or simply by dropping the stream, ends that work within one step.

    A request without a text of its own is fed by ``feed``, ``flush`` and ``end_text``, or from an
    iterable. Text is taken only when the speech needs it, so the samples never depend on time.
    """

    def __init__(
        self,
        session: Speaking,
        scheduler: Scheduler,
        *,
        capacity: int = CAPACITY,
        text: Iterable[str] | None = None,
        in_time: bool = True,
        deadline: Deadline | None = None,
    ) -> None:
        """Begin to speak.

        Args:
            session: from now on advanced by the scheduler only.
            scheduler: of the session's model.
            capacity: chunks made ahead of the listener.
            text: pieces of the text, taken by a thread of their own; what the iterable raises
                is raised to the listener.
            in_time: whether it is heard while it is made; others get what time is left.
            deadline: on the scheduler's clock; the listener gets ``DeadlineError`` after the
                chunks that were made until then.

        Raises:
            OverloadedError: if the scheduler has limits and cannot serve it in time.
            CancelledError: if the model is closed.
        """
        self._session = session
        self._heard_s = 0.0
        self._channel: Channel[AudioChunk] = Channel(capacity)
        self._line = TextLine()
        task = Task(
            session,
            self._channel,
            self._line,
            in_time=in_time,
            arrived=scheduler.now(),
            deadline=deadline,
        )
        scheduler.submit(task)
        self._over = task.over
        # Nothing below holds a reference to the stream, so a stream nobody holds is finalised.
        stop = _Stop(session, self._channel, self._line)
        self._stop: Callable[[], None] = stop
        self._finalizer = weakref.finalize(self, _abandon, stop, task.over)
        if text is not None:
            threading.Thread(
                target=pull, args=(text, self._line), name="mynah-text", daemon=True
            ).start()

    @property
    def seed(self) -> int:
        """Seed of the random choices; the same request with it gives the same samples."""
        return self._session.seed

    @property
    def progress(self) -> float:
        """Share of the text that was spoken, 0 to 1; runs ahead of what was taken."""
        return self._session.progress

    @property
    def spoken_text(self) -> str:
        """What is spoken in the chunks that were taken so far, up to the last whole word."""
        return self._session.text_until(self._heard_s)

    def feed(self, text: str) -> None:
        """Append a piece of text of any size; waits while many pieces wait to be read.

        Raises:
            InvalidRequestError: if the text has ended, or the request has one of its own. What is
                wrong with a piece is raised to the listener.
        """
        self._fed().put(text)

    def flush(self) -> None:
        """Have all that was fed spoken, without waiting for the end of its sentence."""
        self._fed().flush()

    def end_text(self, error: BaseException | None = None) -> None:
        """Say that no more text comes; ``error``, if there is one, is raised to the listener.

        Harmless to repeat.
        """
        self._fed().end(error)

    async def pull(self, text: AsyncIterable[str]) -> None:
        """Feed all pieces of an asynchronous source, then end the text."""
        await pull_async(text, self._fed())

    def __iter__(self) -> Self:
        """Return the stream itself."""
        return self

    def __next__(self) -> AudioChunk:
        """Wait for the next chunk.

        Raises:
            SynthesisError: whatever went wrong while it was made.
        """
        chunk = self._channel.get()
        if chunk is None:
            raise StopIteration
        return self._heard(chunk)

    def __aiter__(self) -> Self:
        """Return the stream itself."""
        return self

    async def __anext__(self) -> AudioChunk:
        """Wait for the next chunk without blocking the event loop; see ``__next__``."""
        chunk = await self._channel.get_async()
        if chunk is None:
            raise StopAsyncIteration
        return self._heard(chunk)

    def close(self) -> None:
        """Stop, and wait until the work has ended: one step at most. Harmless to repeat."""
        self._finalizer.detach()
        self._stop()
        self._over.wait()

    async def aclose(self) -> None:
        """Do the same as ``close`` without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        """Return the stream itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _fed(self) -> TextLine:
        if not self._session.takes_text:
            raise InvalidRequestError(
                "this stream takes no text", hint="begin one with TTS.open_stream to feed it"
            )
        return self._line

    def _heard(self, chunk: AudioChunk) -> AudioChunk:
        self._heard_s = chunk.start_s + chunk.audio.duration_s
        return chunk


class _Stop:
    """Ends the work for one stream without holding the stream."""

    def __init__(self, session: Speaking, channel: Channel[AudioChunk], line: TextLine) -> None:
        self._session, self._channel, self._line = session, channel, line

    def __call__(self) -> None:
        self._session.cancel()
        self._channel.close()
        self._line.close()


def _abandon(stop: Callable[[], None], over: threading.Event) -> None:
    stop()
    # At exit no worker must be inside a network while the process is taken down. Otherwise this
    # runs wherever the stream was dropped, which must not wait.
    if not threading.main_thread().is_alive():
        over.wait(timeout=10)
