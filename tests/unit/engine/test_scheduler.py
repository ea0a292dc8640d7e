from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.api import TTS
from mynah.engine.admission import Admission, Limits
from mynah.engine.channel import Channel
from mynah.engine.scheduler import Scheduler
from mynah.engine.stream import SpeechStream
from mynah.engine.task import FIRST_AUDIO_GOAL_S, Outcome, Place, Task
from mynah.engine.text import TextLine
from mynah.errors import (
    BackendError,
    CancelledError,
    GenerationError,
    InvalidRequestError,
    OutOfMemoryError,
    OverloadedError,
)
from mynah.pipeline.model import SpeechModel
from mynah.pipeline.synthesizer import join, synthesize
from tests.fake_model import SHORT, TEXT, breaking, fake_model, fake_tts, session, stream_threads


def scheduler(model: SpeechModel, **options: Any) -> Scheduler:
    return Scheduler(model.lm, **options)


def speak(owner: Scheduler, model: SpeechModel, text: str = TEXT, **options: Any) -> SpeechStream:
    stream_options = {key: options.pop(key) for key in ("capacity", "in_time") if key in options}
    return SpeechStream(session(model, text, **options), owner, **stream_options)


@pytest.mark.parametrize(("workers", "max_batch"), [(1, 1), (1, 3), (1, 8), (2, 1), (3, 4)])
def test_many_at_once_equal_each_alone(workers: int, max_batch: int) -> None:
    """N parallel requests give the same samples as N serial ones, batched or not."""
    model = fake_model()
    texts = [TEXT, SHORT, TEXT + TEXT, "One more sentence here.", SHORT, TEXT]
    wanted = [synthesize(session(model, text, seed=i)).samples for i, text in enumerate(texts)]
    owner = scheduler(model, workers=workers, max_batch=max_batch)
    streams = [speak(owner, model, text, seed=i) for i, text in enumerate(texts)]
    for stream, samples in zip(streams, wanted, strict=True):
        np.testing.assert_array_equal(join(list(stream)).samples, samples)
    assert owner.stats().num_tokens > 0


def test_sessions_share_calls_of_the_language_model() -> None:
    sizes: list[int] = []

    def count(original: Any, tokens: Any, *args: Any) -> Any:
        sizes.append(len(tokens))
        return original(tokens, *args)

    model = fake_model(change=breaking("lm", "step", count))
    owner = scheduler(model, workers=1, max_batch=3)
    gate = threading.Event()
    held = replace(model, reader=model.reader)
    blocker = session(held, SHORT)
    original = blocker.advance

    def wait_first() -> Any:
        gate.wait(20)
        return original()

    blocker.advance = wait_first  # type: ignore[method-assign]
    first = SpeechStream(blocker, owner)
    streams = [speak(owner, model, seed=i) for i in range(5)]
    gate.set()
    for stream in [first, *streams]:
        assert list(stream)
    assert max(sizes) == 3
    assert max(owner.stats().batches) == 3


def test_one_failing_session_leaves_the_others_of_its_batch_alone() -> None:
    """A network's bad scores end their own session, not those that shared the call."""

    def spoil(original: Any, tokens: Any, states: Any, *args: Any) -> Any:
        scores = original(tokens, states, *args)
        if len(tokens) > 1:
            scores = np.array(scores)
            scores[-1] = np.nan
        return scores

    model = fake_model(change=breaking("lm", "step", spoil))
    owner = scheduler(model, workers=1, max_batch=4)
    streams = [speak(owner, model, TEXT * 3, seed=i) for i in range(3)]
    ended = []
    for stream in streams:
        try:
            list(stream)
            ended.append("finished")
        except GenerationError:
            ended.append("failed")
    assert ended.count("finished") >= 1
    assert not owner._tasks


def test_the_listener_who_runs_dry_first_goes_first() -> None:
    def task(in_time: bool, arrived: float, first: float | None, audio_s: float) -> Task:
        made = Task(None, Channel(1), TextLine(), in_time=in_time, arrived=arrived)  # type: ignore[arg-type]
        made.first_audio, made.audio_s = first, audio_s
        return made

    waiting = task(True, 10.0, None, 0.0)
    ahead = task(True, 5.0, 6.0, 8.0)
    nearly_dry = task(True, 5.0, 9.0, 1.1)
    a_file = task(False, 0.0, None, 0.0)
    order = sorted([ahead, a_file, waiting, nearly_dry], key=lambda one: one.dry_at)
    assert order == [nearly_dry, waiting, ahead, a_file]
    assert waiting.dry_at == 10.0 + FIRST_AUDIO_GOAL_S


def test_a_full_listener_holds_nobody_else() -> None:
    model = fake_model()
    owner = scheduler(model, workers=1)
    slow = speak(owner, model, TEXT * 20, capacity=1)
    quick = speak(owner, model, TEXT, seed=4)
    assert join(list(quick)).samples.size
    assert owner._tasks[0].place is Place.FULL
    wanted = synthesize(session(model, TEXT * 20)).samples
    np.testing.assert_array_equal(join(list(slow)).samples, wanted)


def test_a_session_without_text_waits_without_a_worker_spinning(tmp_path: Path) -> None:
    tts = fake_tts(tmp_path)
    stream = tts.open_stream(seed=3)
    other = tts.synthesize(TEXT, seed=3)
    assert join(list(tts.stream(TEXT, seed=3))).samples.size == other.samples.size
    stream.feed(TEXT[:30])
    stream.feed(TEXT[30:])
    stream.end_text()
    assert join(list(stream)).samples.size
    assert not [thread for thread in stream_threads() if not _ends(thread)]


