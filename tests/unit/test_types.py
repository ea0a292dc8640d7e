from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from mynah.errors import InvalidRequestError
from mynah.types import (
    MAX_TEXT_CHARACTERS,
    Audio,
    AudioChunk,
    SynthesisRequest,
    Voice,
    check_voice_name,
)


def make_voice(**changes: Any) -> Voice:
    values: dict[str, Any] = {
        "name": "anna",
        "model_id": "nano-1",
        "speech_tokens": np.arange(25),
        "mel": np.zeros((50, 80), np.float32),
        "speaker_embedding": np.ones(192, np.float32),
    }
    return Voice(**{**values, **changes})


def test_audio_knows_its_length() -> None:
    audio = Audio(np.zeros(12000, np.float64), 24000)
    assert audio.samples.dtype == np.float32
    assert audio.duration_s == 0.5
    assert len(audio) == 12000
    assert "samples" not in repr(audio)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros((2, 100), np.float32), 24000, r"shape \(2, 100\)"),
        (np.array([0.0, np.nan], np.float32), 24000, "1 values that are NaN"),
        (np.zeros(4, np.int16), 24000, "int16"),
        (np.zeros(4, np.float32), 0, "0 Hz"),
    ],
    ids=["stereo", "nan", "integers", "rate"],
)
def test_audio_refuses(samples: Any, rate: int, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as caught:
        Audio(samples, rate)
    assert caught.value.hint


def test_values_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        make_voice().name = "other"  # type: ignore[misc]  # the point of the test


def test_chunks_count_from_zero() -> None:
    audio = Audio(np.zeros(0, np.float32), 24000)
    assert AudioChunk(audio, 0, 0.0, is_last=True).is_last
    with pytest.raises(InvalidRequestError, match="chunk -1"):
        AudioChunk(audio, -1, 0.0)
    with pytest.raises(InvalidRequestError, match="nan s"):
        AudioChunk(audio, 0, float("nan"))


def test_a_voice_may_have_only_a_speaker_vector() -> None:
    voice = make_voice(speech_tokens=np.zeros(0, np.int64), mel=np.zeros((0, 80), np.float32))
    assert voice.speech_tokens.dtype == np.int64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mel": np.zeros((0, 80), np.float32)}, r"\(0, 80\) beside 25 speech tokens"),
        ({"mel": np.zeros(50, np.float32)}, r"\(50,\) beside 25 speech tokens"),
        ({"mel": np.full((50, 80), np.inf, np.float32)}, "4000 values"),
        ({"speech_tokens": np.zeros((5, 5), np.int64)}, r"int64 \(5, 5\)"),
        ({"speech_tokens": np.zeros(25, np.float32)}, "float32"),
        ({"speech_tokens": np.full(25, -1)}, "hold -1"),
        ({"speaker_embedding": np.ones((1, 192), np.float32)}, r"\(1, 192\)"),
        ({"speaker_embedding": np.zeros(192, np.float32)}, "not all zero"),
        ({"model_id": ""}, "no model id"),
        ({"language": "english please"}, "not a language code"),
        ({"name": "../etc/passwd"}, "cannot be the name"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_voice_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as caught:
        make_voice(**changes)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["anna", "Anna_2", "老王", "x" * 64])
def test_good_voice_names(name: str) -> None:
    assert check_voice_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "a b", "a.b", "-a", "x" * 65, "CON", "a\n", "a\0", None]
)
def test_bad_voice_names(name: Any) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be the name"):
        check_voice_name(name)


def test_numbers_of_numpy_are_numbers() -> None:
    request = SynthesisRequest(
        text="Hello.",
        voice=make_voice(),
        seed=np.int64(7),  # type: ignore[arg-type]  # the point of the test
        speed=np.float32(1.5),  # type: ignore[arg-type]
        top_k=np.int32(3),  # type: ignore[arg-type]
        top_p=np.float64(0.5),
    )
    assert type(request.seed) is int
    assert (request.seed, request.speed, request.top_k, request.top_p) == (7, 1.5, 3, 0.5)


def test_a_text_may_come_later() -> None:
    assert SynthesisRequest(text=None, voice=make_voice()).text is None


def test_request_defaults() -> None:
    request = SynthesisRequest(text="Hello.", voice=make_voice())
    assert (request.speed, request.seed, request.instruction) == (1.0, 0, None)
    assert replace(request, speed=2).speed == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": "  \n"}, "text is empty"),
        ({"text": "a" * (MAX_TEXT_CHARACTERS + 1)}, "1000001 characters, the limit is 1000000"),
        ({"text": b"hi"}, "text is bytes"),
        ({"text": "a\ud800"}, "position 1"),
        ({"voice": "anna"}, "voice is str"),
        ({"instruction": ""}, "instruction is empty"),
        ({"emotion": " "}, "emotion is empty"),
        ({"mode": "instruct2"}, "no mode 'instruct2'"),
        ({"mode": "instruct"}, "needs something to follow"),
        ({"mode": "sft", "instruction": "sadly"}, "the mode sft takes no instruction"),
        ({"mode": "zero_shot", "dialect": "yue"}, "the mode zero_shot takes no instruction"),
        ({"instruction": "sadly", "emotion": "sad"}, "cannot be mixed"),
        ({"language": "e"}, "not a language code"),
        ({"speed": 5.0}, "speed 5.0"),
        ({"speed": float("nan")}, "speed nan"),
        ({"speed": "fast"}, "speed 'fast'"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 1.5}, "seed 1.5"),
        ({"top_p": 0.0}, "top_p 0.0"),
        ({"top_k": 0}, "top_k 0"),
        ({"top_k": "many"}, "top_k 'many'"),
        ({"top_k": 1.5}, "top_k 1.5"),
        ({"top_p": "most"}, "top_p 'most'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_request_refuses(changes: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {"text": "Hello.", "voice": make_voice(), **changes}
    with pytest.raises(InvalidRequestError, match=message) as caught:
        SynthesisRequest(**values)
    assert caught.value.hint
