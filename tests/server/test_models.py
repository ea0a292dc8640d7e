"""Models that come and go while the server runs."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mynah.api import TTS
from mynah.engine.admission import Limits
from mynah.errors import ModelNotFoundError, OverloadedError
from mynah.server.models import IDLE_S, Models
from mynah.server.runtime import Runtime
from mynah.server.settings import ServerSettings
from tests.server.conftest import serve

HELLO = {"text": "Hello there.", "seed": 1}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``MYNAH_HOME`` of a server that has the model ``first`` only."""
    monkeypatch.setenv("MYNAH_HOME", str(tmp_path))
    return tmp_path


def install(home: Path, source: Path, name: str) -> None:
    """As pulling does it: the folder appears when it is complete."""
    (home / "models").mkdir(exist_ok=True)
    shutil.copytree(source, home / "half")
    (home / "half").rename(home / "models" / name)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def models(
    home: Path, tiny_models: dict[str, TTS], server_home: Path, clock: Clock
) -> Iterator[Models]:
    """Room for two; ``a``, ``b`` and ``c`` are installed."""
    for name in "abc":
        install(home, server_home / "models" / "tiny", name)
    settings = ServerSettings(models=("a", "b", "c"), max_models=2, threads=1)
    made = Models(settings, {}, lambda *call: None, clock)
    yield made
    made.close()


def test_a_model_that_is_installed_meanwhile_speaks(
    home: Path, tiny_models: dict[str, TTS], server_home: Path
) -> None:
    tiny = tiny_models["tiny"]
    runtime = Runtime(ServerSettings(data_dir=home, threads=1), loaded={"tiny": tiny})
    for live in serve(runtime):
        with live.client() as client:
            assert client.post("/tts", json={**HELLO, "model": "later"}).status_code == 404
            install(home, server_home / "models" / "tiny", "later")
            assert "later" in _listed(client)
            assert client.get("/v1/models/later").status_code == 200
            assert client.get("/health").json()["models_loaded"] == ["tiny"]
            answers = [client.post("/tts", json={**HELLO, "model": m}) for m in ("later", "tiny")]
            assert answers[0].headers["x-model"] == "later"
            assert answers[0].content == answers[1].content
            assert client.get("/health").json()["models_loaded"] == ["tiny", "later"]
            assert client.get("/capabilities").json()["default_model"] == "tiny"


def _listed(client: httpx.Client) -> list[str]:
    return [model["id"] for model in client.get("/v1/models").json()["data"]]


def test_a_known_model_that_is_not_installed(home: Path, tiny_models: dict[str, TTS]) -> None:
    models = Models(ServerSettings(), {"tiny": tiny_models["tiny"]}, lambda *call: None)
    with pytest.raises(ModelNotFoundError, match=r"mynah pull cosyvoice2-0\.5b") as caught:
        models.load("cosyvoice2-0.5b")
    assert "without a restart" in caught.value.hint
    with pytest.raises(ModelNotFoundError, match="choose one of tiny"):
        models.load("nobody")


def test_only_models_on_offer_are_loaded(models: Models) -> None:
    with pytest.raises(ModelNotFoundError, match="a, b, c"):
        models.load("nano")
    assert models.names() == ["a", "b", "c"]
    assert models.default() == "a"


def test_an_unused_model_makes_room(models: Models, clock: Clock) -> None:
    first, second = models.load("a"), models.load("b")
    assert models.load("b") is second
    clock.now = IDLE_S
    third = models.load("c")
    assert models.loaded("b") is None
    assert models.loaded("a") is first  # the default one stays
    assert third.synthesize("Hello.", seed=1).duration_s > 0
    limits = third.engine.limits
    assert isinstance(limits, Limits)
    assert limits.headroom == ServerSettings().headroom


def test_models_in_use_stay(models: Models, clock: Clock) -> None:
    """What was asked for just now, or speaks, is not taken away; the answer is a typed error."""
    models.load("a")
    models.load("b")
    with pytest.raises(OverloadedError, match="the limit is 2") as caught:
        models.load("c")
    assert caught.value.retry_after_s > 0
    models.hold("b")
    clock.now = 2 * IDLE_S
    with pytest.raises(OverloadedError):
        models.load("c")
    models.release("b")
    with pytest.raises(OverloadedError):
        models.load("c")  # it ended just now
    clock.now = 4 * IDLE_S
    models.load("c")


def test_all_who_ask_at_once_get_one(
    home: Path, tiny_models: dict[str, TTS], server_home: Path
) -> None:
    install(home, server_home / "models" / "tiny", "a")
    runtime = Runtime(ServerSettings(models=("a",), threads=1))

    async def ask() -> list[TTS]:
        return list(await asyncio.gather(*(runtime.tts("a") for _ in range(8))))

    assert len(set(map(id, asyncio.run(ask())))) == 1
    runtime.close()
