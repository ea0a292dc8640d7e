"""What nobody expected goes wrong on a socket: its client is told, and the server lives on."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi import WebSocket
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed

from mynah.api import TTS
from mynah.errors import ModelFormatError
from mynah.server.app import create_app
from mynah.server.logs import JsonLines, TextLines
from mynah.server.runtime import Runtime
from mynah.server.settings import ServerSettings
from tests.fake_model import SHORT, TEXT, breaking, fake_model, fake_tts
from tests.server.conftest import LiveServer, serve
from tests.server.dashscope import PCM, client_of
from tests.server.loops import eventually
from tests.server.sockets import Socket, dialled, served

SECRET = "marmalade"
HEADERS = {"X-Request-ID": "call-7"}
SINGLE = "/v1/text-to-speech/fake/stream-input?output_format=pcm_24000"
SEVERAL = "/v1/text-to-speech/fake/multi-stream-input?output_format=pcm_24000"


class Fuse:
    """Breaks the language model while ``is_blown``."""

    def __init__(self) -> None:
        self.is_blown = False
        self.calls_left: int | None = None
        """After so many it blows by itself; None = never."""

    def __call__(self, original: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if self.calls_left is not None:
            self.is_blown = self.calls_left == 0
            self.calls_left -= 1
        if self.is_blown:
            raise KeyError(SECRET)
        return original(*args, **options)


@pytest.fixture
def fuse() -> Fuse:
    return Fuse()


@pytest.fixture
def tts(tmp_path_factory: pytest.TempPathFactory, fuse: Fuse) -> Iterator[TTS]:
    model = fake_model(change=breaking("lm", "prefill", fuse))
    with fake_tts(tmp_path_factory.mktemp("voices"), model) as loaded:
        yield loaded


@pytest.fixture
def server(tts: TTS) -> Iterator[LiveServer]:
    with served(tts) as running:
        yield running


@contextmanager
def logged(form: logging.Formatter) -> Iterator[io.StringIO]:
    """The server's errors as they are written."""
    stream, logger = io.StringIO(), logging.getLogger("mynah.server")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(form)
    handler.setLevel("ERROR")
    logger.addHandler(handler)
    try:
        yield stream
    finally:
        logger.removeHandler(handler)


def errors(server: LiveServer) -> dict[tuple[str, str], float]:
    with server.client() as client:
        text = client.get("/metrics").text
    return {
        (sample.labels["code"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "mynah_errors_total"
    }


def closed(ws: Socket) -> tuple[int, str]:
    """Code and reason with which the server closes."""
    try:
        while True:
            ws.next()
    except ConnectionClosed as error:
        return (error.rcvd.code, error.rcvd.reason) if error.rcvd is not None else (1006, "")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tts", {"text": TEXT, "stream": True}),
        ("/v1/audio/speech", {"input": TEXT, "stream_format": "sse", "model": "fake"}),
        ("/v1/text-to-speech/fake/stream/with-timestamps", {"text": TEXT}),
    ],
)
def test_a_stream_that_breaks_after_its_headers_is_counted(
    server: LiveServer, fuse: Fuse, path: str, body: dict[str, Any]
) -> None:
    fuse.calls_left = 1  # the first sentence is spoken
    received = b""
    with server.client() as client:
        try:
            with client.stream("POST", path, json=body) as answer:
                assert answer.status_code == 200
                for piece in answer.iter_raw():
                    received += piece
        except httpx.RemoteProtocolError:
            assert path == "/tts"  # the others tell it in their last words
    assert len(received) > 1000
    eventually(lambda: errors(server) == {("internal", "500"): 1})


def test_what_fails_inside_of_an_answer_is_counted(server: LiveServer, fuse: Fuse) -> None:
    body = {"items": [{"input": SHORT}, {"input": SHORT, "voice": "nobody"}], "voice": "fake"}
    with server.client() as client:
        answer = client.post("/v1/audio/speech/batch", json=body).json()
    assert (answer["succeeded"], answer["failed"]) == (1, 1)
    assert errors(server) == {("unknown_voice", "404"): 1}


