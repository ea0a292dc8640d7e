"""Wyoming, by the client of the ``wyoming`` package and by bare bytes."""

from __future__ import annotations

import json
import socket
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mynah.api import TTS
from mynah.server.runtime import Runtime
from mynah.server.settings import ServerSettings
from mynah.server.wyoming import WyomingServer, start_wyoming
from tests.fake_model import TEXT, fake_tts
from tests.server.loops import Engine, LoopThread, loop_thread

with warnings.catch_warnings():  # it imports a module that Python 3.13 drops
    warnings.simplefilter("ignore", DeprecationWarning)
    from wyoming.audio import AudioChunk, AudioStart, AudioStop
    from wyoming.client import AsyncTcpClient
    from wyoming.error import Error
    from wyoming.event import Event
    from wyoming.info import Describe, Info
    from wyoming.ping import Ping, Pong
    from wyoming.tts import (
        Synthesize,
        SynthesizeChunk,
        SynthesizeStart,
        SynthesizeStop,
        SynthesizeStopped,
        SynthesizeVoice,
    )

LONG = "This goes on for quite a while, with many words in it. " * 60
VOICE = SynthesizeVoice(name="fake")


@pytest.fixture(scope="module")
def tts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TTS]:
    with fake_tts(tmp_path_factory.mktemp("voices")) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def loop() -> Iterator[LoopThread]:
    with loop_thread() as running:
        yield running


def serve(loop: LoopThread, tts: TTS, **settings: Any) -> WyomingServer:
    runtime = Runtime(ServerSettings(models=("fake",), **settings), loaded={"fake": tts})
    return loop.run(start_wyoming(runtime, port=0))


@pytest.fixture(scope="module")
def server(loop: LoopThread, tts: TTS) -> Iterator[WyomingServer]:
    running = serve(loop, tts, max_text_characters=5000)
    yield running
    loop.run(running.aclose())


def talk(loop: LoopThread, server: WyomingServer, *events: Event, until: str) -> list[Event]:
    """Send events; return what comes up to one of a type, or to the end."""

    async def run() -> list[Event]:
        found = []
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            for event in events:
                await client.write_event(event)
            while (event := await client.read_event()) is not None:
                found.append(event)
                if event.type == until:
                    break
        return found

    return loop.run(run())


def samples(events: list[Event]) -> Any:
    chunks = [AudioChunk.from_event(event) for event in events if AudioChunk.is_type(event.type)]
    assert {(chunk.rate, chunk.width, chunk.channels) for chunk in chunks} == {(24000, 2, 1)}
    assert all(len(chunk.audio) <= 2048 for chunk in chunks)
    return np.frombuffer(b"".join(chunk.audio for chunk in chunks), "<i2") / 32768


def test_describe_names_every_voice(loop: LoopThread, server: WyomingServer) -> None:
    (event,) = talk(loop, server, Describe().event(), until="info")
    info = Info.from_event(event)
    (program,) = info.tts
    assert program.supports_synthesize_streaming
    assert [voice.name for voice in program.voices] == ["fake", "other"]
    assert all(voice.languages and voice.installed for voice in program.voices)
    assert {"asr", "handle", "intent", "wake", "mic", "snd"} <= set(event.data)


def test_ping(loop: LoopThread, server: WyomingServer) -> None:
    (event,) = talk(loop, server, Ping(text="x").event(), until="pong")
    assert Pong.from_event(event).text == "x"


def test_one_shot(loop: LoopThread, server: WyomingServer, tts: TTS) -> None:
    request = Synthesize(text=TEXT, voice=VOICE).event()
    events = talk(loop, server, Event("unknown-thing"), request, until="audio-stop")
    assert AudioStart.is_type(events[0].type)
    assert AudioStop.is_type(events[-1].type)
    assert len(samples(events)) == pytest.approx(len(tts.synthesize(TEXT, "fake")), rel=0.2)
    times = [event.data["timestamp"] for event in events]
    assert times == sorted(times)


