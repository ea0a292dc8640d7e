"""What every test gets: no network, fixed seeds, an empty home of its own, speech-like sound."""

from __future__ import annotations

import os
import random
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from mynah.types import Audio
from tests.sounds import make_speechlike

# MYNAH_EXAMPLES=200 searches harder; the default is quick and the same every time.
_EXAMPLES = int(os.environ.get("MYNAH_EXAMPLES", "0"))
settings.register_profile(
    "mynah",
    deadline=None,
    max_examples=_EXAMPLES or 15,
    derandomize=not _EXAMPLES,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("mynah")


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    raise RuntimeError(f"a test tried to use the network: {args[1:] or args}")


def _block_network(patch: pytest.MonkeyPatch) -> None:
    for method in ("connect", "connect_ex", "sendto"):
        patch.setattr(socket.socket, method, _refuse)
    for function in ("getaddrinfo", "gethostbyname", "create_connection"):
        patch.setattr(socket, function, _refuse)


@pytest.fixture(scope="session", autouse=True)
def _no_network_in_session() -> Iterator[None]:
    """Nothing may connect, send or look up a name, in fixtures of any scope."""
    with pytest.MonkeyPatch.context() as patch:
        _block_network(patch)
        yield


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Block again for each test: the plugin pytest-socket, where installed, unblocks after one."""
    _block_network(monkeypatch)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Start every test from the same global random states."""
    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def mynah_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ``MYNAH_HOME`` for this test."""
    path = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("MYNAH_HOME", str(path))
    return path


@pytest.fixture
def speechlike() -> Audio:
    """Three seconds at 24 kHz that pass for speech: see ``tests.sounds``."""
    return make_speechlike(3.0, 24000)
