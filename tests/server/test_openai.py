"""OpenAI's own client against ``/v1``, and what other clients are known to rely on."""

from __future__ import annotations

import base64
import collections
import io
import json
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import openai
import pytest

from mynah.api import TTS
from mynah.audio import pcm
from mynah.server.runtime import Runtime
from mynah.server.settings import ServerSettings
from tests.server.conftest import LiveServer, serve

TEXT = "Good morning, this is a short text."


@pytest.fixture
def client(live: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{live.url}/v1", api_key="anything", max_retries=0, timeout=60
    ) as client:
        yield client


def events(text: str) -> list[dict[str, Any]]:
    """As LiveKit and Pipecat read them: the lines that begin with ``data: ``."""
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


@pytest.mark.parametrize(
    ("name", "content_type", "container"),
    [
        ("mp3", "audio/mpeg", "mp3"),
        ("opus", "audio/ogg", "ogg"),
        ("aac", "audio/aac", "aac"),
        ("flac", "audio/flac", "flac"),
        ("wav", "audio/wav", "wav"),
    ],
)
def test_every_format_is_streamed(
    client: openai.OpenAI, name: Any, content_type: str, container: str
) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=TEXT, response_format=name, extra_body={"seed": 1}
    ) as answer:
        data = b"".join(answer.iter_bytes())
    assert answer.headers["content-type"] == content_type
    assert "content-length" not in answer.headers
    assert answer.headers["x-voice"] == "tiny"
    with av.open(io.BytesIO(data), format=container) as file:
        frames = [frame.to_ndarray() for frame in file.decode(audio=0)]
        seconds = sum(frame.shape[-1] for frame in frames) / file.streams.audio[0].rate
    assert 0.3 < seconds < 30


def test_wav_has_one_header_of_unknown_length(client: openai.OpenAI) -> None:
    answer = client.audio.speech.create(
        model="tts-1", voice="tiny", input=TEXT * 3, response_format="wav"
    )
    data = answer.read()
    assert data[4:8] == data[40:44] == b"\xff\xff\xff\xff"
    assert data.count(b"RIFF") == 1
    with wave.open(io.BytesIO(data)) as file:
        assert file.getframerate() == 24000


def test_pcm_is_24_khz(client: openai.OpenAI) -> None:
    request: Any = {"model": "tiny", "voice": "tiny", "input": TEXT, "extra_body": {"seed": 5}}
    raw = client.audio.speech.create(response_format="pcm", **request)
    file = client.audio.speech.create(response_format="wav", **request)
    assert raw.response.headers["x-sample-rate"] == "24000"
    assert raw.content == file.content[44:]
    assert np.abs(pcm.from_bytes(raw.content)).max() > 0.001


def test_events(client: openai.OpenAI, http: httpx.Client) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="tiny",
        voice="coral",
        input=TEXT,
        response_format="pcm",
        stream_format="sse",
        extra_body={"seed": 5},
    ) as answer:
        found = events(answer.read().decode())
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [event["type"] for event in found[:-1]] == ["speech.audio.delta"] * (len(found) - 1)
    done = found[-1]
    assert done["type"] == "speech.audio.done"
    usage = done["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    body = {"input": TEXT, "response_format": "pcm", "seed": 5}
    audio = b"".join(base64.b64decode(event["audio"]) for event in found[:-1])
    assert audio == http.post("/v1/audio/speech", json=body).content


def test_the_first_models_answer_bytes_even_when_asked_for_events(http: httpx.Client) -> None:
    body = {"model": "tts-1", "input": TEXT, "voice": "alloy", "stream_format": "sse"}
    answer = http.post("/v1/audio/speech", json=body)
    assert answer.headers["content-type"] == "audio/mpeg"


def test_the_first_models_ignore_instructions(http: httpx.Client) -> None:
    body = {"input": TEXT, "voice": "alloy", "instructions": "Whisper."}
    assert http.post("/v1/audio/speech", json={**body, "model": "tts-1"}).status_code == 200
    refused = http.post("/v1/audio/speech", json={**body, "model": "gpt-4o-mini-tts"})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "unsupported"
    assert http.post("/v1/audio/speech", json={**body, "model": "tiny3"}).status_code == 200


def test_voice_as_an_object_and_unknown_fields(http: httpx.Client) -> None:
    body = {
        "model": "tiny",
        "input": TEXT,
        "voice": {"id": "tiny"},
        "response_format": "pcm",
        "task_type": "Base",
        "bad name\r\nX: y": 1,
    }
    answer = http.post("/v1/audio/speech", json=body)
    assert answer.status_code == 200
    assert answer.headers["x-ignored-fields"] == "task_type"


@pytest.mark.parametrize(
    ("fields", "kind", "code"),
    [
        ({"voice": "nobody"}, openai.NotFoundError, "unknown_voice"),
        ({"voice": "../tiny"}, openai.NotFoundError, "unknown_voice"),
        ({"model": "gpt-9"}, openai.NotFoundError, "model_not_found"),
        ({"input": ""}, openai.BadRequestError, "invalid_request"),
        ({"speed": 7.0}, openai.BadRequestError, "invalid_request"),
        ({"response_format": "aiff"}, openai.BadRequestError, "invalid_request"),
        ({"input": "早上好"}, openai.BadRequestError, "unsupported"),
        (
            {"extra_body": {"ref_audio": "file:///etc/passwd"}},
            openai.BadRequestError,
            "unsupported",
        ),
    ],
)
def test_errors(
    client: openai.OpenAI, fields: dict[str, Any], kind: type[openai.APIStatusError], code: str
) -> None:
    request: Any = {"model": "tts-1", "voice": "alloy", "input": TEXT, **fields}
    with pytest.raises(kind) as caught:
        client.audio.speech.create(**request)
    body = caught.value.response.json()["error"]
    assert set(body) == {"message", "type", "param", "code"}
    assert (body["type"], body["code"]) == ("invalid_request_error", code)
    if fields == {"speed": 7.0}:
        assert body["param"] == "speed"


def test_models(client: openai.OpenAI, http: httpx.Client) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "tiny3"]
    assert client.models.retrieve("tiny3").owned_by == "mynah"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")
    assert http.get("/v1/audio/models").json()["models"][0] == {"id": "tiny", "name": "tiny"}


