"""The server's own protocol over a WebSocket, by a real client."""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from mynah.api import TTS
from tests.fake_model import TEXT, fake_tts
from tests.server.conftest import LiveServer
from tests.server.loops import Engine, eventually
from tests.server.sockets import Socket, dialled, served

LONG = "This goes on for quite a while, with many words in it. " * 60


@pytest.fixture(scope="module")
def tts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TTS]:
    with fake_tts(tmp_path_factory.mktemp("voices")) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def server(tts: TTS) -> Iterator[LiveServer]:
    with served(tts, max_text_characters=5000) as running:
        yield running


@pytest.fixture
def ws(server: LiveServer) -> Iterator[Socket]:
    with dialled(server) as socket:
        yield socket


def samples(ws: Socket) -> Any:
    return np.frombuffer(b"".join(ws.audio), "<i2") / 32768


def test_a_text_in_one_piece_gives_the_samples_of_the_engine(ws: Socket, tts: TTS) -> None:
    ws.send(type="start", id="a", voice="fake", seed=5, text=TEXT)
    done = ws.until("done")
    ready = ws.events[0]
    assert ready["type"] == "ready"
    assert (ready["id"], ready["voice"], ready["model"]) == ("a", "fake", "fake")
    assert (ready["sample_rate"], ready["format"], ready["seed"]) == (24000, "pcm", 5)
    assert ready["session"]
    reference = tts.open_stream("fake", seed=5)
    reference.feed(TEXT)
    reference.end_text()
    whole = np.concatenate([chunk.audio.samples for chunk in reference])
    np.testing.assert_allclose(samples(ws), whole, atol=1 / 32768)
    assert {len(frame) for frame in ws.audio[:-1]} == {960}  # 20 ms
    assert done["audio_s"] == pytest.approx(len(whole) / 24000, abs=1e-3)
    assert done["characters"] == len(TEXT)
    assert done["first_audio_ms"] <= done["total_ms"]


def test_how_the_text_is_cut_changes_nothing(ws: Socket) -> None:
    heard = []
    for size in (1, 7, 1000):
        ws.audio.clear()
        ws.send(type="start", voice="fake", seed=5, timing=False, frame_ms=40)
        for start in range(0, len(TEXT), size):
            ws.send(type="text", text=TEXT[start : start + size])
        ws.send(type="end")
        ws.until("done")
        heard.append(b"".join(ws.audio))
        assert {len(frame) for frame in ws.audio[:-1]} == {1920}
    assert heard[0] == heard[1] == heard[2]
    assert not ws.of_type("timing")


def test_timing_covers_every_word(ws: Socket) -> None:
    ws.send(type="start", voice="fake", text=TEXT)
    done = ws.until("done")
    words = [word for event in ws.of_type("timing") for word in event["words"]]
    assert [word["text"] for word in words] == re.findall(r"\w+", TEXT)
    edges = [edge for word in words for edge in (word["start_s"], word["end_s"])]
    assert edges == sorted(edges)
    assert edges[-1] <= done["audio_s"] + 1e-3
    assert all(event["estimated"] for event in ws.of_type("timing"))
    sentences = ws.of_type("sentence")
    assert " ".join(event["text"] for event in sentences) == TEXT
    assert [event["utterance"] for event in sentences] == list(range(len(sentences)))


def test_flush_speaks_without_the_end_of_a_sentence(ws: Socket) -> None:
    ws.send(type="start", voice="fake")
    ws.send(type="text", text="Hello my friend")
    ws.send(type="flush")
    ws.until_audio()
    ws.send(type="text", text=" and more.")
    ws.send(type="end")
    assert ws.until("done")["utterances"] == 2


