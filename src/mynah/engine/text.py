"""Text on its way to a session in another thread: pieces, flushes, the end or an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable
from typing import TypeAlias

from mynah.engine.channel import Channel
from mynah.errors import InvalidRequestError
from mynah.pipeline.synthesizer import Speaking
from mynah.pipeline.text_source import check_piece

CAPACITY = 64
"""Pieces that wait to be read; a source that is faster than speech waits for it."""


class _Flush:
    """Stands for a flush between the pieces."""


_Item: TypeAlias = str | _Flush


class TextLine:
    """Carries one text from whoever writes it to the thread that speaks it."""

    def __init__(self) -> None:
        """Begin empty."""
        self._channel: Channel[_Item] = Channel(CAPACITY)
        self._is_ended = False
        self.on_change: Callable[[], None] | None = None
        """Called by the writer when there is something new to read."""

    @property
    def has_more(self) -> bool:
        """Whether ``supply`` would do something."""
        return self._channel.has_more

    def put(self, text: str) -> bool:
        """Append a piece, waiting while too many wait; False = nobody speaks any more.

        Raises:
            InvalidRequestError: if it is no text, or the text has ended.
        """
        check_piece(text)
        if self._is_ended:
            raise InvalidRequestError("the text has ended", hint="start a new stream")
        is_heard = self._channel.put(text)
        self._tell()
        return is_heard

    def flush(self) -> None:
        """Have all pieces before spoken."""
        self._channel.put(_Flush())
        self._tell()

    def end(self, error: BaseException | None = None) -> None:
        """End the text; ``error`` is why it ended early."""
        if not self._is_ended:
            self._is_ended = True
            self._channel.finish(error)
            self._tell()

    def close(self) -> None:
        """Let the writer go if it waits; nobody reads any more."""
        self._channel.close()

    def supply(self, session: Speaking) -> bool:
        """Hand the next item to the session, if there is one; never waits.

        Raises:
            CancelledError: if the line was closed.
            BaseException: what the text ended with.
        """
        is_there, item = self._channel.get_now()
        if not is_there:
            return False
        if item is None:
            session.end_text()
        elif isinstance(item, _Flush):
            session.flush()
        else:
            session.feed(item)
        return True

    def _tell(self) -> None:
        if (call := self.on_change) is not None:
            call()


def pull(text: Iterable[str], line: TextLine) -> None:
    """Put all pieces into the line; ends when nobody speaks any more."""
    error: BaseException | None = None
    try:
        for piece in text:
            if not line.put(piece):
                break
    except BaseException as caught:  # noqa: BLE001 - raised again by the listener
        error = caught
    line.end(error)


async def pull_async(text: AsyncIterable[str], line: TextLine) -> None:
    """Put all pieces of an asynchronous source into the line; see ``pull``."""
    error: BaseException | None = None
    try:
        async for piece in text:
            if not await asyncio.to_thread(line.put, piece):
                break
    except Exception as caught:  # noqa: BLE001 - raised again by the listener
        error = caught
    finally:
        line.end(error)
