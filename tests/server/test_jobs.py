"""The queue: progress, cancelling, and what is left when the server stops."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import wave
from pathlib import Path
from typing import Any

import httpx
import pytest

from mynah.api import TTS
from mynah.server.job_store import Job, JobStore
from mynah.server.jobs import Jobs
from mynah.server.parameters import Encoding, SpeechParameters
from mynah.server.runtime import Runtime
from mynah.server.settings import ServerSettings
from tests.server.conftest import LiveServer, serve

LONG = "This is one of very many sentences. " * 1500


def wait(http: httpx.Client, job: str, *states: str) -> dict[str, Any]:
    while True:
        facts: dict[str, Any] = http.get(f"/jobs/{job}").json()
        if facts["state"] in states:
            return facts


def test_a_job_from_queue_to_file(http: httpx.Client) -> None:
    answer = http.post("/jobs", json={"text": "Good morning. " * 20, "seed": 4})
    assert answer.status_code == 202, answer.text
    facts = wait(http, answer.json()["id"], "done", "failed")
    assert (facts["state"], facts["progress"], facts["seed"]) == ("done", 1.0, 4), facts
    assert facts["ended"] >= facts["created"]
    audio = http.get(f"/jobs/{facts['id']}/audio")
    assert audio.headers["content-type"] == "audio/wav"
    with wave.open(io.BytesIO(audio.content)) as file:
        assert file.getnframes() / 24000 == pytest.approx(facts["audio_s"], abs=0.01)
    part = http.get(f"/jobs/{facts['id']}/audio", headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"RIFF")
    assert http.delete(f"/jobs/{facts['id']}").status_code == 204
    assert http.get(f"/jobs/{facts['id']}").status_code == 404


def test_a_batch_keeps_its_order(http: httpx.Client) -> None:
    items = [{"text": f"Number {n}.", "response_format": "mp3"} for n in ("one", "two", "three")]
    jobs = http.post("/batches", json={"items": items}).json()["jobs"]
    for job in jobs:
        assert wait(http, job["id"], "done")["audio_s"] > 0
    listed = http.get("/jobs", params={"batch": jobs[0]["batch"]}).json()["jobs"]
    assert [job["id"] for job in listed] == [job["id"] for job in jobs]


def test_cancelling_ends_the_work(live: LiveServer, http: httpx.Client) -> None:
    job = http.post("/jobs", json={"text": LONG}).json()["id"]
    assert wait(http, job, "running")["progress"] < 1
    assert http.get(f"/jobs/{job}/audio").status_code == 409
    assert http.post(f"/jobs/{job}/cancel").json()["state"] == "cancelled"
    after = http.post("/jobs", json={"text": "The next one."}).json()["id"]
    wait(http, after, "done")  # the queue went on
    assert http.get(f"/jobs/{job}").json()["state"] == "cancelled"
    assert not list((live.runtime.settings.data_path / "jobs").glob(f"{job}*"))


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"text": "..."}, 400),
        ({"text": "word " * 200_001}, 400),
        ({"text": "Hello.", "voice": "nobody"}, 404),
        ({"text": "Hello.", "model": "nobody"}, 404),
        ({"text": "Hello.", "response_format": "opus", "sample_rate": 11025}, 400),
        ({"text": "Hello.", "model": "tiny3", "dialect": "klingon"}, 400),
        ({"text": "Hello.", "lexicon": {"Hello": "qqq"}}, 400),
    ],
)
def test_what_is_wrong_is_told_at_once(
    http: httpx.Client, fields: dict[str, Any], status: int
) -> None:
    assert http.post("/jobs", json=fields).status_code == status
    both = http.post("/batches", json={"items": [{"text": "Fine."}, fields]})
    assert both.status_code == status


def test_what_goes_wrong_later_is_kept(http: httpx.Client) -> None:
    body = {"text": "A sentence for which there is no time. " * 50, "timeout_s": 0.001}
    job = http.post("/jobs", json=body).json()["id"]
    facts = wait(http, job, "failed", "done")
    assert (facts["state"], facts["error"]) == ("failed", "deadline")
    assert "0.001 s" in facts["message"]
    assert facts["solution"]


def test_the_queue_survives_the_server(tiny_models: dict[str, TTS], tmp_path: Path) -> None:
    """One server is stopped in the middle of a job; the next one does it again."""
    settings = ServerSettings(data_dir=tmp_path, drain_s=0)
    loaded = {"tiny": tiny_models["tiny"]}
    first = serve(Runtime(settings, loaded=loaded))
    with next(first).client() as http:
        begun = http.post("/jobs", json={"text": LONG, "seed": 1}).json()["id"]
        waiting = http.post("/jobs", json={"text": "A short one.", "seed": 1}).json()["id"]
        wait(http, begun, "running")
    first.close()
    assert not list((tmp_path / "jobs").iterdir())
    with sqlite3.connect(tmp_path / "jobs.sqlite3") as database:
        states = dict(database.execute("SELECT id, state FROM jobs"))
    database.close()
    assert states == {begun: "queued", waiting: "queued"}
    second = serve(Runtime(settings, loaded=loaded))
    with next(second).client() as http:
        assert http.get(f"/jobs/{begun}").json()["state"] in ("queued", "running")
        http.post(f"/jobs/{begun}/cancel")
        assert wait(http, waiting, "done")["seed"] == 1
    second.close()


def test_two_servers_do_not_share_a_queue(tiny_models: dict[str, TTS], tmp_path: Path) -> None:
    """The second one would begin what the first is at, and both would write one file."""
    settings = ServerSettings(data_dir=tmp_path)
    first = serve(Runtime(settings, loaded=tiny_models))
    second = serve(Runtime(settings, loaded=tiny_models))
    with next(first).client() as one, next(second).client() as other:
        job = one.post("/jobs", json={"text": LONG}).json()["id"]
        wait(one, job, "running")
        refused = other.post("/jobs", json={"text": "Hello."})
        assert (refused.status_code, refused.json()["error"]) == (409, "conflict")
        assert "--data-dir" in refused.json()["solution"]
        assert other.post("/tts", json={"text": "Hello."}).status_code == 200
        assert "mynah_jobs_waiting 1.0" in one.get("/metrics").text
        assert "mynah_jobs_waiting" not in other.get("/metrics").text
        assert one.get(f"/jobs/{job}").json()["state"] == "running"
        first.close()
        wait(other, job, "running")  # now it is the other's
        assert other.delete(f"/jobs/{job}").status_code == 204
    second.close()


def test_jobs_belong_to_a_key(tiny_models: dict[str, TTS], tmp_path: Path) -> None:
    settings = ServerSettings(data_dir=tmp_path, api_keys=("first", "second"))
    server = serve(Runtime(settings, loaded={"tiny": tiny_models["tiny"]}))
    with next(server).client() as http:
        mine, other = ({"Authorization": f"Bearer {key}"} for key in ("first", "second"))
        job = http.post("/jobs", json={"text": "Hello."}, headers=mine).json()["id"]
        assert http.get(f"/jobs/{job}", headers=mine).status_code == 200
        assert http.get(f"/jobs/{job}", headers=other).status_code == 404
        assert http.get("/jobs", headers=other).json() == {"jobs": []}
        assert http.delete(f"/jobs/{job}", headers=other).status_code == 404
    server.close()


def test_a_server_killed_while_it_works_begins_again(tmp_path: Path) -> None:
    row = Job("0" * 32, "", "b", "running", 1.0, None, "{}", "{}", 1)
    store = JobStore(tmp_path / "jobs.sqlite3")
    store.add([row])
    store.close()
    again = JobStore(tmp_path / "jobs.sqlite3")
    taken = again.take()
    assert taken is not None
    assert taken.id == row.id
    assert again.take() is None
    again.put_back(row.id)  # as a server does that was told to stop
    again.close()
    for _ in range(2):  # killed again, and again
        again = JobStore(tmp_path / "jobs.sqlite3")
        assert again.take() is not None
        again.close()
    again = JobStore(tmp_path / "jobs.sqlite3")
    assert again.take() is None
    given_up = again.get(row.id)
    assert given_up is not None
    assert (given_up.state, given_up.error, given_up.parameters) == ("failed", "crashed", "")
    again.close()


def test_a_queue_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    store = JobStore(path)
    store.add([Job("0" * 32, "", "b", "queued", 1.0, None, "{}", "{}", 1)])
    store.close()
    database = sqlite3.connect(path)
    database.execute("ALTER TABLE jobs DROP COLUMN crashes")
    database.commit()
    database.close()
    store = JobStore(path)
    taken = store.take()
    assert taken is not None
    assert taken.crashes == 0
    store.close()


def test_old_jobs_are_forgotten_and_texts_too(tiny_models: dict[str, TTS], tmp_path: Path) -> None:
    settings = ServerSettings(data_dir=tmp_path, keep_jobs_s=1e-9)
    runtime = Runtime(settings, loaded={"tiny": tiny_models["tiny"]})

    async def run() -> None:
        jobs = Jobs(runtime)
        jobs.start()
        try:
            request = SpeechParameters(text="A secret text."), Encoding(format="wav")
            (job,) = await jobs.submit([request], "")
            while await jobs.of(""):
                await asyncio.sleep(0)
            assert job.parameters
        finally:
            await jobs.stop()

    asyncio.run(run())
    assert not list((tmp_path / "jobs").iterdir())
    assert b"secret" not in (tmp_path / "jobs.sqlite3").read_bytes()
