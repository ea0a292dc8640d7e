"""``/tts`` in both forms of the source documents, the dry run, and the capabilities."""

from __future__ import annotations

import base64
import io
import queue
import wave
from typing import Any

import av
import httpx
import numpy as np
import pytest

from mynah.audio import pcm
from mynah.engine.admission import Limits
from mynah.server.runtime import SpeechRecord
from tests.server.conftest import LiveServer

TEXT = "Good morning, this is a short text."


def speak(http: httpx.Client, **fields: Any) -> httpx.Response:
    return http.post("/tts", json={"text": TEXT, "seed": 3, **fields})


def test_first_form_is_a_complete_wav_file(http: httpx.Client) -> None:
    answer = speak(http, language="en", speed=1.0, emotion="neutral")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["content-length"] == str(len(answer.content))
    with wave.open(io.BytesIO(answer.content)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24000, 1, 2)
        assert file.getnframes() == (len(answer.content) - 44) // 2 > 2400


def test_second_form_is_a_stream_of_pcm(http: httpx.Client) -> None:
    fields = {"text": TEXT, "mode": "sft", "speaker_id": "tiny", "speed": 1.0, "seed": 3}
    with http.stream("POST", "/tts", json=fields) as answer:
        data = b"".join(answer.iter_raw())
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/pcm"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.headers["x-sample-rate"] == "24000"
    assert answer.headers["x-channels"] == "1"
    assert answer.headers["x-seed"] == "3"
    assert answer.headers["x-voice"] == "tiny"
    assert answer.headers["x-accel-buffering"] == "no"
    assert speak(http, mode="sft", stream=False).content[44:] == data


def test_stream_and_file_are_the_same_samples(http: httpx.Client) -> None:
    file, stream = speak(http), speak(http, stream=True)
    assert file.content[44:] == stream.content
    assert np.abs(pcm.from_bytes(stream.content)).max() > 0.001


@pytest.mark.parametrize("form", ["query", "header", "body"])
def test_who_asks_for_a_format_gets_it(http: httpx.Client, form: str) -> None:
    if form == "query":
        answer = http.get("/tts", params={"text": TEXT, "response_format": "flac"})
    elif form == "header":
        headers = {"Accept": "text/html, audio/ogg;q=0, audio/x-flac"}
        answer = http.post("/tts", json={"text": TEXT}, headers=headers)
    else:
        answer = speak(http, response_format="flac", stream=True)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "audio/flac"
    with av.open(io.BytesIO(answer.content)) as file:
        assert sum(frame.samples for frame in file.decode(audio=0)) > 2400


def test_rate_and_frames(http: httpx.Client) -> None:
    answer = speak(http, stream=True, response_format="pcm", sample_rate=8000, frame_ms=40)
    assert answer.headers["x-sample-rate"] == "8000"
    whole = speak(http)
    assert abs(len(answer.content) / 16000 - (len(whole.content) - 44) / 48000) < 0.01


def test_a_recording_instead_of_a_name(http: httpx.Client, recording: bytes) -> None:
    coded = base64.b64encode(recording).decode()
    for reference in (coded, f"data:audio/wav;base64,{coded}"):
        answer = speak(http, reference_audio=reference, model="tiny3", reference_text="Some words.")
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-voice"] == "reference"


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"text": ""}, 400, "invalid_request"),
        ({"text": "..."}, 400, "invalid_request"),
        ({"speed": 9}, 400, "invalid_request"),
        ({"colour": "red"}, 400, "invalid_request"),
        ({"voice": "nobody"}, 404, "unknown_voice"),
        ({"voice": "../../etc/passwd"}, 404, "unknown_voice"),
        ({"voice": "/etc/passwd.wav"}, 404, "unknown_voice"),
        ({"model": "../tiny"}, 404, "model_not_found"),
        ({"mode": "instruct"}, 400, "invalid_request"),
        ({"instruction": "Speak slowly."}, 400, "unsupported"),
        ({"text": "早上好"}, 400, "unsupported"),
        ({"text": "<|endofprompt|>"}, 400, "markup"),
        ({"text": "[laughter] no"}, 400, "markup"),
        ({"text": "word " * 5000}, 400, "invalid_request"),
        ({"response_format": "aiff"}, 400, "invalid_request"),
        ({"response_format": "opus", "sample_rate": 44100}, 400, "unsupported"),
        ({"reference_audio": "!"}, 400, "prompt_audio"),
        ({"reference_audio": "YWJj"}, 400, "prompt_audio"),
        ({"reference_text": "Words without a recording.", "reference_audio": ""}, 200, ""),
        ({"timeout_s": 0}, 400, "invalid_request"),
        ({"timeout_s": 0.0001, "text": "A long text. " * 100}, 504, "deadline"),
        ({"emotion_strength": 0.5}, 400, "invalid_request"),
        ({"lexicon": {"morning": "qqq"}}, 400, "invalid_request"),
        ({"lexicon": {"morning": ""}}, 400, "invalid_request"),
        ({"lexicon": {str(n): "AA1" for n in range(1001)}}, 400, "invalid_request"),
    ],
)
def test_errors_come_before_the_audio(
    http: httpx.Client, fields: dict[str, Any], status: int, code: str
) -> None:
    for stream in (True, False):
        answer = speak(http, stream=stream, **fields)
        assert answer.status_code == status, answer.text
        if status != 200:
            body = answer.json()
            assert set(body) == {"error", "message", "solution", "request_id"}
            assert body["error"] == code
            assert body["message"]
            assert body["solution"]
            assert body["request_id"] == answer.headers["x-request-id"]


