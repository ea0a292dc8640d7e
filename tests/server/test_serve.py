"""``mynah serve`` as a process: what it refuses, and how it ends."""

from __future__ import annotations

import collections
import os
import queue
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

Start = Callable[..., "tuple[subprocess.Popen[str], str, Log]"]


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


class Log(threading.Thread):
    """Reads what a process says, so that it never waits for a reader."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self.lines: list[str] = []
        self.address: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        for line in self._stream:
            self.lines.append(line)
            if found := _ADDRESS.search(line):
                self.address.put(found[1])
        self.address.put(None)

    def whole(self) -> str:
        """All of it, once the process has ended."""
        self.join()
        return "".join(self.lines)


@pytest.fixture
def start(tiny_models: dict[str, TTS], server_home: Path, mynah_home: Path) -> Iterator[Start]:
    """Start servers of the tiny model on free ports; they are killed in the end."""
    running: list[tuple[subprocess.Popen[str], Log]] = []
    shutil.copytree(server_home / "models" / "tiny", mynah_home / "models" / "tiny")

    def run(*words: str, **variables: str) -> tuple[subprocess.Popen[str], str, Log]:
        process = subprocess.Popen(
            [sys.executable, "-m", "mynah", "serve", "--model", "tiny", "--port", "0", *words],
            env=environment(mynah_home, **variables),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        log = Log(process.stderr)
        running.append((process, log))
        address = log.address.get()
        assert address is not None, log.whole()
        return process, address, log

    yield run
    for process, log in running:
        process.kill()
        process.wait()
        log.join()
        assert process.stderr is not None
        process.stderr.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines"),
        (["--host", "::"], "can be reached from other machines"),
        (["--port", "70000"], "port"),
        (["--model", "nobody"], "nobody"),
        (["--api-key", " "], "api_keys"),
        (["--port", "0", "--data-dir", f"{__file__}/x"], "data folder"),
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
    _, address, _ = start()
    port = address.rsplit(":", 1)[1]
    for option in ("--port", "--grpc-port", "--wyoming-port"):
        others = [] if option == "--port" else ["--port", "0"]
        result = mynah(mynah_home, "--model", "nano", *others, option, port)
        assert result.returncode == 2
        assert "cannot listen" in result.stderr
        assert f"another {option} " in result.stderr
        assert "Traceback" not in result.stderr


def test_told_to_stop_it_finishes_what_it_began(start: Start) -> None:
    """SIGTERM in the middle of a speech: the speech goes on, new ones are refused, then 0."""
    process, address, log = start("--log-format", "json")
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
    said = log.whole()
    assert "Traceback" not in said
    assert '"route": "/tts"' in said
    assert "Marmalade" not in said


def test_the_second_signal_ends_it_at_once(start: Start) -> None:
    process, address, _ = start("--drain", "3600")
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
    _, address, _ = start(MYNAH_SERVER_API_KEYS="one,two", MYNAH_SERVER_MAX_TEXT_CHARACTERS="10")
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as http:
        assert http.get("/capabilities").status_code == 401
        headers = {"Authorization": "Bearer two"}
        limits: dict[str, Any] = http.get("/capabilities", headers=headers).json()["limits"]
        assert limits["text_characters"] == 10


def test_an_idle_server_stops_at_once(start: Start) -> None:
    process, address, _ = start()
    with httpx.Client(base_url=address, trust_env=False) as http:
        assert http.get("/ready").status_code == 200  # and the connection stays open
        process.terminate()
        done = threading.Event()
        threading.Thread(target=lambda: (process.wait(), done.set())).start()
        assert done.wait(30)
    assert process.returncode == 0
