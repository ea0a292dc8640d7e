"""Timed networks do what the networks do, and tell how long it took."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mynah.backends.timed import timed
from mynah.pipeline.session import Session
from mynah.pipeline.synthesizer import synthesize
from mynah.types import SynthesisRequest
from tests.fake_model import TEXT, fake_model, fake_tts


def test_the_same_samples_and_every_stage_is_told(tmp_path: Path) -> None:
    with fake_tts(tmp_path) as tts:
        voice = tts.voices.load("fake")
    model = fake_model()
    calls: dict[str, list[float]] = {}
    backend = timed(
        model.backend, lambda stage, seconds: calls.setdefault(stage, []).append(seconds)
    )
    watched = type(model)(model.config, backend, model.reader, model.noise)
    request = SynthesisRequest(text=TEXT, voice=voice, seed=1)
    one, other = (synthesize(Session(each, request)) for each in (model, watched))
    assert np.array_equal(one.samples, other.samples)
    assert set(calls) == {"lm", "flow", "vocoder"}
    assert all(seconds >= 0 for stage in calls.values() for seconds in stage)


def test_a_call_that_fails_is_told_too() -> None:
    now = iter(range(10))
    calls: list[tuple[str, float]] = []
    backend = timed(fake_model().backend, lambda *call: calls.append(call), lambda: next(now))
    with pytest.raises(TypeError):
        backend.lm.step()  # type: ignore[call-arg]  # that is the point
    assert calls == [("lm", 1)]
    assert backend.name == fake_model().backend.name
