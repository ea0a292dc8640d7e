"""Sessions of the torch backend that share the calls of flow and vocoder."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from mynah.backends.registry import build_torch_backend
from mynah.engine.channel import Channel
from mynah.engine.scheduler import Scheduler
from mynah.engine.stream import SpeechStream
from mynah.engine.task import Task
from mynah.engine.text import TextLine
from mynah.engine.together import is_rendering, lm_state, make_audio, make_tokens
from mynah.errors import BackendError, CancelledError, GenerationError
from mynah.pipeline.model import PreparedVoice, SpeechModel, prepare_voice
from mynah.pipeline.rendering import advance_many
from mynah.pipeline.session import Session
from mynah.pipeline.synthesizer import join, synthesize
from mynah.types import FloatArray, SynthesisRequest
from tests.fake_model import TEXT, breaking, fake_model, session
from tests.tiny_model import FAMILIES, tiny_voice
from tests.torch_model import torch_backend, torch_model

DRIFT = 5e-3
"""F0 is rounded in another way in a batch, and what it is wrong by adds up in the phase."""
LONG = "one long sentence of many words that nobody has to understand but that takes its time"
TEXTS = (LONG, "A few words. And more.", f"{LONG} and then goes on", f"{LONG}. {TEXT}")


class Clock:
    """Seconds that pass when they are told to, so that the order of steps is always the same."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Company:
    """Streams that begin together, because the first one's voice waits for the last one."""

    def __init__(self, model: SpeechModel, *, prepared: PreparedVoice | None = None) -> None:
        self.model, self.clock, self._gate = model, Clock(), threading.Event()
        self.owner = Scheduler(
            model.lm, render=partial(advance_many, model), max_render_batch=3, clock=self.clock
        )
        self.sessions: list[Session] = []
        self._prepared = prepared

    def speak(self, texts: Sequence[str] = TEXTS) -> list[FloatArray | BaseException]:
        """What became of each text."""
        self.sessions += [self.session(text, index) for index, text in enumerate(texts)]
        streams = [SpeechStream(one, self.owner, capacity=999) for one in self.sessions]
        self._gate.set()
        return [_heard(stream) for stream in streams]

    def session(self, text: str, seed: int) -> Session:
        voice = tiny_voice(self.model.config)

        def prepare() -> PreparedVoice:
            self._gate.wait(20)
            return self._prepared or prepare_voice(self.model, voice)

        return Session(self.model, SynthesisRequest(text=text, voice=voice, seed=seed), prepare)

    def alone(self, index: int) -> FloatArray:
        """The samples of a text that nobody shares anything with."""
        return synthesize(self.session(TEXTS[index], index)).samples


def _heard(stream: SpeechStream) -> FloatArray | BaseException:
    try:
        return join(list(stream)).samples
    except (GenerationError, BackendError, CancelledError) as error:
        return error


def assert_same(made: FloatArray | BaseException, wanted: FloatArray) -> None:
    assert isinstance(made, np.ndarray), made
    np.testing.assert_allclose(made, wanted, rtol=0, atol=DRIFT)


class Meddling:
    """Passes calls of the flow on, but does something at the first one for three streams."""

    def __init__(self, meddle: Any) -> None:
        self.done = False
        self._meddle = meddle

    def __call__(self, original: Any, x: Any, *rest: Any) -> Any:
        made = original(x, *rest)
        if len(x) < 3 or self.done:
            return made
        self.done = True
        changed = self._meddle(made)
        return made if changed is None else changed


@pytest.mark.parametrize("family", FAMILIES)
def test_many_at_once_equal_each_alone(family: str) -> None:
    company = Company(torch_model(family))
    for index, samples in enumerate(company.speak()):
        assert_same(samples, company.alone(index))
    batches = company.owner.stats().render_batches
    assert max(batches) > (1 if family == "cosyvoice1" else 2), batches  # its windows are long
    assert sum(size * count for size, count in batches.items()) > len(TEXTS)


