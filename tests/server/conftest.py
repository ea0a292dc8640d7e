"""One real server with the embedded voice on 127.0.0.1 for the whole run; no other network."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from tokenizers.pre_tokenizers import ByteLevel

from mynah.api import TTS
from mynah.config import InstructConfig, ModelConfig
from mynah.hub import write_manifest
from mynah.server.app import create_app
from mynah.server.runtime import Runtime
from mynah.server.settings import ServerSettings

_LOCAL = ("127.0.0.1", "::1", "localhost")


def _guard(original: Any) -> Any:
    def connect(self: socket.socket, address: Any, *rest: Any) -> Any:
        if isinstance(address, tuple) and address[0] not in _LOCAL:
            raise RuntimeError(f"a test tried to use the network: {address}")
        return original(self, address, *rest)

    return connect


def _allow_local(patch: pytest.MonkeyPatch) -> None:
    for method in ("connect", "connect_ex"):
        patch.setattr(socket.socket, method, _guard(_ORIGINALS[method]))
    patch.setattr(socket, "getaddrinfo", _local_addresses)
    patch.setattr(socket, "create_connection", _CREATE_CONNECTION)


_ORIGINALS = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}
_GETADDRINFO, _CREATE_CONNECTION = socket.getaddrinfo, socket.create_connection


def _local_addresses(host: Any, *rest: Any, **options: Any) -> Any:
    if (host.decode() if isinstance(host, bytes) else host) not in (*_LOCAL, None, ""):
        raise RuntimeError(f"a test tried to look up {host}")
    return _GETADDRINFO(host, *rest, **options)


@pytest.fixture(scope="session", autouse=True)
def _no_network_in_session() -> Iterator[None]:
    """Here clients call the server on this machine, and nobody else."""
    with pytest.MonkeyPatch.context() as patch:
        _allow_local(patch)
        yield


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    _allow_local(monkeypatch)


@pytest.fixture(scope="session")
def server_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``MYNAH_HOME`` of the server of this run."""
    return tmp_path_factory.mktemp("server-home")


@pytest.fixture(scope="session")
def tiny_models(server_home: Path) -> Iterator[dict[str, TTS]]:
    """Random weights that answer at once: the default one like the embedded voice (English), and
    one that follows instructions and goes on with recordings."""
    from tests.tiny_model import build_tiny_model

    loaded = {}
    for name, family in (("tiny", "nano"), ("tiny3", "cosyvoice3")):
        folder = server_home / "models" / name
        build_tiny_model(folder, family)
        if family != "nano":
            _write_byte_vocabulary(folder / "tokenizer")
            _teach_styles(folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MYNAH_HOME", str(server_home))
            loaded[name] = TTS.load(folder, threads=1)
    yield loaded
    for tts in loaded.values():
        tts.close()


@pytest.fixture(scope="session")
def nano(server_home: Path) -> Iterator[TTS]:
    """The embedded voice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MYNAH_HOME", str(server_home / "nano"))
        tts = TTS.load("nano", threads=1)
    yield tts
    tts.close()


def _write_byte_vocabulary(folder: Path) -> None:
    folder.mkdir()
    vocab = {symbol: index for index, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")


def _teach_styles(folder: Path) -> None:
    """As a converted model of the third generation: it knows emotions and dialects by name."""
    path = folder / "config.json"
    config = ModelConfig.load(path)
    styles = InstructConfig(styles="cosyvoice3")
    path.write_text(config.model_copy(update={"instruct": styles}).model_dump_json(), "utf-8")
    write_manifest(folder)


@dataclass(frozen=True)
class LiveServer:
    """A server in a thread of this process."""

    port: int
    runtime: Runtime

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)


def serve(runtime: Runtime, app: FastAPI | None = None) -> Iterator[LiveServer]:
    """Run a server until the generator is closed; ``app`` = None: as it is made for ``runtime``."""
    config = uvicorn.Config(
        app or create_app(runtime), host="127.0.0.1", port=0, log_config=None, access_log=False
    )
    logging.getLogger("uvicorn.access").propagate = False  # as ``configure_logs`` does
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield LiveServer(listening.getsockname()[1], runtime)
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()


@pytest.fixture(scope="session")
def live(tiny_models: dict[str, TTS], server_home: Path) -> Iterator[LiveServer]:
    """A server that anybody on this machine may use; its default model is ``tiny``."""
    settings = ServerSettings(
        data_dir=server_home / "data", models=("tiny", "tiny3"), max_sessions=16
    )
    yield from serve(Runtime(settings, loaded=tiny_models))


@pytest.fixture(scope="session")
def spoken_live(nano: TTS, server_home: Path) -> Iterator[LiveServer]:
    """The same with the embedded voice: real speech, and slower."""
    settings = ServerSettings(data_dir=server_home / "nano-data", models=("nano",))
    yield from serve(Runtime(settings, loaded={"nano": nano}))


@pytest.fixture
def http(live: LiveServer) -> Iterator[httpx.Client]:
    """A client of that server."""
    with live.client() as client:
        yield client


@pytest.fixture(scope="session")
def recording() -> bytes:
    """Four seconds that pass for speech, as the bytes of a WAV file."""
    from mynah.audio.io import encode_audio
    from tests.sounds import make_speechlike

    return encode_audio(make_speechlike(4.0, 24000), "wav")
