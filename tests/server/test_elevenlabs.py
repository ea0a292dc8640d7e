"""ElevenLabs' API, by its own Python SDK and by bare requests."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
import httpx
import numpy as np
import pytest
from elevenlabs import VoiceSettings
from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError

from mynah.api import TTS
from mynah.server.elevenlabs import OUTPUT_FORMATS
from tests.fake_model import TEXT, fake_tts
from tests.server.conftest import LiveServer
from tests.server.loops import Engine
from tests.server.sockets import served

LONG = "This goes on for quite a while, with many words in it. " * 60
_MAGIC = {"wav": b"RIFF", "opus": b"OggS"}
_RAW_BYTES = {"pcm": 2, "ulaw": 1, "alaw": 1}


@pytest.fixture(scope="module")
def tts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TTS]:
    with fake_tts(tmp_path_factory.mktemp("voices")) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def server(tts: TTS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    data = tmp_path_factory.mktemp("data")
    aliases = {"21m00Tcm4TlvDq8ikWAM": "other"}
    with served(tts, data_dir=data, max_text_characters=5000, voice_aliases=aliases) as running:
        yield running


@pytest.fixture(scope="module")
def sdk(server: LiveServer) -> Iterator[ElevenLabs]:
    with sdk_of(server) as client:
        yield client


@contextmanager
def sdk_of(server: LiveServer, key: str = "anything") -> Iterator[ElevenLabs]:
    with httpx.Client(trust_env=False, timeout=60) as http:
        yield ElevenLabs(api_key=key, base_url=server.url, httpx_client=http)


@pytest.fixture
def http(server: LiveServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def seconds(data: bytes, output_format: str) -> float:
    codec, rate = output_format.split("_")[:2]
    if codec in _RAW_BYTES:
        return len(data) / _RAW_BYTES[codec] / int(rate)
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(audio=0))
        assert {frame.sample_rate for frame in frames} == {int(rate)}
        return sum(frame.samples / frame.sample_rate for frame in frames)


@pytest.mark.parametrize("output_format", OUTPUT_FORMATS)
def test_every_format_is_what_it_says(
    sdk: ElevenLabs, server: LiveServer, tts: TTS, output_format: Any
) -> None:
    pieces = list(sdk.text_to_speech.stream("fake", text=TEXT, output_format=output_format, seed=3))
    data = b"".join(pieces)
    wanted_s = tts.synthesize(TEXT, "fake", seed=3).duration_s
    assert seconds(data, output_format) == pytest.approx(wanted_s, abs=0.15)
    magic = _MAGIC.get(output_format.split("_")[0])
    if magic:
        assert data.startswith(magic)
        assert data.count(b"OpusHead") <= 1


def test_convert_gives_the_samples_of_the_engine(sdk: ElevenLabs, tts: TTS) -> None:
    settings = VoiceSettings(stability=0.3, similarity_boost=1.0, style=0.2, speed=1.2)
    data = b"".join(
        sdk.text_to_speech.convert(
            "fake",
            text=TEXT,
            model_id="eleven_multilingual_v2",
            output_format="pcm_24000",
            voice_settings=settings,
            seed=4,
            language_code="en",
            previous_text="Before.",
            apply_text_normalization="off",
        )
    )
    wanted = tts.synthesize(TEXT, "fake", seed=4, speed=1.2, language="en", normalize=False).samples
    np.testing.assert_allclose(np.frombuffer(data, "<i2") / 32768, wanted, atol=1 / 32768)


def test_timestamps_cover_the_text(sdk: ElevenLabs, tts: TTS) -> None:
    answer = sdk.text_to_speech.convert_with_timestamps(
        "fake", text=TEXT, output_format="pcm_16000", seed=1
    )
    length_s = len(base64.b64decode(answer.audio_base_64)) / 2 / 16000
    assert answer.alignment is not None
    assert "".join(answer.alignment.characters) == TEXT
    starts = answer.alignment.character_start_times_seconds
    ends = answer.alignment.character_end_times_seconds
    assert starts == sorted(starts)
    assert all(start <= end for start, end in zip(starts, ends, strict=True))
    assert ends[-1] == pytest.approx(length_s, abs=0.01)
    chunks = list(
        sdk.text_to_speech.stream_with_timestamps(
            "fake", text=TEXT, output_format="pcm_16000", seed=1
        )
    )
    assert len(chunks) > 1
    said = [chunk.alignment for chunk in chunks if chunk.alignment is not None]
    assert "".join(character for one in said for character in one.characters) == TEXT
    assert b"".join(base64.b64decode(chunk.audio_base_64) for chunk in chunks) == base64.b64decode(
        answer.audio_base_64
    )


def test_models_and_subscription(sdk: ElevenLabs, http: httpx.Client) -> None:
    (model,) = sdk.models.list()
    assert (model.model_id, model.can_do_text_to_speech) == ("fake", True)
    assert model.languages
    # the same address in OpenAI's form, for whoever is not their client
    assert http.get("/v1/models").json()["object"] == "list"
    assert http.get("/elevenlabs/v1/models").json()[0]["model_id"] == "fake"
    assert sdk.user.subscription.get() is not None


def test_a_voice_is_made_used_changed_and_removed(
    sdk: ElevenLabs, tts: TTS, recording: bytes, mynah_home: Any
) -> None:
    made = sdk.voices.ivc.create(
        name="Alex K.",
        files=[io.BytesIO(recording), io.BytesIO(recording)],
        labels={"accent": "british"},
        description="A test.",
    )
    assert made.requires_verification is False
    voice = sdk.voices.get(made.voice_id)
    assert (voice.name, voice.category, voice.description) == ("Alex K.", "cloned", "A test.")
    assert voice.labels is not None
    assert voice.labels["accent"] == "british"
    assert made.voice_id in tts.voices.names()
    again = sdk.voices.ivc.create(name="Alex K.", files=[io.BytesIO(recording)])
    assert again.voice_id != made.voice_id
    assert b"".join(sdk.text_to_speech.convert(made.voice_id, text=TEXT))
    sdk.voices.update(made.voice_id, name="Sasha", files=[io.BytesIO(recording)])
    assert sdk.voices.get(made.voice_id).name == "Sasha"
    found = sdk.voices.search(search="sasha")
    assert [one.voice_id for one in found.voices] == [made.voice_id]
    for voice_id in (made.voice_id, again.voice_id):
        assert sdk.voices.delete(voice_id).status == "ok"
    with pytest.raises(ApiError) as caught:
        sdk.voices.get(made.voice_id)
    assert caught.value.status_code == 404


def test_voices_are_listed_page_by_page(sdk: ElevenLabs) -> None:
    assert [voice.voice_id for voice in sdk.voices.get_all().voices] == ["fake", "other"]
    first = sdk.voices.search(page_size=1, sort="name", sort_direction="desc")
    assert (first.has_more, first.total_count) == (True, 2)
    assert [voice.voice_id for voice in first.voices] == ["other"]
    second = sdk.voices.search(
        page_size=1, sort="name", sort_direction="desc", next_page_token=first.next_page_token
    )
    assert [voice.voice_id for voice in second.voices] == ["fake"]
    assert second.has_more is False
    assert sdk.voices.search(category="cloned").voices == []
    assert len(sdk.voices.search(voice_ids=["other"]).voices) == 1


def test_an_alias_stands_for_a_voice(sdk: ElevenLabs, tts: TTS) -> None:
    data = b"".join(
        sdk.text_to_speech.convert(
            "21m00Tcm4TlvDq8ikWAM", text=TEXT, output_format="pcm_24000", seed=1
        )
    )
    assert len(data) == 2 * len(tts.synthesize(TEXT, "other", seed=1))


@pytest.mark.parametrize(
    ("voice", "query", "body", "status", "word"),
    [
        ("nobody", {}, {"text": TEXT}, 404, "voice_not_found"),
        ("..%2Ffake", {}, {"text": TEXT}, 404, None),
        ("fake", {}, {"text": TEXT, "model_id": "gpt"}, 404, "model_not_found"),
        ("fake", {}, {"text": "x" * 5001}, 400, "invalid_request"),
        ("fake", {}, {"text": " "}, 400, "invalid_request"),
        ("fake", {}, {"text": ""}, 422, None),
        ("fake", {}, {}, 422, None),
        ("fake", {}, {"text": TEXT, "seed": -1}, 422, None),
        ("fake", {}, {"text": TEXT, "voice_settings": {"speed": 9}}, 422, None),
        ("fake", {"output_format": "mp3_1_1"}, {"text": TEXT}, 422, None),
    ],
)
def test_errors_have_their_form(
    http: httpx.Client, voice: str, query: Any, body: Any, status: int, word: str | None
) -> None:
    for path in ("", "/stream", "/with-timestamps", "/stream/with-timestamps"):
        answer = http.post(f"/v1/text-to-speech/{voice}{path}", params=query, json=body)
        assert answer.status_code == status
        if word is not None:
            assert answer.json()["detail"]["status"] == word
            assert answer.json()["detail"]["message"]
        if status == 422:
            (place,) = answer.json()["detail"]
            assert set(place) == {"loc", "msg", "type"}


def test_unknown_fields_are_accepted(http: httpx.Client) -> None:
    body = {"text": TEXT, "new": 1, "voice_settings": {"new": 2}, "previous_request_ids": ["a"]}
    answer = http.post("/v1/text-to-speech/fake?new=3", json=body)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.headers["request-id"]


def test_a_client_that_leaves_stops_the_work(server: LiveServer, tts: TTS) -> None:
    with Engine(tts) as engine:
        with (
            server.client() as client,
            client.stream("POST", "/v1/text-to-speech/fake/stream", json={"text": LONG}) as answer,
        ):
            next(answer.iter_raw())
        engine.wait_for("cancelled")


def test_their_key_header_is_asked_for(tts: TTS) -> None:
    with served(tts, api_keys=("secret",)) as server:
        with sdk_of(server, "wrong") as sdk, pytest.raises(ApiError) as caught:
            list(sdk.text_to_speech.convert("fake", text=TEXT))
        assert caught.value.status_code == 401
        assert caught.value.body["detail"]["status"] == "invalid_api_key"
        with sdk_of(server, "secret") as sdk:
            assert list(sdk.text_to_speech.convert("fake", text=TEXT))