def test_cancel_stops_the_work_and_tells_what_was_spoken(ws: Socket, tts: TTS) -> None:
    with Engine(tts) as engine:
        ws.send(type="start", id=None, voice="fake")
        ws.send(type="text", text=LONG)
        ws.until("sentence")
        ws.send(type="cancel")
        cancelled = ws.until("cancelled")
        engine.wait_for("cancelled")
    assert cancelled["audio_s"] > 0
    assert LONG.startswith(cancelled["spoken_text"])
    assert 0 < len(cancelled["spoken_text"]) < len(LONG)
    # and the socket goes on; nothing of the old request comes after the answer
    ws.audio.clear()
    ws.send(type="start", voice="fake", text="Hello there.")
    assert ws.next()["type"] == "ready"  # type: ignore[call-overload, index]
    assert ws.until("done")["audio_s"] < 5


def test_cancel_counts_what_the_listener_has_heard(ws: Socket) -> None:
    ws.send(type="start", voice="fake", text=LONG)
    first = ws.until("timing")
    ws.send(type="cancel", played_s=first["words"][0]["end_s"] + 0.001)
    assert re.findall(r"\w+", ws.until("cancelled")["spoken_text"]) == [first["words"][0]["text"]]


def test_settings_change_the_voice_of_what_follows(ws: Socket, tts: TTS) -> None:
    first, second = "One sentence with this voice. ", "Another one, with that voice."
    ws.send(type="start", voice="fake", seed=3)
    ws.send(type="text", text=first)
    ws.send(type="settings", voice="other", speed=2.0)
    ws.send(type="text", text=second)
    ws.send(type="end")
    done = ws.until("done")
    assert ws.of_type("settings")[0]["voice"] == "other"
    assert done["characters"] == len(first + second)
    parts = []
    for voice, text, speed in (("fake", first, 1.0), ("other", second, 2.0)):
        stream = tts.open_stream(voice, seed=3, speed=speed)
        stream.feed(text)
        stream.end_text()
        parts.append(np.concatenate([chunk.audio.samples for chunk in stream]))
    pause = np.zeros(2400)
    wanted = np.concatenate([parts[0], pause, parts[1]])
    np.testing.assert_allclose(samples(ws), wanted, atol=1 / 32768)


def test_settings_that_are_wrong_change_nothing(ws: Socket) -> None:
    ws.send(type="start", voice="fake")
    assert ws.until("ready")
    for wrong in ({"voice": "nobody"}, {"speed": 99}, {"format": "mp3"}, {"model": "x"}):
        ws.send(type="settings", **wrong)
        assert ws.next()["type"] == "error"  # type: ignore[call-overload, index]
    ws.send(type="text", text=TEXT)
    ws.send(type="end")
    assert ws.until("done")["audio_s"] > 0


def test_a_recording_as_the_voice(ws: Socket, recording: bytes) -> None:
    data = base64.b64encode(recording).decode()
    ws.send(type="start", reference_audio=data, reference_text="what was said", text=TEXT)
    assert ws.until("done")["audio_s"] > 0


@pytest.mark.parametrize("kind", ["text", "flush", "end", "settings", "cancel"])
def test_what_comes_out_of_order_is_an_error(ws: Socket, kind: str) -> None:
    extra = {"text": {"text": "x"}}.get(kind, {})
    ws.send(type=kind, **extra)
    error = ws.next()
    assert error["type"] == "error"  # type: ignore[call-overload, index]
    assert error["error"] == "conflict"  # type: ignore[call-overload, index]
    ws.send(type="start", voice="fake", text=TEXT)
    assert ws.until("done")


