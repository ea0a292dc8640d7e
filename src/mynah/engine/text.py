"""Text on its way to a session in another thread: pieces, flushes, the end or an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable
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

    def put(self, text: str) -> bool:
        """Append a piece, waiting while too many wait; False = nobody speaks any more.

        Raises:
            InvalidRequestError: if it is no text, or the text has ended.
        """
        check_piece(text)
        if self._is_ended:
            raise InvalidRequestError("the text has ended", hint="start a new stream")
        return self._channel.put(text)

    def flush(self) -> None:
        """Have all pieces before spoken."""
        self._channel.put(_Flush())

    def end(self, error: BaseException | None = None) -> None:
        """End the text; ``error`` is why it ended early."""
        if not self._is_ended:
            self._is_ended = True
            self._channel.finish(error)

    def close(self) -> None:
        """Let everybody go who waits at either side."""
        self._channel.close()

    def supply(self, session: Speaking) -> None:
        """Wait for the next item and hand it to the session.

        Raises:
            CancelledError: if the line was closed.
            BaseException: what the text ended with.
        """
        item = self._channel.get()
        if item is None:
            session.end_text()
        elif isinstance(item, _Flush):
            session.flush()
        else:
            session.feed(item)


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