def test_several_on_one_connection(loop: LoopThread, server: WyomingServer) -> None:
    request = Synthesize(text="Hello there.", voice=VOICE).event()
    wrong = Event("synthesize", {"text": TEXT, "voice": {"name": "nobody"}})
    events = talk(loop, server, request, request, wrong, until="error")
    assert [event.type for event in events if event.type != "audio-chunk"] == [
        "audio-start",
        "audio-stop",
        "audio-start",
        "audio-stop",
        "error",
    ]


def test_streaming_text(loop: LoopThread, server: WyomingServer) -> None:
    chunks = [SynthesizeChunk(text=TEXT[i : i + 5]).event() for i in range(0, len(TEXT), 5)]
    events = talk(
        loop,
        server,
        SynthesizeStart(voice=VOICE).event(),
        *chunks,
        Synthesize(text=TEXT, voice=VOICE).event(),  # for older servers: not spoken twice
        SynthesizeStop().event(),
        until="synthesize-stopped",
    )
    assert [event.type for event in events].count("audio-start") == 1
    assert [event.type for event in events].count("audio-stop") == 1
    assert SynthesizeStopped.is_type(events[-1].type)
    assert AudioStop.is_type(events[-2].type)
    assert len(samples(events)) > 24000


def test_audio_comes_before_the_text_ends(loop: LoopThread, server: WyomingServer) -> None:
    async def run() -> None:
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            await client.write_event(SynthesizeStart(voice=VOICE).event())
            await client.write_event(SynthesizeChunk(text=TEXT + " And then ").event())
            while not AudioChunk.is_type((await client.read_event()).type):
                pass
            await client.write_event(SynthesizeStop().event())
            while not SynthesizeStopped.is_type((await client.read_event()).type):
                pass

    loop.run(run())


def test_a_stream_without_text_is_stopped_too(loop: LoopThread, server: WyomingServer) -> None:
    start, stop = SynthesizeStart(voice=VOICE).event(), SynthesizeStop().event()
    events = talk(loop, server, start, stop, until="synthesize-stopped")
    assert [event.type for event in events] == ["synthesize-stopped"]


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (Synthesize(text=TEXT, voice=SynthesizeVoice(name="nobody")).event(), "unknown_voice"),
        (Synthesize(text=TEXT, voice=SynthesizeVoice(name="../x")).event(), "unknown_voice"),
        (Synthesize(text="x" * 5001, voice=VOICE).event(), "invalid_request"),
        (Synthesize(text=" ", voice=VOICE).event(), "invalid_request"),
        (Event("synthesize", {"text": 5}), "invalid_request"),
        (Event("synthesize", {"text": TEXT, "voice": 5}), "invalid_request"),
        (Event("synthesize", {"text": TEXT, "voice": {"name": 5}}), "invalid_request"),
        (Event("synthesize", {"text": TEXT, "text_format": "ssml"}), "unsupported"),
    ],
)
def test_an_error_is_told_and_ends_the_connection(
    loop: LoopThread, server: WyomingServer, event: Event, code: str
) -> None:
    (answer,) = talk(loop, server, event, until="never")
    assert Error.from_event(answer).code == code
    assert Error.from_event(answer).text


def test_a_stream_that_fails_is_stopped(loop: LoopThread, server: WyomingServer) -> None:
    events = talk(
        loop,
        server,
        SynthesizeStart(voice=SynthesizeVoice(name="nobody")).event(),
        SynthesizeChunk(text="Hello. ").event(),
        until="never",
    )
    assert [event.type for event in events] == ["error", "synthesize-stopped"]


