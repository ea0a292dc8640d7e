"""What goes wrong on DashScope's socket, and how its clients are told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from mynah.api import TTS
from mynah.engine.admission import Limits
from mynah.server.dashscope import Parameters, SsmlGuard
from tests.fake_model import TEXT, fake_tts
from tests.server.conftest import LiveServer
from tests.server.dashscope import LONG, PCM, client_of
from tests.server.loops import Engine, eventually
from tests.server.sockets import served


@pytest.fixture(scope="module")
def tts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TTS]:
    with fake_tts(tmp_path_factory.mktemp("voices")) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def server(tts: TTS) -> Iterator[LiveServer]:
    with served(tts, max_text_characters=5000) as running:
        yield running


@pytest.mark.parametrize(
    ("model", "parameters", "text", "code"),
    [
        ("cosyvoice-v1", {"voice": "nobody"}, "", "InvalidParameter"),
        ("cosyvoice-v1", {"voice": "../fake"}, "", "InvalidParameter"),
        ("no-such-model", {}, "", "ModelNotFound"),
        ("fake", {"format": "midi"}, "", "InvalidParameter"),
        ("fake", {"format": "opus", "bit_rate": 5}, "", "InvalidParameter"),
        ("fake", {"format": "opus", "bit_rate": 0}, "", "InvalidParameter"),
        ("fake", {"format": "opus", "bit_rate": 511}, "", "InvalidParameter"),
        ("fake", {"sample_rate": 11025}, "", "InvalidParameter"),
        ("fake", {"rate": 3}, "", "InvalidParameter"),
        ("fake", {"pitch": "NaN"}, "", "InvalidParameter"),
        ("fake", {"volume": 101}, "", "InvalidParameter"),
        ("fake", {"hot_fix": {"pronunciation": [{"word": "no sound"}]}}, "", "InvalidParameter"),
        ("fake", {"hot_fix": {"replace": [{"w" * 200: "x"}]}}, "", "InvalidParameter"),
        ("fake", {"hot_fix": {"replace": [{"word": '"'}]}}, "", "InvalidParameter"),
        ("fake", {"instruction": "happily"}, TEXT, "InvalidParameter"),
        ("fake", {}, "x" * 5001, "InvalidParameter"),
        ("fake", {"enable_ssml": True}, " <speak>Hello</speak>", "InvalidParameter"),
    ],
)
def test_what_is_wrong_fails_the_task(
    server: LiveServer, model: str, parameters: dict[str, Any], text: str, code: str
) -> None:
    with client_of(server) as client:
        task = client.run(model, **parameters)
        if text:
            client.until("task-started")
            client.text(text)
        assert client.close_code() == 1008
        failed = client.events[-1]
    assert failed["payload"] == {}
    header = failed["header"]
    assert (header["event"], header["task_id"], header["error_code"]) == ("task-failed", task, code)
    assert header["error_message"]
    assert header["attributes"]["error"] in (
        "invalid_request", "unknown_voice", "model_not_found", "unsupported"
    )  # fmt: skip


@pytest.mark.parametrize(
    "parts",
    [
        ("<sp", "eak>Hello</speak>"),
        ("\n", "<", "s", "p", "e", "a", "k", " version"),
        ("<speak",),
        ("Hello. ", " <speak>And again.</speak>"),
    ],
)
@pytest.mark.parametrize("parameters", [{"enable_ssml": True}, {"text_type": "SSML"}])
def test_ssml_in_pieces_is_refused_before_anything_is_said(
    server: LiveServer, parts: tuple[str, ...], parameters: dict[str, Any]
) -> None:
    with client_of(server) as client:
        client.run("fake", **parameters)
        client.until("task-started")
        for part in parts:
            client.text(part)
        assert client.close_code() == 1008
        header = client.events[-1]["header"]
    assert header["attributes"]["error"] == "unsupported"
    assert "SSML is not understood here (send plain text" in header["error_message"]


@pytest.mark.parametrize(
    "parts",
    [
        ("<sp", " is a short one. Hello there."),
        (" ", "<", "3 is a heart."),
        ("Hello ", "<sp", "eak there."),
        ("Hello \\<speak>", " there."),
    ],
)
def test_what_only_begins_like_ssml_is_spoken(server: LiveServer, parts: tuple[str, ...]) -> None:
    with client_of(server) as client:
        expected = client.speak("".join(parts), seed=1)
        assert client.speak(*parts, seed=1, enable_ssml=True) == expected
        assert len(expected) > 1000


def test_a_beginning_that_is_held_back_is_spoken_in_the_end() -> None:
    guard = SsmlGuard(Parameters(enable_ssml=True))
    assert [guard.feed(part) for part in (" ", "<s", "p")] == [" ", "", ""]
    assert guard.rest() == "<sp"
    assert guard.rest() == ""
    assert guard.feed("eak") == "eak"
    assert SsmlGuard(Parameters()).feed("<speak>") == "<speak>"


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"header": {"action": "run-task"}},
        {"header": {"action": "sing", "task_id": "t"}},
        {"header": {"action": "continue-task", "task_id": "t"}},
        {"header": {"action": "finish-task", "task_id": "t"}},
        {"header": {"action": "run-task", "task_id": "t"}, "payload": {"task": "asr"}},
        {"header": {"action": "run-task", "task_id": "t"}, "payload": {"parameters": []}},
        {"header": {"action": "run-task", "task_id": ["t"]}},
        {"header": []},
        {"header": {"action": "run-task", "task_id": "\ud800"}},
        {"header": {"action": "\ud800", "task_id": "t"}},
    ],
)
def test_messages_that_mean_nothing(server: LiveServer, message: dict[str, Any]) -> None:
    with client_of(server) as client:
        client.ws.send(**message)
        assert client.close_code() == 1008
        assert client.events[-1]["header"]["error_code"] == "InvalidParameter"
    eventually(lambda: server.runtime.active == 0)


def test_text_after_the_end_fails(server: LiveServer) -> None:
    with client_of(server) as client:
        client.run(**PCM)
        client.text(LONG)
        client.send("finish-task")
        client.text("more")
        assert client.close_code() == 1008


def test_silence_of_the_client_ends_the_task(tts: TTS) -> None:
    with served(tts, body_s=0.2) as server, client_of(server) as client:
        client.run(**PCM)
        assert client.close_code() == 1008
        assert client.events[-1]["header"]["error_code"] == "RequestTimeOut"


def test_no_room_is_told_with_when_to_come_back(
    server: LiveServer, tts: TTS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tts.engine, "limits", Limits(max_listeners=1))
    with client_of(server) as one, client_of(server) as other, Engine(tts) as engine:
        one.run(**PCM)
        one.text(LONG)
        one.until_audio()
        other.run(**PCM)
        other.text(TEXT)
        assert other.close_code() == 1013
        header = other.events[-1]["header"]
        assert header["error_code"] == "Throttling"
        assert header["attributes"]["retry_after_s"] >= 1
        one.ws.connection.close()
        engine.wait_for("cancelled")


def test_the_key_is_asked_for_before_there_is_a_socket(tts: TTS) -> None:
    with served(tts, api_keys=("secret",)) as server:
        with pytest.raises(InvalidStatus) as caught, client_of(server):
            pass
        assert caught.value.response.status_code == 401
        assert b'"InvalidApiKey"' in (caught.value.response.body or b"")
        key = {"Authorization": "bearer secret"}
        with client_of(server, additional_headers=key) as client:
            assert client.speak(TEXT, **PCM)


@pytest.mark.parametrize("parts", [["Hi \ud83d"], ["Hi \ud83d", " there. "], ["Hi \ude00. "]])
def test_half_a_character_fails_and_gives_its_place_back(
    server: LiveServer, parts: list[str]
) -> None:
    with client_of(server) as client:
        client.run(**PCM)
        for part in parts:
            client.text(part)
        client.send("finish-task")
        assert client.close_code() == 1008
        header = client.events[-1]["header"]
    assert (header["event"], header["error_code"]) == ("task-failed", "InvalidParameter")
    assert "surrogate" in header["error_message"]
    eventually(lambda: server.runtime.active == 0)
    with client_of(server) as client:
        assert client.speak(TEXT, **PCM)


@pytest.mark.parametrize("sent", ["{", "[1]"])
def test_what_is_no_message_is_told_with_an_example(server: LiveServer, sent: str) -> None:
    with client_of(server) as client:
        client.ws.connection.send(sent)
        assert client.close_code() == 1008
        message = client.events[-1]["header"]["error_message"]
    assert '"action": "run-task"' in message


@pytest.mark.parametrize(("bit_rate", "kbps"), [(6, 6), (256, 256), (510, 256)])
def test_bit_rates_of_opus(bit_rate: int, kbps: int) -> None:
    encoding = Parameters(format="opus", bit_rate=bit_rate).encoding
    assert encoding.bit_rate == 1000 * kbps
