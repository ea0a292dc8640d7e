from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.errors import (
    InvalidRequestError,
    OutputError,
    UnknownVoiceError,
    UnsupportedFeatureError,
)
from mynah.hub import ModelFolder
from mynah.pipeline.voice_store import VoiceStore
from mynah.pipeline.voices import save_voice
from mynah.types import Audio, Voice
from tests.unit.test_types import make_voice


@pytest.fixture
def store(tmp_path: Path) -> VoiceStore:
    (tmp_path / "model").mkdir()
    save_voice(make_voice(name="kathleen"), tmp_path / "model" / "kathleen.safetensors")
    return VoiceStore(tmp_path / "user", tmp_path / "model", "nano-1")


def test_voices_are_added_listed_and_removed(store: VoiceStore) -> None:
    assert store.names() == ["kathleen"]
    path = store.add(make_voice())
    assert path == store.user_path / "anna.safetensors"
    assert [(info.name, info.builtin) for info in store.describe()] == [
        ("anna", False),
        ("kathleen", True),
    ]
    assert store.load("anna").name == "anna"
    store.remove("anna")
    assert store.names() == ["kathleen"]


def test_the_closest_name_is_suggested(store: VoiceStore) -> None:
    with pytest.raises(UnknownVoiceError, match="no voice 'Kathlen'") as caught:
        store.load("Kathlen")
    assert caught.value.hint == "did you mean kathleen? known voices: kathleen"
    with pytest.raises(UnknownVoiceError, match="known voices: kathleen"):
        store.remove("zzz")


@pytest.mark.parametrize("name", ["../kathleen", "/etc/passwd", "a/b", ""])
def test_names_are_never_paths(store: VoiceStore, name: str) -> None:
    for action in (store.load, store.show, store.remove):
        with pytest.raises(InvalidRequestError, match="cannot be the name"):
            action(name)


def test_names_are_taken_once(store: VoiceStore) -> None:
    store.add(make_voice(transcript="first"))
    with pytest.raises(InvalidRequestError, match="already is a voice 'anna'"):
        store.add(make_voice())
    store.add(make_voice(transcript="second"), overwrite=True)
    assert store.show("anna").transcript == "second"
    with pytest.raises(InvalidRequestError, match="comes with the model"):
        store.add(make_voice(name="kathleen"), overwrite=True)
    with pytest.raises(InvalidRequestError, match="cannot be removed"):
        store.remove("kathleen")


def test_voices_travel(store: VoiceStore, tmp_path: Path) -> None:
    path = store.export("kathleen", tmp_path)
    assert path == tmp_path / "kathleen.safetensors"
    with pytest.raises(InvalidRequestError, match="already exists"):
        store.export("kathleen", path)
    store.export("kathleen", path, overwrite=True)
    assert store.import_file(path, "copy").name == "copy"
    assert store.load("copy").name == "copy"
    with pytest.raises(InvalidRequestError, match="comes with the model"):
        store.import_file(path)
    with pytest.raises(InvalidRequestError, match="cannot be the name"):
        store.import_file(path, "a/b")


def test_other_models_voices_are_shown_but_not_used(store: VoiceStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="this store is for nano-1"):
        store.add(make_voice(model_id="other"))
    path = save_voice(make_voice(model_id="other"), tmp_path / "other.safetensors")
    with pytest.raises(UnsupportedFeatureError, match="made with the model other"):
        store.import_file(path)
    store.user_path.mkdir()
    path.rename(store.user_path / "other.safetensors")
    assert "made with the model other" in store.show("other").problem
    with pytest.raises(UnsupportedFeatureError, match="cannot speak with nano-1"):
        store.load("other")


def recorded(**changes: Any) -> Voice:
    rng = np.random.default_rng(0)
    samples = (rng.integers(-3000, 3000, 24000) / 32768).astype(np.float32)
    return make_voice(recording=Audio(samples, 24000), **changes)


class Remaker:
    """Makes voices of ``nano-1`` and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, voice: Voice) -> Voice:
        self.calls += 1
        return replace(voice, model_id="nano-1", speech_tokens=voice.speech_tokens + 1)


def test_a_recording_makes_a_voice_usable_by_other_models(store: VoiceStore) -> None:
    remake = Remaker()
    store = replace(store, remake=remake)
    foreign = recorded(model_id="other", transcript="some words")
    store.add(foreign)
    info = store.show("anna")
    assert (info.problem, info.model_id, info.has_recording) == ("", "other", True)
    voices = [store.load("anna"), store.load("anna"), store.adapt(foreign)]
    assert remake.calls == 1, "it was not kept beside the others"
    for voice in voices:
        assert (voice.name, voice.model_id, voice.transcript) == ("anna", "nano-1", "some words")
        np.testing.assert_array_equal(voice.speech_tokens, foreign.speech_tokens + 1)
        assert voice.recording is not None
    assert store.names() == ["anna", "kathleen"]
    store.add(replace(foreign, transcript="other words"), overwrite=True)
    assert store.load("anna").transcript == "other words"
    assert remake.calls == 2, "it was made of what is no longer there"
    own = make_voice(name="own")
    assert store.adapt(own) is own


def test_without_encoders_a_recording_is_no_help(store: VoiceStore) -> None:
    store.add(recorded(model_id="other"))
    with pytest.raises(UnsupportedFeatureError, match="made with the model other"):
        store.load("anna")


def test_a_copy_that_cannot_be_kept_or_read_is_made_again(store: VoiceStore) -> None:
    remake = Remaker()
    store = replace(store, remake=remake)
    foreign = recorded(model_id="other")
    store.adapt(foreign)
    (kept,) = (store.user_path / ".remade").iterdir()
    kept.write_bytes(b"bad")
    store.adapt(foreign)
    assert remake.calls == 2
    blocked = replace(store, user_path=kept)
    blocked.adapt(foreign)
    assert remake.calls == 3


def test_damaged_voices_do_not_hide_the_others(store: VoiceStore) -> None:
    store.add(make_voice())
    (store.user_path / "bad.safetensors").write_bytes(b"bad")
    (store.user_path / ".hidden.safetensors").write_bytes(b"bad")
    (store.user_path / "notes.txt").write_text("mine")
    problems = {info.name: bool(info.problem) for info in store.describe()}
    assert problems == {"anna": False, "bad": True, "kathleen": False}
    store.remove("bad")


def test_an_unwritable_home_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = VoiceStore(tmp_path / "file" / "voices")
    assert store.names() == []
    with pytest.raises(OutputError, match="cannot write"):
        store.add(make_voice())


def test_a_model_opens_its_store(tmp_path: Path, mynah_home: Path) -> None:
    store = VoiceStore.for_model(ModelFolder("nano", tmp_path, {}), "nano-1")
    store.add(make_voice())
    assert os.listdir(mynah_home / "voices") == ["anna.safetensors"]
    assert store.builtin_path == tmp_path / "voices"
