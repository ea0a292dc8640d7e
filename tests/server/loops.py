"""An event loop in a thread, for servers that are not HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from mynah.api import TTS

T = TypeVar("T")
_WAIT_S = 120.0


class LoopThread:
    """Runs coroutines for tests that are not asynchronous themselves."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_WAIT_S)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_WAIT_S)
        self.loop.close()


@contextmanager
def loop_thread() -> Iterator[LoopThread]:
    loop = LoopThread()
    try:
        yield loop
    finally:
        loop.close()


class Engine:
    """What a model's engine does, watched without polling its clock."""

    def __init__(self, tts: TTS) -> None:
        self._tts = tts
        self._changed = threading.Condition()
        self.outcomes: list[str] = []
        self._before = tts.engine.on_outcome

    def __enter__(self) -> Engine:
        def note(outcome: Any) -> None:
            with self._changed:
                self.outcomes.append(outcome.status)
                self._changed.notify_all()
            if self._before is not None:
                self._before(outcome)

        self._tts.engine.on_outcome = note
        return self

    def __exit__(self, *error: object) -> None:
        self._tts.engine.on_outcome = self._before

    def wait_for(self, *outcomes: str) -> None:
        """Until so many requests ended, in this way; nothing runs any more then."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.outcomes) >= len(outcomes), _WAIT_S)
        assert sorted(self.outcomes) == sorted(outcomes), self.outcomes
        stats = self._tts.engine.stats()
        assert stats.listeners + stats.others == 0


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does next, without a fixed time."""
    waiting = threading.Event()
    for _ in range(3000):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("it did not happen")
