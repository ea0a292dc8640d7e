"""The clients that the documents show, run against a server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.api import TTS
from tests.fake_model import TEXT, fake_tts
from tests.server.conftest import LiveServer
from tests.server.sockets import dialled, served

DOCUMENT = Path(__file__).parents[2] / "docs/reference/websocket.md"
CODE = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def tts(tmp_path: Path) -> Iterator[TTS]:
    with fake_tts(tmp_path / "voices") as loaded:
        yield loaded


@pytest.fixture
def server(tts: TTS) -> Iterator[LiveServer]:
    with served(tts) as running:
        yield running


def run(code: str, server: LiveServer) -> dict[str, Any]:
    address = f"127.0.0.1:{server.port}"
    names: dict[str, Any] = {}
    assert "127.0.0.1:8080" in code
    exec(compile(code.replace("127.0.0.1:8080", address), str(DOCUMENT), "exec"), names)
    return names


def test_the_short_client(
    server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(CODE[0], server)
    assert len((tmp_path / "out.pcm").read_bytes()) > 24000


def test_the_client_whose_bit_rate_follows_the_network(server: LiveServer, tts: TTS) -> None:
    speak_all = run(CODE[1], server)["speak_all"]
    heard: list[Any] = []
    speak_all([TEXT, TEXT], heard.append, lambda: 20.0)
    samples = np.concatenate(heard)
    spoken = tts.synthesize(TEXT, "fake")
    assert len(samples) / 48000 == pytest.approx(2 * spoken.duration_s, abs=0.5)
    assert np.abs(samples).max() > 0.01
    with pytest.raises(RuntimeError, match="text"):
        speak_all(["x" * 20_001], heard.append)


def test_that_client_connects_again(server: LiveServer) -> None:
    names = run(CODE[1], server)
    heard: list[Any] = []
    sockets: list[Any] = []
    connect = names["connect"]

    def watched(url: str) -> Any:
        sockets.append(connect(url))
        return sockets[-1]

    def play(samples: Any) -> None:
        if not heard:
            sockets[0].close()  # in the middle of it
        heard.append(samples)

    names["connect"] = watched
    names["speak_all"]([TEXT], play)
    assert len(sockets) == 2
    with dialled(server) as ws:
        ws.send(type="ping")
        ws.until("pong")