def raw(server: WyomingServer, data: bytes) -> list[dict[str, Any]]:
    """What comes for bytes, line by line, up to the end of the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(data)
        connection.settimeout(20)
        found = []
        with connection.makefile("rb") as file:
            while line := file.readline():
                head = json.loads(line)
                head["data"] = json.loads(file.read(head.get("data_length") or 0) or b"{}")
                file.read(head.get("payload_length") or 0)
                found.append(head)
        return found


@pytest.mark.parametrize(
    "data",
    [
        b"hello\n",
        b"[]\n",
        b'{"data": {}}\n',
        b'{"type": "ping", "data_length": -1}\n',
        b'{"type": "ping", "data_length": "9"}\n',
        b'{"type": "ping", "data_length": 99999999}\n',
        b'{"type": "ping", "payload_length": 99999999999}\n',
        b'{"type": "ping", "data_length": 3}\nabc',
        b"x" * 1_100_000 + b"\n",
    ],
)
def test_malformed_bytes_are_refused(server: WyomingServer, data: bytes) -> None:
    (answer,) = raw(server, data)
    assert answer["type"] == "error"
    assert answer["data"]["code"] in ("invalid_request", "too_large")


def test_data_may_stand_in_the_line_and_after_it(server: WyomingServer) -> None:
    body = b'{"text": "b"}'
    line = b'{"type":"ping","data":{"text":"a"},"data_length":13,"payload_length":4}\n'
    answers = raw(server, line + body + b"xxxx" + b'{"type":"ping","data":{"text":"c"}}\nbad\n')
    assert [answer["data"].get("text") for answer in answers[:2]] == ["b", "c"]


def test_a_client_that_leaves_stops_the_work(
    loop: LoopThread, server: WyomingServer, tts: TTS
) -> None:
    for start in (
        [Synthesize(text=LONG, voice=VOICE).event()],
        [SynthesizeStart(voice=VOICE).event(), SynthesizeChunk(text=LONG).event()],
    ):
        with Engine(tts) as engine:
            talk(loop, server, *start, until="audio-chunk")
            engine.wait_for("cancelled")


def test_a_slow_client_holds_nobody_and_is_let_go(loop: LoopThread, tts: TTS) -> None:
    server = serve(loop, tts, stall_s=0.5)
    with Engine(tts) as engine, socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", server.port))
        data = json.dumps({"text": LONG * 5, "voice": {"name": "fake"}})
        stuck.sendall(b'{"type": "synthesize", "data": ' + data.encode() + b"}\n")
        assert stuck.recv(10)
        assert talk(loop, server, Synthesize(text=TEXT, voice=VOICE).event(), until="audio-stop")
        engine.wait_for("finished", "cancelled")
    loop.run(server.aclose())


def test_texts_count_in_the_limit_of_requests(loop: LoopThread, tts: TTS) -> None:
    server = serve(loop, tts, requests_per_minute=0.001, burst=2, api_keys=("secret",))
    whole = [Synthesize(text=TEXT, voice=VOICE).event()]
    parts = [
        SynthesizeStart(voice=VOICE).event(),
        SynthesizeChunk(text=TEXT).event(),
        SynthesizeStop().event(),
    ]
    ping = [Ping().event()] * 5  # what makes no speech costs nothing
    assert talk(loop, server, *ping, *whole, until="audio-stop")[-1].type == "audio-stop"
    assert talk(loop, server, *parts, until="audio-stop")[-1].type == "audio-stop"
    for texts in (whole, parts):
        last = talk(loop, server, *ping, *texts, until="audio-stop")[-1]
        assert (last.type, last.data["code"]) == ("error", "rate_limited")
    loop.run(server.aclose())


def test_closing_the_server_stops_the_work(loop: LoopThread, tts: TTS) -> None:
    server = serve(loop, tts)
    with Engine(tts) as engine, socket.create_connection(("127.0.0.1", server.port)) as client:
        data = json.dumps({"text": LONG, "voice": {"name": "fake"}})
        client.sendall(b'{"type": "synthesize", "data": ' + data.encode() + b"}\n")
        assert client.recv(10)
        loop.run(server.aclose())
        engine.wait_for("cancelled")