def test_start_and_text_at_the_wrong_time(ws: Socket) -> None:
    ws.send(type="start", id="a", voice="fake")
    assert ws.until("ready")
    ws.send(type="start", id="b", voice="fake")
    error = ws.next()
    assert error["error"] == "conflict"  # type: ignore[call-overload, index]
    ws.send(type="text", text=TEXT)
    ws.send(type="end")
    ws.send(type="text", text="more")
    event = ws.next()
    while isinstance(event, bytes) or event["type"] != "error":
        event = ws.next()
    assert event["error"] == "conflict"
    assert ws.until("done")["id"] == "a"


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        ("{", "invalid_request"),
        ("[]", "invalid_request"),
        ("[" * 100_000, "invalid_request"),
        (b"\0\1", "invalid_request"),
        ('{"type": "sing"}', "invalid_request"),
        ('{"type": ["start"]}', "invalid_request"),
        ('{"type": "start", "voice": 5}', "invalid_request"),
        ('{"type": "start", "velocity": 5}', "invalid_request"),
        ('{"type": "start", "speed": NaN}', "invalid_request"),
        ('{"type": "start", "reference_audio": "%%%"}', "prompt_audio"),
        ('{"type": "start", "reference_audio": 7}', "invalid_request"),
        ('{"type": "text"}', "invalid_request"),
        ('{"type": "ping", "id": {}}', "invalid_request"),
    ],
)
def test_malformed_messages_are_errors_and_the_socket_lives(
    ws: Socket, frame: Any, error: str
) -> None:
    ws.connection.send(frame)
    answer = ws.next()
    assert isinstance(answer, dict)
    assert answer["type"] == "error"
    assert answer["error"] == error
    assert answer["message"]
    assert answer["solution"]
    ws.send(type="ping", id=7)
    assert ws.next() == {"type": "pong", "id": 7}


@pytest.mark.parametrize(
    ("start", "error"),
    [
        ({"voice": "nobody"}, "unknown_voice"),
        ({"voice": "../fake"}, "unknown_voice"),
        ({"voice": "fake", "model": "none"}, "model_not_found"),
        ({"voice": "fake", "format": "midi"}, "unsupported"),
        ({"voice": "fake", "format": "mp3", "sample_rate": 12345}, "unsupported"),
        ({"voice": "fake", "format": "opus-raw", "frame_ms": 30}, "invalid_request"),
        ({"voice": "fake", "text": "x " * 9000}, "invalid_request"),
        ({"voice": "fake", "text": " "}, "done"),
    ],
)
def test_a_request_that_fails_is_over_and_late_text_is_ignored(
    ws: Socket, start: dict[str, Any], error: str
) -> None:
    ws.send(type="start", id="x", **start)
    ws.send(type="ping")
    answers = [ws.next(), ws.next()]
    if error == "done":
        said = [a for a in answers if isinstance(a, dict) and a["type"] == "done"]
        assert (said or [ws.until("done")])[0]["audio_s"] == 0
        return
    while not any(isinstance(a, dict) and a["type"] == "error" for a in answers):
        answers.append(ws.next())
    (event,) = (a for a in answers if isinstance(a, dict) and a["type"] == "error")
    assert (event["error"], event["id"]) == (error, "x")
    ws.send(type="text", text="late")
    ws.send(type="end")
    ws.send(type="start", voice="fake", text=TEXT)
    assert ws.until("done")


def test_too_much_text_in_pieces(ws: Socket) -> None:
    ws.send(type="start", voice="fake")
    ws.until("ready")
    ws.send(type="text", text="x" * 5001)
    assert ws.next()["error"] == "invalid_request"  # type: ignore[call-overload, index]


def test_a_client_that_leaves_stops_the_work(server: LiveServer, tts: TTS) -> None:
    with Engine(tts) as engine:
        with dialled(server) as ws:
            ws.send(type="start", voice="fake", text=LONG)
            ws.until_audio()
        engine.wait_for("cancelled")
    eventually(lambda: server.runtime.active == 0)


def test_a_dead_client_stops_the_work(server: LiveServer, tts: TTS) -> None:
    """Its connection breaks without a word."""
    with Engine(tts) as engine:
        with dialled(server) as ws:
            ws.send(type="start", voice="fake", text=LONG)
            ws.until_audio()
            raw = ws.connection.socket
            linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            raw.shutdown(socket.SHUT_RD)
            raw.close()
        engine.wait_for("cancelled")