def test_own_protocol_tells_and_goes_on(server: LiveServer, fuse: Fuse) -> None:
    with dialled(server, additional_headers=HEADERS) as ws, logged(JsonLines()) as log:
        fuse.is_blown = True
        ws.send(type="start", id="a", text=SHORT)
        while (message := ws.next())["type"] != "error":  # type: ignore[call-overload,index]
            pass
        assert isinstance(message, dict)
        assert (message["id"], message["error"]) == ("a", "internal")
        assert SECRET not in json.dumps(message)
        fuse.is_blown = False
        ws.send(type="start", id="b", text=SHORT)
        ws.until("done")
        assert ws.audio
    (line,) = (json.loads(line) for line in log.getvalue().splitlines())
    assert line["request_id"] == "call-7"
    assert "KeyError" in line["message"]
    assert SECRET not in log.getvalue()
    assert errors(server) == {("internal", "500"): 1.0}


def test_elevenlabs_tells_and_closes(server: LiveServer, fuse: Fuse) -> None:
    fuse.is_blown = True
    with (
        dialled(server, SINGLE, additional_headers=HEADERS) as ws,
        logged(TextLines()) as log,
    ):
        ws.send(text=" ")
        ws.send(text=SHORT + " ")
        ws.send(text="")
        message = ws.next()
        assert isinstance(message, dict)
        assert (message["error"], message["code"]) == ("internal", 1011)
        code, reason = closed(ws)
    assert code == 1011
    assert reason
    assert SECRET not in json.dumps(message) + reason + log.getvalue()
    (line,) = log.getvalue().splitlines()
    assert "KeyError" in line
    assert line.endswith(" call-7")
    assert errors(server) == {("internal", "500"): 1.0}
    fuse.is_blown = False
    with dialled(server, SINGLE) as ws:
        ws.send(text=" ")
        ws.send(text=SHORT + " ")
        ws.send(text="")
        assert ws.next()["audio"]  # type: ignore[call-overload,index]


def test_elevenlabs_other_contexts_go_on(server: LiveServer, fuse: Fuse) -> None:
    with dialled(server, SEVERAL) as ws:
        fuse.is_blown = True
        ws.send(text=" ", context_id="a")
        ws.send(text=SHORT + " ", context_id="a", flush=True)
        message = ws.next()
        assert isinstance(message, dict)
        assert (message["contextId"], message["error"]) == ("a", "internal")
        fuse.is_blown = False
        ws.send(text=" ", context_id="b")
        ws.send(text=SHORT + " ", context_id="b", flush=True)
        heard = ws.next()
        assert isinstance(heard, dict)
        assert heard["contextId"] == "b"
        assert heard["audio"]
    assert errors(server) == {("internal", "500"): 1.0}


def test_dashscope_fails_the_task_and_closes(server: LiveServer, fuse: Fuse) -> None:
    fuse.is_blown = True
    with client_of(server) as client:
        task = client.run(**PCM)
        client.until("task-started")
        client.text(SHORT)
        client.send("finish-task")
        assert client.close_code() == 1011
        header = client.events[-1]["header"]
    assert (header["event"], header["task_id"]) == ("task-failed", task)
    assert header["error_code"] == "InternalError"
    assert SECRET not in json.dumps(header)
    assert errors(server) == {("internal", "500"): 1.0}
    fuse.is_blown = False
    with client_of(server) as client:
        assert client.speak(SHORT, **PCM)
    eventually(lambda: server.runtime.active == 0)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyError(SECRET), "internal"),
        (ExceptionGroup(SECRET, [ValueError(SECRET)]), "internal"),
        (ModelFormatError(SECRET), "model_format"),
    ],
)
def test_what_a_handler_lets_through_closes_its_socket(
    tts: TTS, error: Exception, code: str
) -> None:
    """Not the connection alone: then a client could not tell it from a broken line."""
    runtime = Runtime(ServerSettings(models=("fake",)), loaded={"fake": tts})
    app = create_app(runtime)

    @app.websocket("/broken")
    async def broken(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("{}")
        raise error

    for live in serve(runtime, app):
        with dialled(live, "/broken", additional_headers=HEADERS) as ws:
            assert ws.next() == {}
            assert closed(ws) == (1011, f"{code}, request call-7")
        eventually(lambda live=live: errors(live) == {(code, "500"): 1.0})
        assert httpx.get(f"{live.url}/live", trust_env=False).status_code == 200