def test_a_lexicon_of_the_request(http: httpx.Client) -> None:
    other = speak(http, lexicon={"morning": '"evening"'})
    assert other.status_code == 200
    assert other.content != speak(http).content
    assert other.content == speak(http, text=TEXT.replace("morning", "evening")).content


def test_what_became_of_the_strength_of_an_emotion(http: httpx.Client) -> None:
    """The models know an emotion or do not; the answer says which it was."""
    plain, fields = speak(http, model="tiny3"), {"model": "tiny3", "emotion": "happy"}
    assert "x-emotion-strength" not in plain.headers
    weak, strong = (speak(http, **fields, emotion_strength=x) for x in (0.2, 0.3))
    assert (weak.headers["x-emotion-strength"], weak.content) == ("0", plain.content)
    assert strong.headers["x-emotion-strength"] == "1"
    assert strong.content == speak(http, **fields).content != plain.content
    facts = http.get("/capabilities").json()["models"]
    assert [model["emotion_strength"] for model in facts] == [None, "on_off"]


def test_what_nobody_listens_to_goes_after_the_others(live: LiveServer, http: httpx.Client) -> None:
    """A stream with ``in_time: false`` is no listener: it is taken on where none would be."""
    engine, records = live.runtime.load("tiny").engine, queue.Queue[SpeechRecord]()
    before = engine.limits
    live.runtime.listeners.append(records.put)
    engine.limits = Limits(max_listeners=1, max_others=1)
    long = {"text": "A sentence of several words. " * 200, "stream": True}
    try:
        with http.stream("POST", "/tts", json=long) as answer:
            pieces = answer.iter_raw()  # closes the connection when it is dropped
            assert next(pieces)
            assert speak(http, stream=True).status_code == 503
            assert speak(http, stream=True, in_time=False, whole=True).status_code == 200
            assert records.get(timeout=20).outcome == "overloaded"
            late = records.get(timeout=20)
            assert (late.outcome, late.in_time) == ("done", False)
            assert speak(http, in_time=True).status_code == 503
        outcomes = {records.get(timeout=20).outcome for _ in range(2)}
        assert outcomes == {"overloaded", "cancelled"}
    finally:
        engine.limits = before
        live.runtime.listeners.remove(records.put)


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/json"])
def test_what_is_no_object_is_told_with_the_header(http: httpx.Client, kind: str) -> None:
    body = '{"text": "Hi."}' if "form" in kind else '["Hi."]'
    answer = http.post("/tts", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 400
    assert answer.json()["message"] == "the body is no JSON object"
    assert "Content-Type: application/json" in answer.json()["solution"]


def test_broken_json_is_told(http: httpx.Client) -> None:
    headers = {"content-type": "application/json"}
    answer = http.post("/tts", content=b'{"text": "half', headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"


def test_a_client_that_leaves_stops_the_work(live: LiveServer) -> None:
    records: list[Any] = []
    live.runtime.listeners.append(records.append)
    try:
        with live.client() as client:
            fields = {"text": "This is one of many sentences. " * 400, "stream": True}
            with client.stream("POST", "/tts", json=fields) as answer:
                assert next(answer.iter_raw())
        while not records:  # the server notices as soon as the connection is closed
            with live.client() as client:
                client.get("/live")
    finally:
        live.runtime.listeners.remove(records.append)
    assert records[0].outcome == "cancelled"
    assert records[0].audio_s < 300


def test_dry_run(http: httpx.Client) -> None:
    text = "It costs $5. Call at 3:30 pm on May 4th."
    answer = http.post("/normalize", json={"text": text})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert "five dollars" in body["spoken"].lower()
    assert body["language"] == "en"
    assert "".join(part["text"] for part in body["utterances"]) == text
    assert 2 < body["estimated_s"] < 10
    assert http.post("/normalize", json={"text": "!!"}).json()["error"] == "invalid_request"
    wrong = {"text": text, "lexicon": {"May": "qqq"}}
    assert http.post("/normalize", json=wrong).json()["error"] == "invalid_request"
    assert http.post("/normalize", json={**wrong, "lexicon": {"May": "M EY1"}}).status_code == 200


def test_capabilities(http: httpx.Client) -> None:
    body = http.get("/capabilities").json()
    assert body["default_model"] == "tiny"
    tiny, tiny3 = body["models"]
    assert tiny["modes"] == ["sft", "cross_lingual"]
    assert tiny3["modes"] == ["sft", "zero_shot", "cross_lingual", "instruct"]
    assert tiny3["sample_rate"] == 24000
    assert tiny["default_voice"] == "tiny"
    assert body["formats"]["opus"]["content_type"] == "audio/ogg"
    assert body["limits"]["text_characters"] == 20_000