def test_a_slow_client_holds_nobody_and_is_let_go(tts: TTS) -> None:
    with served(tts, stall_s=0.5) as server, Engine(tts) as engine:
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", server.port))
        key = base64.b64encode(b"0" * 16).decode()
        stuck.sendall(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert stuck.recv(12) == b"HTTP/1.1 101"
        text = json.dumps(
            {"type": "start", "voice": "fake", "text": LONG * 5, "sample_rate": 96000}
        )
        body = text.encode()
        stuck.sendall(b"\x81\xfe" + len(body).to_bytes(2, "big") + b"\0\0\0\0" + body)
        with dialled(server) as ws:
            ws.send(type="start", voice="fake", text=TEXT)
            assert ws.until("done")
        engine.wait_for("finished", "cancelled")
        stuck.close()


def test_text_that_does_not_come_ends_the_request(tts: TTS) -> None:
    with served(tts, body_s=1.0) as server, Engine(tts) as engine, dialled(server) as ws:
        ws.send(type="start", voice="fake")
        ws.send(type="text", text="Hello ")
        ws.until("ready")
        error = ws.next()
        assert error["error"] == "request_timeout"  # type: ignore[call-overload, index]
        engine.wait_for("cancelled")
        ws.send(type="start", voice="fake", text=TEXT)
        assert ws.until("done")


def test_a_request_that_is_late_is_given_up(ws: Socket, tts: TTS) -> None:
    """Whether it waits for text or speaks: the time counts from start on."""
    with Engine(tts) as engine:
        ws.send(type="start", voice="fake", timeout_s=0.2)
        assert error_of(ws)["error"] == "deadline"
        ws.send(type="start", voice="fake", text=LONG, timeout_s=0.0001)
        assert error_of(ws)["error"] == "deadline"
        ws.send(type="start", voice="fake", text=TEXT, timeout_s=60, in_time=False)
        assert ws.until("done")
        eventually(lambda: engine.outcomes[-1:] == ["finished"])


def test_a_lexicon_of_the_request(ws: Socket) -> None:
    heard = []
    for fields in ({"text": "one two"}, {"text": "one six", "lexicon": {"six": '"two"'}}):
        ws.audio.clear()
        ws.send(type="start", voice="fake", seed=5, **fields)
        ws.until("done")
        heard.append(b"".join(ws.audio))
    assert heard[0] == heard[1]
    ws.send(type="start", voice="fake", lexicon={"six": "qqq"}, text="six")
    assert error_of(ws)["error"] == "invalid_request"


def error_of(ws: Socket) -> dict[str, Any]:
    """The error that a request ends with, whatever comes before it."""
    while isinstance(message := ws.next(), bytes) or message["type"] != "error":
        pass
    return message


def test_too_large_a_message_closes_the_socket(tts: TTS) -> None:
    with served(tts, max_body_bytes=2000) as server, dialled(server) as ws:
        ws.send(type="text", text="x" * 3000)
        assert ws.next()["error"] == "too_large"  # type: ignore[call-overload, index]
        with pytest.raises(ConnectionClosed) as caught:
            ws.next()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


def test_a_key_is_asked_for(tts: TTS) -> None:
    with served(tts, api_keys=("secret",)) as server:
        with pytest.raises(InvalidStatus) as caught, dialled(server):
            pass
        assert caught.value.response.status_code == 401
        headers = {"Authorization": "Bearer secret"}
        with dialled(server, additional_headers=headers) as ws:
            ws.send(type="start", voice="fake", text=TEXT)
            assert ws.until("done")


def test_many_at_once_get_what_they_get_alone(server: LiveServer) -> None:
    def speak(seeds: list[int]) -> list[bytes]:
        heard = []
        opened = [dialled(server) for _ in seeds]
        sockets = [one.__enter__() for one in opened]
        for one, seed in zip(sockets, seeds, strict=True):
            one.send(type="start", voice="fake", seed=seed, text=TEXT)
        for one in sockets:
            one.until("done")
            heard.append(b"".join(one.audio))
        for one in opened:
            one.__exit__(None, None, None)
        return heard

    alone = [speak([seed])[0] for seed in range(4)]
    assert speak([0, 1, 2, 3]) == alone
