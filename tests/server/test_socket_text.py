"""Messages that sockets share: text cut inside a character, and what is no JSON."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mynah.api import TTS
from tests.fake_model import TEXT, fake_tts
from tests.server.conftest import LiveServer
from tests.server.loops import eventually
from tests.server.sockets import Socket, dialled, served

_ELEVENLABS = "/v1/text-to-speech/fake/stream-input"


@pytest.fixture(scope="module")
def tts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TTS]:
    with fake_tts(tmp_path_factory.mktemp("voices")) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def server(tts: TTS) -> Iterator[LiveServer]:
    with served(tts) as running:
        yield running


@pytest.fixture
def ws(server: LiveServer) -> Iterator[Socket]:
    with dialled(server) as socket:
        yield socket


def test_a_pair_of_surrogates_may_come_in_two_messages(ws: Socket, server: LiveServer) -> None:
    for parts in (["Hi \U0001f600 there. "], ["Hi \ud83d", "", "\ude00 there. "]):
        ws.send(type="start", voice="fake", seed=1)
        for part in parts:
            ws.send(type="text", text=part)
            ws.send(type="flush") if part[-1:] == "\ud83d" else None
        ws.send(type="end")
        assert ws.until("done")["characters"] == len("Hi \U0001f600 there. ")
    eventually(lambda: server.runtime.active == 0)


@pytest.mark.parametrize(
    "parts", [["Hi \ud83d"], ["Hi \ud83d", " there. "], ["Hi \ude00 there. "], ["\ud83d"]]
)
def test_half_a_character_fails_and_gives_its_place_back(
    ws: Socket, server: LiveServer, parts: list[str]
) -> None:
    ws.send(type="start", id="half", voice="fake")
    ws.until("ready")
    for part in parts:
        ws.send(type="text", text=part)
    ws.send(type="end")
    error = ws.next()
    assert isinstance(error, dict)
    assert (error["type"], error["error"], error["id"]) == ("error", "invalid_request", "half")
    assert "surrogate" in error["message"]
    eventually(lambda: server.runtime.active == 0)
    ws.send(type="start", voice="fake", text=TEXT)
    assert ws.until("done")


def test_what_is_no_json_is_told_with_an_example(server: LiveServer) -> None:
    with dialled(server, _ELEVENLABS) as ws:
        ws.connection.send("{")
        error = ws.next()
        assert isinstance(error, dict)
        assert '{"text": "Hello "}' in error["message"]
