"""A bounded queue from one worker thread to whoever listens, blocking or in an event loop.

Nobody polls, and nobody waits for ever: either side can leave, and the other one learns of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

from mynah.errors import CancelledError

T = TypeVar("T")


class Channel(Generic[T]):
    """Items in order, then the end or an error."""

    def __init__(self, capacity: int) -> None:
        """Hold at most ``capacity`` items that nobody has taken yet."""
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._wakers: list[Callable[[], None]] = []
        self._error: BaseException | None = None
        self._is_finished = False
        self._is_closed = False
        self._is_read = False  # whether the end was
        self.on_take: Callable[[], None] | None = None
        """Called by the reader when it took an item or left: a writer that does not wait in
        ``put`` can go on."""

    @property
    def is_full(self) -> bool:
        """Whether ``put`` would wait."""
        return len(self._items) >= self._capacity

    @property
    def is_closed(self) -> bool:
        """Whether nobody listens any more."""
        return self._is_closed

    def offer(self, item: T) -> bool:
        """Add an item without waiting, full or not; False = nobody listens any more."""
        with self._changed:
            if not self._is_closed:
                self._items.append(item)
                self._wake()
            return not self._is_closed

    def put(self, item: T) -> bool:
        """Add an item, waiting while the queue is full; False = nobody listens any more."""
        with self._changed:
            while len(self._items) >= self._capacity and not self._is_closed:
                self._changed.wait()
            if self._is_closed:
                return False
            self._items.append(item)
            self._wake()
        return True

    def finish(self, error: BaseException | None = None) -> None:
        """Say that nothing more comes; ``error`` is raised by the reader after the last item."""
        with self._changed:
            self._is_finished, self._error = True, error
            self._wake()

    def close(self) -> None:
        """Stop listening; the writer's next ``put`` returns False."""
        with self._changed:
            self._is_closed = True
            self._items.clear()
            self._wake()
        self._tell()

    def get(self) -> T | None:
        """Take the next item, waiting for it; None = the end.

        Raises:
            CancelledError: if the channel was closed before its end.
            BaseException: what the writer finished with, once.
        """
        with self._changed:
            while not self._is_ready():
                self._changed.wait()
            item = self._take()
        self._tell()
        return item

    def get_now(self) -> tuple[bool, T | None]:
        """Whether ``get`` would return at once, and what it returns; see there."""
        with self._changed:
            if not self._is_ready():
                return False, None
            item = self._take()
        self._tell()
        return True, item

    async def get_async(self) -> T | None:
        """Take the next item in an event loop; see ``get``."""
        loop = asyncio.get_running_loop()
        while True:
            changed = asyncio.Event()
            with self._changed:
                is_ready = self._is_ready()
                if is_ready:
                    item = self._take()
                else:
                    self._wakers.append(partial(_call_soon, loop, changed.set))
            if is_ready:
                self._tell()
                return item
            await changed.wait()

    @property
    def has_more(self) -> bool:
        """Whether ``get`` would return at once."""
        with self._changed:
            return self._is_ready()

    def _tell(self) -> None:
        """Call ``on_take``, outside of the lock: whoever is called may use the channel."""
        if (call := self.on_take) is not None:
            call()

    def _is_ready(self) -> bool:
        return bool(self._items) or self._is_finished or self._is_closed

    def _take(self) -> T | None:
        if self._items:
            item = self._items.popleft()
            self._changed.notify_all()
            return item
        if self._is_closed and not self._is_read:
            raise CancelledError("the stream was closed before its end")
        self._is_read = True
        error, self._error = self._error, None
        if error is not None:
            raise error
        return None

    def _wake(self) -> None:
        self._changed.notify_all()
        wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    with suppress(RuntimeError):  # a loop that is closed has nobody to wake
        loop.call_soon_threadsafe(function)