def test_voices_in_every_shape(http: httpx.Client, recording: bytes) -> None:
    made = http.post(
        "/v1/audio/voices",
        data={"name": "My voice", "consent": "It is a test.", "ref_text": "Some words."},
        files={"audio_sample": ("me.wav", recording, "audio/wav")},
    )
    assert made.status_code == 200, made.text
    body = made.json()
    assert body["object"] == "audio.voice"
    assert (body["id"], body["name"], body["success"]) == ("My_voice", "My voice", True)
    listed = http.get("/v1/audio/voices").json()
    assert {voice["id"] for voice in listed["voices"]} == {"tiny", "My_voice"}
    assert listed["data"] == listed["voices"]
    assert listed["object"] == "list"
    uploaded = listed["uploaded_voices"][0]
    assert (uploaded["name"], uploaded["ref_text"]) == ("My_voice", "Some words.")
    assert uploaded["file_size"] > 1000
    spoken = http.post("/v1/audio/speech", json={"input": TEXT, "voice": "My_voice"})
    assert spoken.headers["x-voice"] == "My_voice"
    assert http.delete("/v1/audio/voices/My_voice").json()["success"] is True
    gone = http.delete("/v1/audio/voices/My_voice")
    assert gone.status_code == 404
    assert gone.json()["success"] is False
    assert http.delete("/v1/audio/voices/tiny").status_code == 400


@pytest.mark.parametrize("form", ["sse", "audio"])
def test_what_goes_wrong_in_the_middle(
    tiny_models: dict[str, TTS], server_home: Path, form: str
) -> None:
    """The model is closed under a speech: an event says so, or the end of the body is missing."""
    tts = TTS.load(server_home / "models" / "tiny", threads=1)
    server = serve(Runtime(ServerSettings(), loaded={"tiny": tts}))
    body = {"input": "One more sentence. " * 1000, "response_format": "pcm", "stream_format": form}
    with (
        next(server).client() as client,
        client.stream("POST", "/v1/audio/speech", json=body) as answer,
    ):
        pieces = answer.iter_bytes()
        data = next(pieces)
        tts.close()
        if form == "audio":
            with pytest.raises(httpx.RemoteProtocolError):
                collections.deque(pieces, 0)
        else:
            data += b"".join(pieces)
    server.close()
    if form == "sse":
        found = events(data.decode())
        assert found[0]["type"] == "speech.audio.delta"
        assert found[-1]["type"] == "speech.audio.error"
        assert found[-1]["error"]["code"] == "cancelled"


def test_parameters_that_openai_does_not_have(http: httpx.Client, recording: bytes) -> None:
    body = {"input": TEXT, "model": "tiny3", "seed": 3, "response_format": "pcm"}

    def speech(**fields: Any) -> httpx.Response:
        return http.post("/v1/audio/speech", json={**body, **fields})

    plain = speech()
    happy = speech(emotion="happy")
    assert happy.headers["x-emotion-strength"] == "1"
    assert happy.content != plain.content
    assert "x-ignored-fields" not in happy.headers
    said = speech(lexicon={"morning": '"evening"'}).content
    assert said == speech(input=TEXT.replace("morning", "evening")).content != plain.content
    late = speech(input="A long text. " * 200, timeout_s=0.0001)
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline")
    fields = {"ref_audio": base64.b64encode(recording).decode(), "ref_text": "Some words."}
    both = speech(**fields).content, speech(**fields, x_vector_only_mode=True).content
    assert both[0] != both[1] == speech(**fields, mode="sft").content


def test_a_batch(http: httpx.Client) -> None:
    """As vLLM-Omni has it: one that is wrong does not stop the others."""
    items = [
        {"input": "The first."},
        {"input": "The second.", "voice": "nobody"},
        {"input": "The third.", "response_format": "pcm", "seed": 3},
    ]
    answer = http.post("/v1/audio/speech/batch", json={"items": items, "seed": 2})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["total"], body["succeeded"], body["failed"]) == (3, 2, 1)
    first, second, third = body["results"]
    assert [result["index"] for result in body["results"]] == [0, 1, 2]
    assert (first["status"], first["media_type"]) == ("success", "audio/wav")
    with wave.open(io.BytesIO(base64.b64decode(first["audio_data"]))) as file:
        assert file.getnframes() > 0
    assert first["usage"]["input_tokens"] == len("The first.")
    assert (second["status"], "audio_data" in second) == ("error", False)
    assert "nobody" in second["error"]
    alone = http.post("/v1/audio/speech", json={**items[2], "model": "tiny"}).content
    assert base64.b64decode(third["audio_data"]) == alone
    for wrong in ([], [{"voice": "x"}], [{"input": "Hi."}] * 33, [{"input": "word " * 5000}]):
        refused = http.post("/v1/audio/speech/batch", json={"items": wrong})
        assert refused.status_code == 400
        assert set(refused.json()["error"]) == {"message", "type", "param", "code"}
