"""Requests that may not take for ever: those that run, and those that wait for something."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.api import TTS
from mynah.engine.deadline import Deadline
from mynah.engine.scheduler import Scheduler
from mynah.engine.stream import SpeechStream
from mynah.engine.task import Outcome
from mynah.errors import DeadlineError, InvalidRequestError
from mynah.pipeline.model import SpeechModel
from mynah.pipeline.synthesizer import join, synthesize
from mynah.types import Audio, AudioChunk
from tests.fake_model import SHORT, TEXT, breaking, fake_model, fake_tts, session, stream_threads

SOON_S = 0.05
LONG = TEXT * 4


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class Timed:
    """A model whose vocoder takes a second of the clock for each call."""

    def __init__(self) -> None:
        self.clock = Clock()

        def decode(original: Any, *args: Any) -> Any:
            self.clock.seconds += 1.0
            return original(*args)

        self.model = fake_model(change=breaking("vocoder", "decode", decode))

    def stream(self, owner: Scheduler, timeout_s: float, **options: Any) -> SpeechStream:
        deadline = Deadline.after(timeout_s, owner.now)
        return SpeechStream(session(self.model, LONG), owner, deadline=deadline, **options)


def take(stream: SpeechStream) -> list[AudioChunk]:
    """The chunks of a stream that ends too late."""
    chunks: list[AudioChunk] = []
    with pytest.raises(DeadlineError) as caught:
        collect_into(chunks, stream)
    assert caught.value.hint
    return chunks


def collect_into(chunks: list[AudioChunk], stream: SpeechStream) -> None:
    for chunk in stream:
        chunks.append(chunk)


@pytest.fixture
def tts(tmp_path: Path) -> Iterator[TTS]:
    with fake_tts(tmp_path) as loaded:
        yield loaded
    assert not stream_threads()


def test_a_late_request_ends_after_the_audio_made_so_far() -> None:
    timed, told = Timed(), list[Outcome]()
    owner = Scheduler(timed.model.lm, clock=timed.clock)
    owner.on_outcome = told.append
    chunks = take(timed.stream(owner, 4.5, capacity=1000))
    whole = synthesize(session(timed.model, LONG)).samples
    made = join(chunks).samples
    assert 0 < len(made) < len(whole)
    np.testing.assert_array_equal(made, whole[: len(made)])
    for thread in stream_threads():
        thread.join(20)
    assert [(outcome.status, outcome.error_code) for outcome in told] == [("failed", "deadline")]


def test_a_request_that_is_in_time_is_left_alone() -> None:
    timed = Timed()
    owner = Scheduler(timed.model.lm, clock=timed.clock)
    whole = synthesize(session(timed.model, LONG)).samples
    stream = timed.stream(owner, 10_000.0, capacity=1000)
    np.testing.assert_array_equal(join(list(stream)).samples, whole)


def test_a_finished_request_can_be_heard_after_its_deadline() -> None:
    timed = Timed()
    owner = Scheduler(timed.model.lm, clock=timed.clock)
    stream = timed.stream(owner, 10_000.0, capacity=1000)
    assert stream._over.wait(60)
    timed.clock.seconds += 20_000.0
    assert list(stream)[-1].is_last


def test_late_ones_end_while_others_are_served() -> None:
    timed = Timed()
    owner = Scheduler(timed.model.lm, clock=timed.clock, max_batch=1)
    late = timed.stream(owner, 1.5, capacity=1000)
    other = SpeechStream(session(timed.model, TEXT), owner)
    assert list(other)[-1].is_last
    take(late)


def test_waiting_for_text_ends(tts: TTS) -> None:
    stream = tts.open_stream(timeout_s=SOON_S)
    stream.feed("The beginning")
    assert take(stream) == []
    assert not _feeds(stream)


def _feeds(stream: SpeechStream) -> bool:
    return stream._line.put("more")


def test_waiting_for_a_listener_ends() -> None:
    model: SpeechModel = fake_model()
    owner = Scheduler(model.lm)
    deadline = Deadline.after(SOON_S, owner.now)
    stream = SpeechStream(session(model, LONG), owner, capacity=1, deadline=deadline)
    assert stream._over.wait(20)
    assert len(take(stream)) <= 1
    assert not owner._tasks


def test_waiting_in_the_queue_ends() -> None:
    """Who has no worker because another one is in a network gets its turn too late."""
    gate, timed = threading.Event(), Timed()
    owner = Scheduler(timed.model.lm, clock=timed.clock)
    blocker = session(timed.model, SHORT)
    original = blocker.advance

    def wait() -> Any:
        gate.wait(20)
        return original()

    blocker.advance = wait  # type: ignore[method-assign]
    first = SpeechStream(blocker, owner)
    queued = timed.stream(owner, 5.0)
    timed.clock.seconds += 6.0
    gate.set()
    assert take(queued) == []
    assert list(first)[-1].is_last


def test_a_source_that_hangs_ends_in_every_way_to_speak(tts: TTS) -> None:
    gate = threading.Event()

    def hang() -> Iterator[str]:
        yield TEXT
        gate.wait(20)

    with pytest.raises(DeadlineError):
        tts.synthesize(hang(), timeout_s=SOON_S)
    with pytest.raises(DeadlineError):
        asyncio.run(tts.asynthesize(hang(), timeout_s=SOON_S))
    take(tts.stream(hang(), timeout_s=SOON_S))
    gate.set()


def test_synthesize_keeps_what_was_made(tmp_path: Path) -> None:
    timed = Timed()
    with fake_tts(tmp_path, timed.model) as tts:
        tts.engine._clock = timed.clock
        with pytest.raises(DeadlineError, match=r"within 3\.5 s") as caught:
            tts.synthesize(LONG, seed=1, timeout_s=3.5)
        whole = tts.synthesize(LONG, seed=1, timeout_s=1e6)
    kept = caught.value.audio
    assert isinstance(kept, Audio)
    assert kept.seed == 1
    np.testing.assert_array_equal(kept.samples, whole.samples[: len(kept)])


@pytest.mark.parametrize("wrong", [0, -1.0, math.nan, math.inf, "5", True])
def test_what_is_no_time_is_refused(tts: TTS, wrong: Any) -> None:
    for speak in (tts.synthesize, tts.stream):
        with pytest.raises(InvalidRequestError, match="timeout_s") as caught:
            speak(SHORT, timeout_s=wrong)
        assert caught.value.hint
