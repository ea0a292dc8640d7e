"""A few hundred short requests to a real server; ``benchmarks/load/soak.py`` makes ten thousand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.load import soak
from mynah.api import TTS
from mynah.server.runtime import Runtime
from mynah.server.settings import ServerSettings
from tests.server.conftest import (  # noqa: F401  # fixtures
    LiveServer,
    _no_network,
    _no_network_in_session,
    serve,
)
from tests.tiny_model import build_tiny_model

REQUESTS, CLIENTS = 300, 4
# A session's state is a few MB: one that stayed behind in ten requests would show.
GROWTH_BYTES = 24e6


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveServer]:
    build_tiny_model(tmp_path / "tiny", "nano")
    with TTS.load(tmp_path / "tiny", threads=1) as tts:
        yield from serve(Runtime(ServerSettings(data_dir=tmp_path), loaded={"tiny": tts}))


def test_memory_is_flat_and_no_session_is_left(live: LiveServer) -> None:
    found = asyncio.run(soak.soak(live.url, REQUESTS, clients=CLIENTS, watches=10))
    assert set(found["statuses"]) == {"200", "cancelled"}
    assert sum(found["statuses"].values()) == REQUESTS
    last = found["watched"][-1]
    assert (last["active"], last["listeners"], last["others"]) == (0, 0, 0)
    assert last["open_files"] <= found["watched"][1]["open_files"] + CLIENTS
    if last["memory_bytes"]:  # where the system tells it
        assert soak.growth(found) < GROWTH_BYTES
    engines = [thread for thread in threading.enumerate() if thread.name == "mynah-engine"]
    for thread in engines:
        thread.join(10)
    assert not any(thread.is_alive() for thread in engines)
