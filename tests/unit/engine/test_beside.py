"""When a stream may work ahead: only in time that its listener can spare."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest

from mynah.backends.fake import fake_config
from mynah.engine.beside import Beside
from mynah.engine.channel import Channel
from mynah.engine.scheduler import Scheduler
from mynah.engine.stream import SpeechStream
from mynah.engine.task import Task
from mynah.engine.text import TextLine
from mynah.pipeline.model import SpeechModel
from mynah.pipeline.synthesizer import join, synthesize
from tests.fake_model import AHEAD, TEXT, fake_model, overlapping, session

LONG = " ".join([TEXT] * 4)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def listener(**values: Any) -> Task:
    model = fake_model()
    values = {"in_time": True, "arrived": 100.0} | values
    return Task(session(model), Channel(8), TextLine(), **values)


def test_who_has_heard_nothing_spares_nothing() -> None:
    clock, task = Clock(), listener()
    assert Beside(task, clock, lambda: True).spare_s() == 0.0


def test_a_listener_spares_what_is_in_reserve_beyond_its_next_audio() -> None:
    """Audio that takes 0.5 s alone, beside t seconds of other work, comes after 0.5 + t / 2."""
    clock = Clock()
    task = listener(first_audio=100.0, audio_s=2.0, render_s=0.5)
    spare = Beside(task, clock, lambda: True).spare_s()
    assert 0.5 + spare / 2 == pytest.approx(0.9 * 2.0)
    clock.now = 101.7
    assert Beside(task, clock, lambda: True).spare_s() == 0.0


def test_time_that_passed_is_not_there_any_more() -> None:
    clock = Clock()
    beside = Beside(listener(first_audio=100.0, audio_s=2.0, render_s=0.5), clock, lambda: True)
    before = beside.spare_s()
    clock.now += 1.0
    assert beside.spare_s() == pytest.approx(before - 1.0)
    clock.now += 10.0
    assert beside.spare_s() == 0.0


def test_nobody_waits_for_a_file() -> None:
    assert Beside(listener(in_time=False), Clock(), lambda: True).spare_s() == math.inf


def test_other_tasks_need_the_processors_more() -> None:
    assert Beside(listener(in_time=False), Clock(), lambda: False).spare_s() == 0.0


@pytest.mark.parametrize(("shared_s", "alone_s"), [(0.0, 1.0), (0.6, 0.7)])
def test_what_audio_takes_alone_is_learned(shared_s: float, alone_s: float) -> None:
    clock, task = Clock(), listener(in_time=False)
    beside = Beside(task, clock, lambda: True)
    clock.now += shared_s
    beside.spare_s()
    clock.now += 1.0 - shared_s
    beside.learn(1.0)
    assert task.render_s == pytest.approx(alone_s)


@pytest.mark.parametrize(
    ("took_s", "audio_s", "shared_s", "behind"),
    [
        (1.2, 0.5, 0.0, True),
        (0.9, 0.5, 0.0, False),  # a first chunk is short: a gap after it says nothing
        (1.2, 9.0, 0.0, False),  # the listener took his time
        (1.2, 0.5, 0.1, False),  # not with something beside it
    ],
)
def test_a_machine_that_is_too_slow_does_not_wait_for_a_reserve(
    took_s: float, audio_s: float, shared_s: float, behind: bool
) -> None:
    clock, task = Clock(), listener(first_audio=100.0, handed_at=100.0, audio_s=audio_s)
    task.render_s = 2.0 if not shared_s else 0.0
    beside = Beside(task, clock, lambda: True)
    clock.now += shared_s
    beside.spare_s()
    clock.now += took_s - shared_s
    beside.learn(1.0)
    assert task.falls_behind is behind
    assert (Beside(task, clock, lambda: True).spare_s() > 0) is (behind or audio_s > 5)


def noting(threads: set[str], sizes: list[int]) -> SpeechModel:
    def step(original: Any, tokens: Any, *args: Any) -> Any:
        threads.add(threading.current_thread().name)
        sizes.append(len(tokens))
        return original(tokens, *args)

    return fake_model(fake_config(pointer=False), change=overlapping(step))


@pytest.mark.parametrize("in_time", [True, False])
def test_a_stream_gives_what_its_session_gives(in_time: bool) -> None:
    threads: set[str] = set()
    sizes: list[int] = []
    model = noting(threads, sizes)
    plain = fake_model(fake_config(pointer=False))
    wanted = synthesize(session(plain, LONG, seed=4)).samples
    owner = Scheduler(model.lm, clock=lambda: 0.0)  # everything is made in no time
    stream = SpeechStream(session(model, LONG, seed=4), owner, capacity=1000, in_time=in_time)
    np.testing.assert_array_equal(join(list(stream)).samples, wanted)
    assert AHEAD in threads
    if not in_time:
        assert max(sizes) == 4


@pytest.mark.parametrize(("workers", "cost"), [(1, 1.0), (2, 2.0)])
def test_what_runs_beside_costs_a_worker_where_there_are_several(workers: int, cost: float) -> None:
    """Else twice as many listeners as can be served would be admitted."""
    now = [0.0]

    def slow(original: Any, *args: Any) -> Any:
        made = original(*args)
        if threading.current_thread().name == AHEAD:
            now[0] += 1.0
        return made

    model = fake_model(fake_config(pointer=False), change=overlapping(slow))
    owner = Scheduler(model.lm, workers=workers, clock=lambda: now[0])
    one = session(model, LONG, seed=4)
    audio = join(list(SpeechStream(one, owner, capacity=1000, in_time=False)))
    passed = now[0] / audio.duration_s
    measured = owner.stats().cost
    assert measured is not None
    # all time that passed was beside audio, up to the last token of each chunk
    assert passed * (cost - 0.5) < measured <= passed * cost + 1e-9


def test_streams_side_by_side_leave_each_other_the_processors() -> None:
    both, seen = threading.Event(), set()

    def step(original: Any, *args: Any) -> Any:
        if threading.current_thread().name == AHEAD:
            seen.add(owner.stats().others)
        return original(*args)

    model = fake_model(fake_config(pointer=False), change=overlapping(step))
    owner = Scheduler(model.lm, max_batch=1)
    long, short = session(model, LONG, seed=1), session(model, TEXT, seed=2)
    original = long.advance

    def wait_for_both() -> Any:
        both.wait(20)
        return original()

    long.advance = wait_for_both  # type: ignore[method-assign]
    streams = [SpeechStream(one, owner, capacity=1000, in_time=False) for one in (long, short)]
    both.set()
    for stream in streams:
        list(stream)
    assert seen == {1}  # the long one, when the other was over


def test_sessions_outside_of_the_scheduler_count() -> None:
    model = fake_model()
    owner = Scheduler(model.lm)
    first, second = session(model), session(model)
    with owner.beside(first):
        assert first.spare_s is not None
        assert first.spare_s() == math.inf
        with owner.beside(second):
            assert second.spare_s is not None
            assert (first.spare_s(), second.spare_s()) == (0.0, 0.0)
        assert first.spare_s() == math.inf
