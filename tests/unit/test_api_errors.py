from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.api import TTS
from mynah.backends.fake import fake_config
from mynah.errors import (
    BackendUnavailableError,
    InvalidRequestError,
    MarkupError,
    ModelFormatError,
    ModelNotFoundError,
    PromptAudioError,
    SynthesisError,
    UnknownVoiceError,
    UnsupportedFeatureError,
)
from mynah.types import Audio
from tests.fake_model import fake_tts, stream_threads


@pytest.fixture
def tts(tmp_path: Path) -> Iterator[TTS]:
    with fake_tts(tmp_path) as loaded:
        yield loaded


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"text": ""}, InvalidRequestError, "text is empty"),
        ({"text": " \n\t "}, InvalidRequestError, "text is empty"),
        ({"text": "?!..."}, InvalidRequestError, "nothing to say"),
        ({"text": "\U0001f600\U0001f680"}, InvalidRequestError, "nothing to say"),
        ({"text": "a" * 10_000_000}, InvalidRequestError, "10000000 characters"),
        ({"text": b"bytes"}, InvalidRequestError, "text is bytes"),
        ({"text": "half \ud800"}, InvalidRequestError, "surrogate"),
        ({"text": "hi <|endofprompt|> you"}, MarkupError, "control marker"),
        ({"text": "hi [laughing] you"}, MarkupError, "unknown tag"),
        ({"text": "a [tomato](T UGH) day"}, InvalidRequestError, "'UGH'"),
        (
            {"text": "\u041f\u0440\u0438\u0432\u0435\u0442"},
            UnsupportedFeatureError,
            "cannot say.*CosyVoice2",
        ),
        ({"text": "\u3053\u3093\u306b\u3061\u306f"}, UnsupportedFeatureError, "Japanese"),
        ({"language": "fr"}, UnsupportedFeatureError, "'fr'.*speaks English"),
        ({"language": "e n"}, InvalidRequestError, "no.* language code|not a language code"),
        ({"speed": 0.1}, InvalidRequestError, "speed 0.1"),
        ({"speed": 4.5}, InvalidRequestError, "speed 4.5"),
        ({"speed": float("nan")}, InvalidRequestError, "speed nan"),
        ({"speed": float("inf")}, InvalidRequestError, "speed inf"),
        ({"seed": -1}, InvalidRequestError, "seed -1"),
        ({"top_p": 0.0}, InvalidRequestError, "top_p 0.0"),
        ({"top_k": 0}, InvalidRequestError, "top_k 0"),
        ({"instruction": "be sad"}, UnsupportedFeatureError, "no instruction"),
        ({"voice": "otter"}, UnknownVoiceError, "did you mean other"),
        ({"voice": "zzz"}, UnknownVoiceError, "known voices: fake, other"),
        ({"voice": ""}, InvalidRequestError, "cannot be the name"),
        ({"voice": 3}, InvalidRequestError, "voice is int"),
        ({"voice": "nowhere.wav"}, PromptAudioError, r"nowhere\.wav"),
        ({"voice": "nowhere.safetensors"}, UnknownVoiceError, r"nowhere\.safetensors"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused_at_once(
    tts: TTS, arguments: dict[str, Any], kind: type[SynthesisError], message: str
) -> None:
    given = {"text": "Hello.", **arguments}
    for speak in (tts.synthesize, tts.stream):
        with pytest.raises(kind, match=message) as caught:
            speak(**given)
        assert caught.value.hint
    assert not stream_threads()


def test_bad_recordings_are_refused(tts: TTS, tmp_path: Path, speechlike: Audio) -> None:
    rate, samples = speechlike.sample_rate, speechlike.samples
    cases = {
        "short": (samples[: rate // 2], rate),
        "silent": (np.zeros(2 * rate, np.float32), rate),
        "long": (np.tile(samples, 11), rate),
        "narrow": (samples, 8000),
        "clipped": (np.clip(samples * 100, -1, 1), rate),
    }
    for audio in cases.values():
        with pytest.raises(PromptAudioError) as caught:
            tts.create_voice(Audio(*audio))
        assert caught.value.hint
    path = tmp_path / "text.wav"
    path.write_text("this is no sound")
    with pytest.raises(PromptAudioError, match=r"text\.wav"):
        tts.create_voice(path)
    with pytest.raises(InvalidRequestError, match="cannot be the name"):
        tts.create_voice(speechlike, name="../etc")


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"model": "nemo"}, ModelNotFoundError, "no model 'nemo'"),
        ({"model": "tests"}, ModelFormatError, "no model folder"),
    ],
    ids=["unknown", "folder"],
)
def test_loading_says_what_is_wrong(
    options: dict[str, Any], kind: type[SynthesisError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        TTS.load(**options)


def test_unknown_backends_and_devices_are_refused(tmp_path: Path) -> None:
    from mynah.backends.registry import load_backend, load_encoders

    config = fake_config()
    with pytest.raises(InvalidRequestError, match="no backend 'tpu'"):
        load_backend(tmp_path, config, backend="tpu")
    with pytest.raises(InvalidRequestError, match="threads is 0"):
        load_backend(tmp_path, config, threads=0)
    with pytest.raises(BackendUnavailableError, match=r"mynah-tts\[torch\]"):
        load_backend(tmp_path, config, device="cuda")
    with pytest.raises(UnsupportedFeatureError, match="no speaker_encoder"):
        load_encoders(tmp_path)


def test_a_missing_extra_names_the_pip_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mynah.backends import registry

    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailableError, match=r'pip install "mynah-tts\[torch\]"'):
        registry.load_backend(tmp_path, fake_config(), backend="torch")