def test_streams_share_one_voice_and_give_its_blocks_back() -> None:
    model = torch_model("cosyvoice2")
    prepared = prepare_voice(model, tiny_voice(model.config))
    pool = prepared.flow.velocity[0].past["past_attention"].pool
    held = pool.num_used
    company = Company(model, prepared=prepared)
    for index, samples in enumerate(company.speak()):
        assert_same(samples, company.alone(index))
    company.sessions.clear()
    assert pool.num_used == held


def test_one_who_leaves_in_the_middle_of_a_call_leaves_the_others_alone() -> None:
    def leave(made: Any) -> None:
        company.sessions[2].cancel()

    meddling = Meddling(leave)
    company = Company(torch_model("cosyvoice2", breaking("flow", "velocity_many", meddling)))
    made = company.speak()
    assert meddling.done
    assert isinstance(made[2], CancelledError)
    for index in (0, 1, 3):
        assert_same(made[index], company.alone(index))


def test_numbers_that_are_none_end_one_stream() -> None:
    def spoil(made: Any) -> Any:
        velocity = made[0].clone()
        velocity[-1] = np.nan
        return velocity, made[1]

    meddling = Meddling(spoil)
    company = Company(torch_model("cosyvoice3", breaking("flow", "velocity_many", meddling)))
    made = company.speak()
    failed = [index for index, one in enumerate(made) if isinstance(one, GenerationError)]
    assert len(failed) == 1
    for index in {0, 1, 2, 3} - set(failed):
        assert_same(made[index], company.alone(index))


def test_a_network_that_fails_ends_those_who_shared_the_call() -> None:
    def fail(made: Any) -> Any:
        raise BackendError("the card is gone")

    meddling = Meddling(fail)
    company = Company(torch_model("cosyvoice2", breaking("flow", "velocity_many", meddling)))
    made = company.speak()
    failed = [index for index, one in enumerate(made) if isinstance(one, BackendError)]
    assert len(failed) == 3
    for index in {0, 1, 2, 3} - set(failed):
        assert_same(made[index], company.alone(index))


def test_time_of_a_shared_call_is_counted_once() -> None:
    def tick(original: Any, x: Any, *rest: Any) -> Any:
        company.clock.seconds += 1.0
        return original(x, *rest)

    company = Company(torch_model("cosyvoice2", breaking("flow", "velocity_many", tick)))
    assert not any(isinstance(one, BaseException) for one in company.speak())
    assert company.clock.seconds > 0
    assert company.owner.stats().busy_s == company.clock.seconds


def _task(session: Session) -> Task:
    return Task(session, Channel(9), TextLine(), in_time=True, arrived=0.0)


def test_who_is_cancelled_after_it_was_chosen_takes_no_part() -> None:
    """Anybody may cancel at any time, also between the choice and the call."""
    model = fake_model()
    tasks = [_task(session(model, seed=seed)) for seed in range(2)]
    while not all(lm_state(task) for task in tasks):
        for task in tasks:
            task.session.advance()
    tasks[0].session.cancel()
    assert make_tokens(model.lm, tasks) == 1
    assert [task.session.num_tokens for task in tasks] == [0, 1]
    while not is_rendering(tasks[1]):
        tasks[1].session.advance()
    render = partial(advance_many, model)
    assert make_audio(render, tasks, lambda: 0.0) == 1
    assert make_audio(render, tasks[:1], lambda: 0.0) == 0
    assert not any(task.error for task in tasks)
    with pytest.raises(CancelledError):
        tasks[0].session.advance()


def test_a_processor_renders_one_stream_at_a_time() -> None:
    """Only where more rows take no longer calls are shared without being told to."""
    parts = torch_backend("nano")
    modules = {"lm": parts.lm._module, "flow": parts.flow._flow}  # type: ignore[attr-defined]
    modules["vocoder"] = parts.vocoder._vocoder  # type: ignore[attr-defined]
    device = next(modules["lm"].parameters()).device
    assert not build_torch_backend(modules, device).batches_rendering
