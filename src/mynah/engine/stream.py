"""One session run by a thread of its own, and what its caller holds: chunks, as they are made."""

from __future__ import annotations

import asyncio
import threading
import weakref
from types import TracebackType
from typing import Self

from mynah.engine.channel import Channel
from mynah.pipeline.session import Session
from mynah.pipeline.synthesizer import run
from mynah.types import AudioChunk

CAPACITY = 8
"""Chunks made ahead of the listener; with about a second each, memory stays small."""


class SpeechStream:
    """Chunks of one request, to be iterated once: ``for`` or ``async for``.

    The audio is made in a thread while earlier chunks are played. Leaving early, by ``close``, a
    ``with`` block or simply by dropping the stream, ends that thread within one step.
    """

    def __init__(self, session: Session, capacity: int = CAPACITY) -> None:
        """Begin to speak."""
        self._session = session
        self._channel: Channel[AudioChunk] = Channel(capacity)
        self._thread = threading.Thread(
            target=_work, args=(session, self._channel), name="mynah-stream", daemon=True
        )
        # The thread holds no reference to the stream, so a stream nobody holds is finalised.
        self._finalizer = weakref.finalize(self, _abandon, session, self._channel, self._thread)
        self._thread.start()

    @property
    def progress(self) -> float:
        """Share of the text that was spoken, 0 to 1; runs ahead of what was taken."""
        return self._session.progress

    def __iter__(self) -> Self:
        """Return the stream itself."""
        return self

    def __next__(self) -> AudioChunk:
        """Wait for the next chunk.

        Raises:
            SynthesisError: whatever went wrong in the thread.
        """
        chunk = self._channel.get()
        if chunk is None:
            raise StopIteration
        return chunk

    def __aiter__(self) -> Self:
        """Return the stream itself."""
        return self

    async def __anext__(self) -> AudioChunk:
        """Wait for the next chunk without blocking the event loop; see ``__next__``."""
        chunk = await self._channel.get_async()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    def close(self) -> None:
        """Stop, and wait until the thread has ended: one step at most. Harmless to repeat."""
        self._finalizer.detach()
        _stop(self._session, self._channel)
        if self._thread is not threading.current_thread():
            self._thread.join()

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


def _work(session: Session, channel: Channel[AudioChunk]) -> None:
    error: BaseException | None = None
    try:
        for chunk in run(session):
            if not channel.put(chunk):
                break
    except BaseException as caught:  # noqa: BLE001 - raised again by the listener
        error = caught
    channel.finish(error)


def _stop(session: Session, channel: Channel[AudioChunk]) -> None:
    session.cancel()
    channel.close()


def _abandon(session: Session, channel: Channel[AudioChunk], thread: threading.Thread) -> None:
    _stop(session, channel)
    # At exit the thread must not be inside a network while the process is taken down. Otherwise
    # this runs wherever the stream was dropped, which must not wait.
    if not threading.main_thread().is_alive():
        thread.join(timeout=10)
