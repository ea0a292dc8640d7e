"""Clients that misbehave hold nobody else: slow readers, slow senders, and those that vanish."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from mynah.api import TTS
from tests.fake_model import TEXT, fake_tts
from tests.server.conftest import LiveServer
from tests.server.loops import Engine, eventually
from tests.server.sockets import served

BAD = 12
"""More than the threads that any pool of the server has for each core."""
STALL_S = 0.5


@pytest.fixture
def tts(tmp_path: Path) -> Iterator[TTS]:
    tts = fake_tts(tmp_path)
    yield tts
    tts.close()


@pytest.fixture
def server(tts: TTS) -> Iterator[LiveServer]:
    with served(tts, stall_s=STALL_S, body_s=STALL_S) as server:
        yield server


def request(text: str) -> bytes:
    fields = {"text": text, "voice": "fake", "stream": True, "sample_rate": 96000}
    body = json.dumps(fields).encode()
    head = f"POST /tts HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Content-Type: application/json\r\n\r\n".encode() + body


def dial(server: LiveServer) -> socket.socket:
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", server.port))
    return raw


def assert_served(server: LiveServer) -> None:
    with server.client() as client:
        answer = client.post("/tts", json={"text": TEXT, "voice": "fake", "stream": True})
        assert answer.status_code == 200
        assert len(answer.content) > 2000


def test_slow_readers(server: LiveServer, tts: TTS) -> None:
    with Engine(tts) as engine:
        stuck = [dial(server) for _ in range(BAD)]
        for raw in stuck:
            raw.sendall(request(TEXT * 200))
        for raw in stuck:
            assert raw.recv(12) == b"HTTP/1.1 200"
        assert_served(server)
        engine.wait_for("finished", *["cancelled"] * BAD)
        for raw in stuck:
            raw.close()
    eventually(lambda: server.runtime.active == 0)


def test_readers_that_vanish(server: LiveServer, tts: TTS) -> None:
    with Engine(tts) as engine:
        for _ in range(BAD):
            raw = dial(server)
            raw.sendall(request(TEXT * 200))
            assert raw.recv(12) == b"HTTP/1.1 200"
            # Closed without a word: the next packet is answered by a reset.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.close()
        assert_served(server)
        eventually(lambda: len(engine.outcomes) == BAD + 1)
        assert sorted(engine.outcomes) == ["cancelled"] * BAD + ["finished"]
    eventually(lambda: server.runtime.active == 0)


def test_senders_that_never_finish(server: LiveServer) -> None:
    half = [dial(server) for _ in range(BAD)]
    for raw in half:
        raw.sendall(request(TEXT)[:-5])
    assert_served(server)
    for raw in half:
        raw.settimeout(20)
        assert raw.recv(12) == b"HTTP/1.1 408"
        raw.close()
    eventually(lambda: server.runtime.active == 0)


def test_senders_that_never_begin(server: LiveServer) -> None:
    idle = [dial(server) for _ in range(10 * BAD)]
    for raw in idle:
        raw.sendall(b"POST /tts HT")
    assert_served(server)
    for raw in idle:
        raw.close()
