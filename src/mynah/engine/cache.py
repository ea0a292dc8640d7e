"""Values computed once and shared between threads; the least recently used ones are dropped."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class CacheStats:
    """How useful a cache was so far."""

    hits: int
    misses: int
    size: int
    """Values it holds now."""


class Cache(Generic[T]):
    """At most ``capacity`` values by key."""

    def __init__(self, capacity: int) -> None:
        """Start empty."""
        self._capacity = capacity
        self._hits = self._misses = 0
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, Future[T]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value, computing it if need be.

        Threads that ask for the same key wait for the first one; others do not. An error is
        raised in all of them and not kept.
        """
        with self._lock:
            future = self._values.get(key)
            is_mine = future is None
            self._misses += is_mine
            self._hits += not is_mine
            if future is None:
                future = self._values[key] = Future()
            self._values.move_to_end(key)
            while len(self._values) > self._capacity:
                self._values.popitem(last=False)
        if is_mine:
            try:
                future.set_result(make())
            except BaseException as error:
                with self._lock:
                    if self._values.get(key) is future:
                        del self._values[key]
                future.set_exception(error)
                raise
        return future.result()

    def stats(self) -> CacheStats:
        """A snapshot."""
        with self._lock:
            return CacheStats(self._hits, self._misses, len(self._values))

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()

    def __len__(self) -> int:
        """Return the number of values."""
        return len(self._values)
