from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.api import TTS
from mynah.api import prepared as module
from mynah.api.prepared import PreparedVoices
from mynah.backends.fake import fake_voice
from mynah.pipeline.model import SpeechModel
from mynah.pipeline.session import Session
from mynah.pipeline.synthesizer import synthesize
from mynah.types import SynthesisRequest
from tests.fake_model import SHORT, breaking, fake_model


@pytest.fixture(autouse=True)
def _keep_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WORTH_KEEPING_S", 0.0)


def counted() -> tuple[SpeechModel, list[int]]:
    calls: list[int] = []

    def count(original: Any, tokens: Any, *args: Any) -> Any:
        calls.append(len(tokens))
        return original(tokens, *args)

    return fake_model(change=breaking("flow", "encode", count)), calls


def wait_for_writers() -> None:
    for thread in threading.enumerate():
        if thread.name == "mynah-keep":
            thread.join(20)


def speak(model: SpeechModel, store: PreparedVoices, name: str = "fake") -> np.ndarray:
    voice = fake_voice(model.config, name)
    request = SynthesisRequest(text=SHORT, voice=voice, mode="cross_lingual", seed=1)
    return synthesize(
        Session(model, request, lambda: store.get(model, voice, reads_recording=True))
    ).samples


def test_only_a_voice_that_was_not_ready_is_told() -> None:
    told: list[tuple[str, float]] = []
    store = PreparedVoices(on_call=lambda *call: told.append(call))
    model = fake_model()
    for name in ("fake", "fake", "other"):
        speak(model, store, name)
    assert [stage for stage, _ in told] == ["voice", "voice"]
    assert all(seconds >= 0 for _, seconds in told)


def test_a_voice_is_read_once_and_not_once_a_start(tmp_path: Path) -> None:
    model, calls = counted()
    first = speak(model, PreparedVoices(tmp_path))
    wait_for_writers()
    assert len(list(tmp_path.glob("*.prefix"))) == 1
    made = len(calls)
    again = speak(model, PreparedVoices(tmp_path))
    np.testing.assert_array_equal(first, again)
    assert len(calls) - made < made


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    model, _ = counted()
    first = speak(model, PreparedVoices(tmp_path))
    wait_for_writers()
    for path in tmp_path.glob("*.prefix"):
        path.write_bytes(path.read_bytes()[:50])
    np.testing.assert_array_equal(first, speak(model, PreparedVoices(tmp_path)))


def test_only_the_last_voices_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 2)
    model, _ = counted()
    store = PreparedVoices(tmp_path)
    for name in ("one", "two", "three"):
        speak(model, store, name)
        wait_for_writers()
    assert len(list(tmp_path.glob("*.prefix"))) == 2


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    model, _ = counted()
    (tmp_path / "file").write_text("")
    assert speak(model, PreparedVoices(tmp_path / "file" / "below")).size
    wait_for_writers()


def test_nothing_is_kept_without_a_folder(tmp_path: Path) -> None:
    model, _ = counted()
    assert speak(model, PreparedVoices()).size
    assert not list(tmp_path.iterdir())
    assert TTS.load().prepared_voices is not None
