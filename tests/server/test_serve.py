"""``mynah serve`` as a process: what it refuses, and how it ends."""

from __future__ import annotations

import collections
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from mynah.api import TTS

_ADDRESS = re.compile(r"speaks at (http://\S+)")
LONG = "This is one of very many sentences. " * 100

Start = Callable[..., tuple[subprocess.Popen[str], str]]


def environment(home: Path, **variables: str) -> dict[str, str]:
    paths = [str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "MYNAH_HOME": str(home),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        **variables,
    }


def mynah(home: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mynah", "serve", *words],
        env=environment(home, **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def start(tiny_models: dict[str, TTS], server_home: Path, mynah_home: Path) -> Iterator[Start]:
    """Start servers of the tiny model on free ports; they are killed in the end."""
    running: list[subprocess.Popen[str]] = []
    shutil.copytree(server_home / "models" / "tiny", mynah_home / "models" / "tiny")

    def run(*words: str, **variables: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "mynah", "serve", "--model", "tiny", "--port", "0", *words],
            env=environment(mynah_home, **variables),
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stderr is not None
        for line in process.stderr:
            if found := _ADDRESS.search(line):
                return process, found[1]
        raise AssertionError("the server ended before it listened")

    yield run
    for process in running:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def rest_of(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.read()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines"),
        (["--host", "::"], "can be reached from other machines"),
        (["--port", "70000"], "port"),
        (["--model", "nobody"], "nobody"),
        (["--api-key", " "], "api_keys"),
    ],
)
def test_what_is_refused_before_anything_listens(
    mynah_home: Path, words: list[str], message: str
) -> None:
    result = mynah(mynah_home, *words)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_port_in_use(start: Start, mynah_home: Path) -> None:
    _, address = start()
    result = mynah(mynah_home, "--model", "tiny", "--port", address.rsplit(":", 1)[1])
    assert result.returncode == 2
    assert "cannot listen" in result.stderr


def test_told_to_stop_it_finishes_what_it_began(start: Start) -> None:
    """SIGTERM in the middle of a speech: the speech goes on, new ones are refused, then 0."""
    process, address = start("--log-format", "json")
    secret = "Marmalade is the secret word. "
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as http:
        body = {"text": secret + LONG, "stream": True, "seed": 1, "response_format": "pcm"}
        with http.stream("POST", "/tts", json=body) as answer:
            pieces = answer.iter_raw()
            received = len(next(pieces))
            process.send_signal(signal.SIGTERM)
            with httpx.Client(base_url=address, timeout=60, trust_env=False) as other:
                while other.get("/ready").status_code == 200:
                    pass
                refused = other.post("/tts", json={"text": "One more."})
                assert refused.status_code == 503
                assert refused.json()["error"] == "draining"
                assert refused.headers["retry-after"]
                assert other.get("/live").status_code == 200
            received += sum(map(len, pieces))  # raises if the end is missing
    assert received > 48000 * 20
    assert process.wait(30) == 0
    log = rest_of(process.stderr)
    assert "Traceback" not in log
    assert '"route": "/tts"' in log
    assert "Marmalade" not in log


def test_the_second_signal_ends_it_at_once(start: Start) -> None:
    process, address = start("--drain", "3600")
    body = {"text": LONG * 4, "mode": "sft"}
    with (
        httpx.Client(base_url=address, timeout=60, trust_env=False) as http,
        http.stream("POST", "/tts", json=body) as answer,
    ):
        pieces = answer.iter_raw()
        next(pieces)
        process.send_signal(signal.SIGTERM)
        with httpx.Client(base_url=address, trust_env=False) as other:
            while other.get("/ready").status_code == 200:
                pass
        process.send_signal(signal.SIGTERM)
        with pytest.raises(httpx.HTTPError):
            collections.deque(pieces, 0)
    assert process.wait(30) == 0


def test_settings_come_from_the_environment(start: Start) -> None:
    _, address = start(MYNAH_SERVER_API_KEYS="one,two", MYNAH_SERVER_MAX_TEXT_CHARACTERS="10")
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as http:
        assert http.get("/capabilities").status_code == 401
        headers = {"Authorization": "Bearer two"}
        limits: dict[str, Any] = http.get("/capabilities", headers=headers).json()["limits"]
        assert limits["text_characters"] == 10


def test_an_idle_server_stops_at_once(start: Start) -> None:
    process, address = start()
    with httpx.Client(base_url=address, trust_env=False) as http:
        assert http.get("/ready").status_code == 200  # and the connection stays open
        process.terminate()
        done = threading.Event()
        threading.Thread(target=lambda: (process.wait(), done.set())).start()
        assert done.wait(30)
    assert process.returncode == 0
