from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mynah.engine.cache import Cache
from mynah.engine.channel import Channel
from mynah.errors import BackendError, CancelledError

WAIT_S = 20


def test_items_come_in_order_and_then_the_end() -> None:
    channel: Channel[int] = Channel(4)
    assert all(channel.put(item) for item in range(4))
    channel.finish()
    assert [channel.get() for _ in range(6)] == [0, 1, 2, 3, None, None]


def test_an_error_comes_after_the_items_and_once() -> None:
    channel: Channel[int] = Channel(4)
    channel.put(1)
    channel.finish(BackendError("gone"))
    assert channel.get() == 1
    with pytest.raises(BackendError, match="gone"):
        channel.get()
    assert channel.get() is None


def test_a_full_channel_makes_the_writer_wait() -> None:
    channel: Channel[int] = Channel(2)
    written: list[int] = []

    def write() -> None:
        for item in range(10):
            channel.put(item)
            written.append(item)
        channel.finish()

    thread = threading.Thread(target=write)
    thread.start()
    taken: list[int] = []
    while (item := channel.get()) is not None:
        assert len(written) <= len(taken) + 4
        taken.append(item)
    thread.join(WAIT_S)
    assert taken == list(range(10))


def test_closing_frees_both_sides() -> None:
    full: Channel[int] = Channel(1)
    full.put(0)
    empty: Channel[int] = Channel(1)
    with ThreadPoolExecutor(2) as pool:
        writer, reader = pool.submit(full.put, 1), pool.submit(empty.get)
        full.close()
        empty.close()
        assert writer.result(WAIT_S) is False
        with pytest.raises(CancelledError):
            reader.result(WAIT_S)
    assert not full.put(2)


def test_async_readers_wake_up() -> None:
    channel: Channel[int] = Channel(1)

    async def read() -> list[int | None]:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(channel.get_async())
        await asyncio.sleep(0)
        await loop.run_in_executor(None, channel.put, 7)
        first = await asyncio.wait_for(task, WAIT_S)
        await loop.run_in_executor(None, channel.finish)
        return [first, await channel.get_async()]

    assert asyncio.run(read()) == [7, None]


def test_a_reader_whose_loop_is_gone_harms_nobody() -> None:
    channel: Channel[int] = Channel(1)

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(channel.get_async(), 0.01)

    asyncio.run(leave())
    assert channel.put(1)
    assert channel.get() == 1


def test_the_cache_drops_what_was_used_longest_ago() -> None:
    cache: Cache[int] = Cache(2)
    made: list[int] = []

    def get(key: int) -> int:
        def make() -> int:
            made.append(key)
            return key * 10

        return cache.get(key, make)

    assert [get(key) for key in (1, 2, 1, 3, 1, 2)] == [10, 20, 10, 30, 10, 20]
    assert made == [1, 2, 3, 2]
    assert len(cache) == 2
    cache.clear()
    assert len(cache) == 0


def test_the_cache_computes_once_for_all_threads_and_forgets_errors() -> None:
    cache: Cache[int] = Cache(2)
    gate, calls = threading.Event(), []

    def fail() -> int:
        calls.append(1)
        assert gate.wait(WAIT_S)
        raise BackendError("no")

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(cache.get, "key", fail) for _ in range(4)]
        assert cache.get("other", lambda: 5) == 5  # nobody waits for another key
        gate.set()
        errors = [future.exception(WAIT_S) for future in futures]
    assert all(isinstance(error, BackendError) for error in errors)
    assert cache.get("key", lambda: 3) == 3
