"""Many streams at once, left at random moments: nothing stays behind, nothing hangs."""

from __future__ import annotations

import asyncio
import gc
import random
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mynah
from mynah.api import TTS
from mynah.engine.stream import SpeechStream
from mynah.errors import BackendError, CancelledError
from mynah.pipeline.session import Session
from mynah.pipeline.synthesizer import join
from tests.fake_model import TEXT, breaking, fake_model, fake_tts, stream_threads

NUM_STREAMS = 24
WAIT_S = 60


def remaining_threads(limit_s: float = 20.0) -> list[threading.Thread]:
    deadline = time.monotonic() + limit_s
    for thread in stream_threads():
        thread.join(max(deadline - time.monotonic(), 0))
    return stream_threads()


def live_sessions() -> int:
    gc.collect()
    return sum(type(thing) is Session for thing in gc.get_objects())


@pytest.fixture
def tts(tmp_path: Path) -> TTS:
    return fake_tts(tmp_path)


def test_leaving_at_random_moments_leaves_nothing_behind(tts: TTS) -> None:
    choices = random.Random(0)
    before = live_sessions()
    for _ in range(NUM_STREAMS):
        stream = tts.stream(TEXT * 20, seed=1)
        for _ in range(choices.randrange(6)):
            next(stream)
        time.sleep(choices.random() / 500)
        if choices.random() < 0.5:
            stream.close()
        del stream
    assert not remaining_threads()
    assert live_sessions() == before
    stats = tts.engine.stats()
    assert (stats.listeners, stats.others) == (0, 0)


def test_closing_from_another_thread_wakes_the_listener(tts: TTS) -> None:
    choices = random.Random(1)
    for _ in range(NUM_STREAMS):
        stream = tts.stream(TEXT * 20, seed=1)
        timer = threading.Timer(choices.random() / 50, stream.close)
        timer.start()
        with pytest.raises(CancelledError):
            for _chunk in stream:
                pass
        timer.join(WAIT_S)
    assert not remaining_threads()


def test_many_streams_at_once_equal_one_alone(tts: TTS) -> None:
    wanted = tts.synthesize(TEXT, seed=9).samples
    streams = [tts.stream(TEXT, seed=9) for _ in range(NUM_STREAMS)]
    for stream in streams:
        np.testing.assert_array_equal(join(list(stream)).samples, wanted)
    assert not remaining_threads()


def test_one_failure_among_many(tmp_path: Path) -> None:
    calls = 0

    def fail_once(original: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 20:
            raise BackendError("gone")
        return original(*args)

    tts = fake_tts(tmp_path, fake_model(change=breaking("vocoder", "decode", fail_once)))
    streams, failures = [tts.stream(TEXT, seed=9) for _ in range(8)], 0
    for stream in streams:
        try:
            list(stream)
        except BackendError:
            failures += 1
    assert failures == 1
    assert not remaining_threads()


def test_async_tasks_cancelled_at_random_moments(tts: TTS) -> None:
    choices = random.Random(2)

    async def speak() -> None:
        async for _chunk in tts.astream(TEXT * 20):
            pass

    async def main() -> None:
        tasks = [asyncio.create_task(speak()) for _ in range(NUM_STREAMS)]
        for task in tasks:
            await asyncio.sleep(choices.random() / 100)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)

    asyncio.run(main())
    assert not remaining_threads()


def test_the_stream_itself_is_freed_while_its_thread_runs(tts: TTS) -> None:
    stream: SpeechStream | None = tts.stream(TEXT * 50)
    watch = weakref.ref(stream)
    del stream
    gc.collect()
    assert watch() is None
    assert not remaining_threads()


def test_leaving_the_interpreter_with_an_open_stream_does_not_hang(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from tests.fake_model import TEXT, fake_tts; "
        f"tts = fake_tts(Path({str(tmp_path)!r})); "
        "stream = tts.stream(TEXT * 100); next(stream); print('left')"
    )
    roots = [str(Path(mynah.__file__).parents[1]), str(Path(__file__).parents[2])]
    setup = f"import sys; sys.path[:0] = {roots!r}; "
    result = subprocess.run(
        [sys.executable, "-c", setup + code],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, "left", "")
