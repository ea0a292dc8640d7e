"""Making voices, and what a name can never be."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest

from mynah.audio.encoders import open_encoder
from mynah.audio.io import encode_audio
from mynah.types import Audio
from tests.server.conftest import LiveServer
from tests.sounds import make_speechlike


def create(http: httpx.Client, recording: bytes, **fields: Any) -> httpx.Response:
    form = {"name": "anna", "consent": "Anna agreed.", **fields}
    return http.post("/voices", data=form, files={"recording": ("../../x.wav", recording)})


def test_the_life_of_a_voice(http: httpx.Client, recording: bytes, server_home: Path) -> None:
    made = create(http, recording, transcript="Some words.", language="en", licence="CC0-1.0")
    assert made.status_code == 201, made.text
    body = made.json()
    assert body["consent"] == "Anna agreed."
    assert body["report"]["duration_s"] == pytest.approx(4.0, abs=0.01)
    assert body["report"]["snr_db"] > 8
    assert (server_home / "voices" / "anna.safetensors").is_file()
    shown = http.get("/voices/anna").json()
    assert shown == {key: value for key, value in body.items() if key != "report"}
    listed = http.get("/voices").json()
    assert listed["default"] == "tiny"
    assert [voice["name"] for voice in listed["voices"]] == ["anna", "tiny"]
    # made again for another model, from the recording that it carries
    spoken = http.post("/tts", json={"text": "Hello.", "voice": "anna", "model": "tiny3"})
    assert spoken.status_code == 200, spoken.text
    again = create(http, recording)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_request")
    assert create(http, recording, overwrite="true").status_code == 201
    assert http.delete("/voices/anna").status_code == 204
    assert http.get("/voices/anna").status_code == 404
    assert http.delete("/voices/anna").status_code == 404


@pytest.mark.parametrize("name", ["../x", "a/b", "a.b", "..", "con", "x" * 65, "a\\b"])
def test_names_are_never_paths(http: httpx.Client, recording: bytes, name: str) -> None:
    assert create(http, recording, name=name).status_code == 400
    coded = name.replace("/", "%2F").replace("\\", "%5C").replace("..", "%2E%2E")
    assert http.get(f"/voices/{coded}").status_code in (404, 405)


def test_what_comes_with_the_model_stays(http: httpx.Client) -> None:
    refused = http.delete("/voices/tiny")
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("recording", "words"),
    [
        (b"", "is empty"),
        (b"RIFF but no sound", "not a sound file"),
        (b"\x1a\x45\xdf\xa3 but no sound", "cannot be decoded"),
        (encode_audio(make_speechlike(0.4, 24000), "wav"), "at least 1 s"),
        (encode_audio(make_speechlike(31.0, 16000), "flac"), "the limit is 30 s"),
        (encode_audio(make_speechlike(3.0, 8000), "wav"), "16000 Hz"),
        (encode_audio(Audio(np.zeros(48000, np.float32), 24000), "wav"), "silent"),
    ],
    ids=["empty", "damaged", "no webm", "short", "long", "narrow", "silent"],
)
def test_the_verdict_on_a_bad_recording(http: httpx.Client, recording: bytes, words: str) -> None:
    for answer in (
        create(http, recording, name="bad"),
        http.post("/voices/check", files={"recording": ("x", recording)}),
    ):
        assert answer.status_code == 400
        assert answer.json()["error"] == "prompt_audio"
        assert words in answer.json()["message"]
        assert answer.json()["solution"]
    assert http.get("/voices/bad").status_code == 404


@pytest.mark.parametrize(("container", "codec"), [("webm", "libopus"), ("mp4", "aac"), ("aac", "")])
def test_what_browsers_and_phones_record(http: httpx.Client, container: str, codec: str) -> None:
    audio = make_speechlike(3.0, 48000)
    if container == "aac":
        encoder = open_encoder("aac", audio.sample_rate)
        data = encoder.encode(audio.samples) + encoder.finish()
    else:
        data = recorded(audio, container, codec)
    answer = http.post("/voices/check", files={"recording": ("blob", data)})
    assert answer.status_code == 200, answer.text
    assert answer.json()["duration_s"] == pytest.approx(3.0, abs=0.15)


def recorded(audio: Audio, container: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=audio.sample_rate)
        stream.layout = "mono"  # type: ignore[union-attr]
        for start in range(0, len(audio), 960):
            frame = av.AudioFrame.from_ndarray(
                audio.samples[None, start : start + 960], format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = audio.sample_rate, start
            output.mux(stream.encode(frame))  # type: ignore[union-attr]
        output.mux(stream.encode(None))  # type: ignore[union-attr]
    return file.getvalue()


def test_uploads_have_a_limit(live: LiveServer, http: httpx.Client) -> None:
    limit = live.runtime.settings.max_upload_bytes
    for size, code in (
        (limit + 1, "too_large"),
        (live.runtime.settings.max_body_bytes, "too_large"),
    ):
        answer = create(http, bytes(size), name="large")
        assert answer.status_code == 413
        assert answer.json()["error"] == code