def _ends(thread: threading.Thread) -> bool:
    thread.join(20)
    return not thread.is_alive()


def test_cancelling_while_waiting_for_text_or_a_listener() -> None:
    model = fake_model()
    owner = scheduler(model)
    full = speak(owner, model, TEXT * 20, capacity=1)
    next(full)
    full.close()
    assert owner.stats().listeners == 0


def test_an_outcome_is_told_for_every_request() -> None:
    told: list[Outcome] = []
    model = fake_model()
    owner = scheduler(model)
    owner.on_outcome = told.append
    assert list(speak(owner, model))
    left = speak(owner, model, TEXT * 50)
    next(left)
    left.close()
    broken = fake_model(change=breaking("vocoder", "decode", _fail))
    with pytest.raises(BackendError):
        list(speak(owner, broken))
    for thread in stream_threads():
        thread.join(20)
    assert [outcome.status for outcome in told] == ["finished", "cancelled", "failed"]
    assert told[2].error_code == "backend"
    assert told[0].audio_s > 0
    assert told[0].first_audio_s is not None
    assert told[0].num_tokens > 0


def _fail(original: Any, *args: Any) -> Any:
    raise BackendError("gone")


@pytest.mark.parametrize(
    "said",
    [
        MemoryError(),
        BackendError("running flow failed: Failed to allocate memory for requested buffer"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
    ids=["python", "onnx", "torch"],
)
def test_running_out_of_memory_fails_one_request_and_serves_the_next(said: Exception) -> None:
    calls = 0

    def exhausted(original: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise said
        return original(*args)

    model = fake_model(change=breaking("vocoder", "decode", exhausted))
    owner = scheduler(model)
    with pytest.raises(OutOfMemoryError, match="memory"):
        list(speak(owner, model, TEXT * 3))
    assert list(speak(owner, model))


def test_closing_wakes_everybody() -> None:
    model = fake_model()
    owner = scheduler(model)
    streams = [speak(owner, model, TEXT * 20, capacity=1) for _ in range(3)]
    owner.close()
    owner.close()
    for stream in streams:
        with pytest.raises(CancelledError):
            list(stream)
    with pytest.raises(CancelledError, match="closed"):
        speak(owner, model)


def test_more_than_can_be_served_in_time_is_refused_at_once() -> None:
    model = fake_model()
    owner = scheduler(model, limits=Limits(max_listeners=2, max_others=1))
    kept = [speak(owner, model, TEXT * 20, capacity=1) for _ in range(1)]
    kept.append(speak(owner, model, TEXT * 20, capacity=1, in_time=False))
    with pytest.raises(OverloadedError) as caught:
        speak(owner, model, in_time=False)
    assert caught.value.retry_after_s >= 1.0
    assert caught.value.hint
    stats = owner.stats()
    assert (stats.listeners, stats.others, stats.num_refused) == (1, 1, 1)
    for stream in kept:
        stream.close()
    assert list(speak(owner, model, in_time=False))


def test_capacity_follows_what_is_measured() -> None:
    admission = Admission(Limits(headroom=0.8), workers=2)
    assert admission.capacity == 2
    admission.measure(busy_s=1.0, audio_s=10.0)
    assert admission.capacity == 16
    for _ in range(60):
        admission.measure(busy_s=8.0, audio_s=10.0)
    assert admission.capacity == 2
    admission.measure(busy_s=1.0, audio_s=0.0)
    assert admission.cost == pytest.approx(0.8, rel=0.01)
    with pytest.raises(OverloadedError, match="2 requests"):
        admission.check(2, 0, in_time=True, soonest_end_s=3.0)
    admission.check(2, 0, in_time=False, soonest_end_s=3.0)


@pytest.mark.parametrize("values", [{"max_listeners": 0}, {"max_others": -1}, {"headroom": 0.0}])
def test_limits_are_checked(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        Limits(**values)


def test_a_library_takes_everything_on(tmp_path: Path) -> None:
    tts: TTS = fake_tts(tmp_path)
    streams = [tts.stream(SHORT, seed=1) for _ in range(30)]
    assert tts.engine.limits is None
    assert all(list(stream) for stream in streams)


def test_who_has_enough_in_reserve_leaves_the_machine_to_a_newcomer() -> None:
    """One of two workers stays idle while the other makes somebody's first audio."""
    model, now, advanced_at = fake_model(), [0.0], list[float]()
    owner = scheduler(model, workers=2, clock=lambda: now[0])
    early, late = session(model, TEXT * 10), session(model, SHORT)
    advance_early, advance_late = early.advance, late.advance
    begun, gate = threading.Event(), threading.Event()

    def noted() -> Any:
        advanced_at.append(now[0])
        return advance_early()

    def held() -> Any:
        begun.set()
        gate.wait(20)
        return advance_late()

    early.advance, late.advance = noted, held  # type: ignore[method-assign]
    first = SpeechStream(early, owner, capacity=4)
    heard = next(first).audio.duration_s + next(first).audio.duration_s
    second = SpeechStream(late, owner)
    assert begun.wait(20)
    reserve = model.config.sample_rate  # a second
    # what is taken is made anew, until there is enough
    while early.num_samples <= reserve or owner.stats().ready == 0:
        heard += next(first).audio.duration_s
    advanced_at.clear()
    synthesize(session(model, TEXT))  # time in which the idle worker could have gone on
    assert advanced_at == []
    now[0] = heard + 100.0  # its listener has nothing left
    gate.set()
    with first:
        for _ in range(6):  # more than were made ahead
            next(first)
        assert list(second)
        assert set(advanced_at) == {now[0]}
