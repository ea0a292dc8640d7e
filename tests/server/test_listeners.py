"""Ports besides that of HTTP: opened and closed with the server."""

from __future__ import annotations

import socket
from pathlib import Path

import grpc
import pytest
from fastapi import FastAPI

from mynah.errors import InvalidRequestError
from mynah.server.listeners import lifespan
from mynah.server.runtime import Runtime
from mynah.server.settings import ServerSettings
from tests.fake_model import fake_tts
from tests.server.loops import loop_thread
from tests.server.test_grpc import METHOD, sft


def test_both_listen_as_long_as_the_server_lives(tmp_path: Path) -> None:
    settings = ServerSettings(models=("fake",), grpc_port=0, wyoming_port=0)
    with fake_tts(tmp_path) as tts, loop_thread() as loop:
        app, runtime = FastAPI(), Runtime(settings, loaded={"fake": tts})
        manager = lifespan(app, runtime)
        loop.run(manager.__aenter__())
        ports = app.state.grpc_port, app.state.wyoming_port
        channel = grpc.insecure_channel(f"127.0.0.1:{ports[0]}")
        assert list(channel.unary_stream(METHOD)(sft("Hello there.", "fake"), timeout=60))
        channel.close()
        with socket.create_connection(("127.0.0.1", ports[1]), timeout=20) as client:
            client.sendall(b'{"type": "ping"}\n')
            assert b"pong" in client.recv(1000)
        loop.run(manager.__aexit__(None, None, None))
        for port in ports:
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", port), timeout=20)


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, loop_thread() as loop:
        port = taken.getsockname()[1]
        for name in ("grpc_port", "wyoming_port"):
            runtime = Runtime(ServerSettings(**{name: port}))
            with pytest.raises(InvalidRequestError, match="nobody can listen"):
                loop.run(lifespan(FastAPI(), runtime).__aenter__())


def test_wyoming_is_not_opened_to_everybody_by_accident() -> None:
    public = {"host": "0.0.0.0", "wyoming_port": 10200, "api_keys": ("k",)}
    with pytest.raises(InvalidRequestError, match="Wyoming"):
        ServerSettings(**public).check_exposure()
    ServerSettings(**public, allow_public=True).check_exposure()
