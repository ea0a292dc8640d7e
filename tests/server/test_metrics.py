"""``/metrics`` and ``/ratings``: real requests, and what is counted of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from mynah.api import TTS
from mynah.engine.admission import Limits
from mynah.server.runtime import Runtime
from mynah.server.settings import ServerSettings
from tests.server.conftest import LiveServer, serve
from tests.server.loops import eventually
from tests.tiny_model import build_tiny_model

TEXT = "Good morning, this is a short text."


@pytest.fixture
def counted(tiny_models: dict[str, TTS], tmp_path: Path) -> Iterator[LiveServer]:
    """A server of its own, so that nobody else is counted."""
    yield from serve(Runtime(ServerSettings(data_dir=tmp_path), loaded=tiny_models))


@pytest.fixture
def client(counted: LiveServer) -> Iterator[httpx.Client]:
    with counted.client() as client:
        yield client


def read(client: httpx.Client) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample by its name and the values of its labels, sorted by the labels' names."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def speak(client: httpx.Client, **fields: Any) -> httpx.Response:
    return client.post("/tts", json={"text": TEXT, "seed": 3, **fields})


def test_a_stream_is_counted(client: httpx.Client) -> None:
    audio = speak(client, stream=True)
    # A stream is counted when its connection is done with, after the client has it all.
    eventually(lambda: ("mynah_requests_total", ("POST", "/tts", "200")) in read(client))
    found = read(client)
    labels = ("tiny", "http")
    assert found["mynah_speeches_total", ("tiny", "done", "http")] == 1
    assert found["mynah_first_audio_seconds_count", labels] == 1
    assert found["mynah_first_audio_seconds_sum", labels] > 0
    assert found["mynah_last_packet_seconds_count", labels] == 1
    assert found["mynah_real_time_factor_count", labels] == 1
    seconds = len(audio.content) / 48000
    assert found["mynah_audio_seconds_total", labels] == pytest.approx(seconds, abs=0.001)
    assert found["mynah_characters_total", labels] == len(TEXT)
    assert found["mynah_requests_total", ("POST", "/tts", "200")] == 1
    assert found["mynah_active", ()] == 0
    assert found["mynah_ready", ()] == 1
    assert found["process_resident_memory_bytes", ()] > 1e6
    assert found["process_cpu_seconds_total", ()] > 0


def test_a_file_has_no_first_audio(client: httpx.Client) -> None:
    assert speak(client, stream=False).status_code == 200
    found = read(client)
    assert found["mynah_speeches_total", ("tiny", "done", "http")] == 1
    assert ("mynah_first_audio_seconds_count", ("tiny", "http")) not in found
    assert found["mynah_underruns_total", ("tiny", "http")] == 0


def test_the_engine_is_asked(client: httpx.Client, counted: LiveServer) -> None:
    before = read(client)
    speak(client)
    after = read(client)

    def grown(name: str) -> float:
        return after[name, ("tiny",)] - before.get((name, ("tiny",)), 0.0)

    assert grown("mynah_engine_tokens_total") > 0
    assert grown("mynah_engine_busy_seconds_total") > 0
    assert grown("mynah_engine_audio_seconds_total") > 0
    assert grown("mynah_lm_batch_size_count") > 0
    batches = [value for (name, _), value in after.items() if name == "mynah_lm_batch_size_bucket"]
    assert max(batches) >= after["mynah_lm_batch_size_count", ("tiny",)]
    assert after["mynah_engine_listeners", ("tiny",)] == 0
    assert after["mynah_engine_capacity", ("tiny",)] >= 1
    assert after["mynah_engine_load", ("tiny",)] == 0
    cost = counted.runtime.load("tiny").engine.stats().cost
    assert after["mynah_engine_cost", ("tiny",)] == pytest.approx(cost)


def test_prepared_voices_are_hits_the_second_time(client: httpx.Client) -> None:
    speak(client)
    before = read(client)
    speak(client)
    after = read(client)
    key = ("prepared", "tiny")
    assert after["mynah_voice_cache_hits_total", key] == (
        before["mynah_voice_cache_hits_total", key] + 1
    )
    assert (
        after["mynah_voice_cache_misses_total", key]
        == (before["mynah_voice_cache_misses_total", key])
    )


def test_refusals_and_errors_by_code(client: httpx.Client, counted: LiveServer) -> None:
    assert speak(client, voice="nobody").status_code == 404
    assert speak(client, model="made-up-by-a-client").status_code == 404
    assert speak(client, speed=9).status_code == 400
    assert client.get("/made-up/path").status_code == 404
    engine = counted.runtime.load("tiny").engine
    engine.limits = Limits(max_others=0)
    try:
        refused = speak(client)
    finally:
        engine.limits = None
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    found = read(client)
    assert found["mynah_speeches_total", ("tiny", "unknown_voice", "http")] == 1
    assert found["mynah_speeches_total", ("tiny", "overloaded", "http")] == 1
    assert found["mynah_errors_total", ("unknown_voice", "404")] == 1
    assert found["mynah_errors_total", ("invalid_request", "400")] == 1
    assert found["mynah_errors_total", ("overloaded", "503")] == 1
    assert found["mynah_requests_total", ("GET", "-", "404")] == 1
    assert found["mynah_engine_refused_total", ("tiny",)] >= 1
    assert "made-up" not in client.get("/metrics").text, "a client chose a label"


def test_who_leaves_is_counted_as_cancelled(client: httpx.Client, counted: LiveServer) -> None:
    outcomes: list[str] = []
    over = threading.Event()
    counted.runtime.listeners.append(lambda record: (outcomes.append(record.outcome), over.set()))
    fields = {"text": TEXT * 100, "stream": True}
    with client.stream("POST", "/tts", json=fields) as answer:
        next(answer.iter_raw())
    assert over.wait(60)
    assert outcomes == ["cancelled"]
    eventually(lambda: ("mynah_speeches_total", ("tiny", "cancelled", "http")) in read(client))


def test_stages_of_a_model_that_the_server_loads(
    tmp_path: Path, recording: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYNAH_HOME", str(tmp_path / "home"))
    build_tiny_model(tmp_path / "tiny", "nano")
    runtime = Runtime(ServerSettings(models=(str(tmp_path / "tiny"),), threads=1))
    for live in serve(runtime):
        with live.client() as client:
            assert speak(client).status_code == 200
            upload = {"recording": ("own.wav", recording)}
            made = client.post("/voices", data={"name": "own"}, files=upload)
            found = read(client)
    assert made.status_code in (200, 201), made.text
    for stage in ("lm", "flow", "vocoder", "text", "voice", "recording"):
        assert found["mynah_stage_calls_total", ("tiny", stage)] > 0
        assert found["mynah_stage_seconds_total", ("tiny", stage)] > 0
    busy = found["mynah_engine_busy_seconds_total", ("tiny",)]
    inside = [
        found["mynah_stage_seconds_total", ("tiny", one)] for one in ("lm", "flow", "vocoder")
    ]
    assert sum(inside) < 1.05 * busy


def test_a_key_is_needed_where_there_are_keys(tiny_models: dict[str, TTS], tmp_path: Path) -> None:
    settings = ServerSettings(data_dir=tmp_path, api_keys=(SecretStr("s3cret"),))
    for live in serve(Runtime(settings, loaded=tiny_models)):
        with live.client() as client:
            assert client.get("/metrics").status_code == 401
            client.headers["Authorization"] = "Bearer s3cret"
            assert read(client)["mynah_errors_total", ("unauthorized", "401")] == 1


def test_ratings(client: httpx.Client) -> None:
    name = speak(client).headers["x-request-id"]
    rating = {"request_id": name, "score": 4, "tags": ["noise", "late", "noise"]}
    answer = client.post("/ratings", json=rating)
    assert answer.status_code == 201
    assert answer.json() == {"request_id": name, "score": 4, "model": "tiny"}
    assert client.post("/ratings", json=rating).status_code == 409
    unknown = client.post("/ratings", json={"request_id": "elsewhere", "score": 1})
    assert unknown.json()["model"] is None
    found = read(client)
    assert found["mynah_quality_ratings_total", ("tiny", "4")] == 1
    assert found["mynah_quality_ratings_total", ("", "1")] == 1
    assert found["mynah_quality_tags_total", ("tiny", "noise")] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"score": 0},
        {"score": 6},
        {"score": 4.5},
        {"request_id": "a b"},
        {"request_id": ""},
        {"tags": ["my own words"]},
        {"comment": "my own words"},
    ],
)
def test_wrong_ratings(client: httpx.Client, wrong: dict[str, Any]) -> None:
    rating = {"request_id": "x", "score": 3, **wrong}
    assert client.post("/ratings", json=rating).status_code == 400
    assert not any(
        name.startswith("mynah_quality") and value for (name, _), value in read(client).items()
    )
