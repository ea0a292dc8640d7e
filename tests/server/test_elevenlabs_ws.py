"""ElevenLabs' sockets, by its own Python SDK and by a bare client."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import numpy as np
import pytest
from elevenlabs import VoiceSettings
from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError
from websockets.exceptions import ConnectionClosed

from mynah.api import TTS
from mynah.server.sockets.schedule import FLUSH, Buffer
from tests.fake_model import TEXT, fake_tts
from tests.server.conftest import LiveServer
from tests.server.loops import Engine, eventually
from tests.server.sockets import Socket, dialled, served

LONG = "This goes on for quite a while, with many words in it. " * 60
ONE = "/v1/text-to-speech/fake/stream-input?output_format=pcm_24000"
MANY = "/v1/text-to-speech/fake/multi-stream-input?output_format=pcm_24000"


@pytest.fixture(scope="module")
def tts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TTS]:
    with fake_tts(tmp_path_factory.mktemp("voices")) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def server(tts: TTS) -> Iterator[LiveServer]:
    with served(tts, max_text_characters=5000) as running:
        yield running


@contextmanager
def sdk_of(server: LiveServer, key: str = "anything") -> Iterator[ElevenLabs]:
    with httpx.Client(trust_env=False, timeout=60) as http:
        client = ElevenLabs(api_key=key, base_url=server.url, httpx_client=http)
        # it insists on TLS
        client.text_to_speech._ws_base_url = server.url.replace("http", "ws")
        yield client


def fed(tts: TTS, *parts: str, voice: str = "fake", **options: Any) -> Any:
    """What the engine says of text that comes in pieces."""
    stream = tts.open_stream(voice, **options)
    for part in parts:
        stream.feed(part)
    stream.end_text()
    return np.concatenate([chunk.audio.samples for chunk in stream])


class Answers:
    """What came on one socket, by context."""

    def __init__(self, ws: Socket) -> None:
        self.ws = ws
        self.messages: list[dict[str, Any]] = []

    def take(self) -> dict[str, Any]:
        message = self.ws.next()
        assert isinstance(message, dict)
        self.messages.append(message)
        return message

    def until_audio(self, context: str | None = None) -> None:
        while True:
            message = self.take()
            if message.get("audio") and message.get("contextId") == context:
                return

    def until_final(self, context: str | None = None) -> None:
        while True:
            message = self.take()
            assert "message" not in message, message
            if message.get("isFinal") and message.get("contextId") == context:
                return

    def of(self, context: str | None) -> list[dict[str, Any]]:
        return [one for one in self.messages if one.get("contextId") == context]

    def samples(self, context: str | None = None) -> Any:
        audio = [base64.b64decode(one["audio"]) for one in self.of(context) if one.get("audio")]
        return np.frombuffer(b"".join(audio), "<i2") / 32768

    def text(self, context: str | None = None) -> str:
        found = [one["alignment"] for one in self.of(context) if one.get("alignment")]
        return "".join(character for one in found for character in one["chars"])


def close_code(ws: Socket) -> int:
    try:
        while True:
            ws.next()
    except ConnectionClosed as error:
        return 0 if error.rcvd is None else error.rcvd.code


def until_error(ws: Socket) -> dict[str, Any]:
    while True:
        message = ws.next()
        if isinstance(message, dict) and "error" in message:
            return message


# The SDK's own.
_THEIR_WARNING = "ignore:ConnectionClosed.* is deprecated:DeprecationWarning"


@pytest.mark.filterwarnings(_THEIR_WARNING)
def test_the_sdk_speaks_while_text_comes(server: LiveServer) -> None:
    with sdk_of(server) as sdk:
        pieces = sdk.text_to_speech.convert_realtime(
            "fake",
            text=iter(TEXT.split(" ")),
            model_id="eleven_flash_v2_5",
            output_format="pcm_24000",
            voice_settings=VoiceSettings(stability=0.5, speed=1.1),
        )
        data = b"".join(pieces)
    assert len(data) / 48000 > 1.5


@pytest.mark.filterwarnings(_THEIR_WARNING)
def test_the_sdk_raises_what_is_wrong(server: LiveServer) -> None:
    with sdk_of(server) as sdk, pytest.raises(ApiError):
        list(sdk.text_to_speech.convert_realtime("nobody", text=iter(["Hello. "] * 50)))


def test_one_text_gives_the_samples_of_the_engine(server: LiveServer, tts: TTS) -> None:
    with dialled(server, f"{ONE}&seed=3") as ws:
        ws.send(text=" ", voice_settings={"speed": 1.1, "stability": 0.1})
        for word in TEXT.split(" "):
            ws.send(text=word + " ")
        ws.send(text="")
        got = Answers(ws)
        got.until_final()
        assert got.messages[-1] == {"audio": None, "isFinal": True}
        assert close_code(ws) == 1000
    np.testing.assert_allclose(
        got.samples(), fed(tts, " " + TEXT + " ", seed=3, speed=1.1), atol=1 / 32768
    )
    assert got.text().strip() == TEXT
    for message in got.messages[:-1]:
        assert message["isFinal"] is None
        alignment = message["alignment"]
        if alignment is not None:
            assert set(alignment) == {
                "chars",
                "charStartTimesMs",
                "charDurationsMs",
                "charsDurationsMs",
            }
            assert alignment["charStartTimesMs"][0] == 0
            assert len(set(map(len, alignment.values()))) == 1
            assert message["normalizedAlignment"] == alignment


def test_flush_and_trigger_begin_before_the_end(server: LiveServer) -> None:
    for extra in ({"flush": True}, {"try_trigger_generation": True}):
        with dialled(server, ONE) as ws:
            ws.send(text=" ")
            ws.send(text="Hello my friend, how are you today ", **extra)
            got = Answers(ws)
            got.until_audio()
            ws.send(text="")
            got.until_final()


def test_auto_mode_speaks_every_sentence_at_once(server: LiveServer) -> None:
    with dialled(server, f"{ONE}&auto_mode=true") as ws:
        ws.send(text=" ")
        ws.send(text="Short. ")
        Answers(ws).until_audio()


def test_a_schedule_decides_when_speaking_begins() -> None:
    buffer = Buffer([50, 100])
    assert buffer.add("x" * 30 + " ") == []
    assert buffer.add("y" * 30 + " z") == ["x" * 30 + " " + "y" * 30 + " ", FLUSH]
    assert buffer.add("a" * 60 + " ") == []
    assert buffer.add("b. " + "a" * 60 + " ") == ["z" + "a" * 60 + " b. " + "a" * 60 + " "]
    assert buffer.add("short ", trigger=True) == []
    assert buffer.add("but not any more ", trigger=True) == ["short but not any more ", FLUSH]
    assert buffer.add("rest", flush=True) == ["rest", FLUSH]
    assert buffer.add(" ", flush=True) == []
    assert buffer.add("x") == []
    assert buffer.rest() == " x"
    assert Buffer(auto=True).add("One. ") == ["One. ", FLUSH]


def test_no_text_is_no_error(server: LiveServer) -> None:
    with dialled(server, ONE) as ws:
        ws.send(text=" ")
        ws.send(text="")
        Answers(ws).until_final()
        assert close_code(ws) == 1000


@pytest.mark.parametrize(
    ("path", "message", "code"),
    [
        (ONE.replace("fake", "nobody"), {"text": " "}, 1008),
        (ONE.replace("fake", "..%2Ffake"), {"text": " "}, None),
        (ONE.replace("pcm_24000", "pcm_1"), {"text": " "}, 1008),
        (f"{ONE}&model_id=none", {"text": " "}, 1008),
        (f"{ONE}&inactivity_timeout=x", {"text": " "}, 1008),
        (ONE, {"text": 5}, 1008),
        (ONE, {"text": "x" * 5001, "flush": True}, 1008),
        (ONE, {"text": " ", "voice_settings": {"speed": 99}}, 1008),
    ],
)
def test_what_is_wrong_is_told_before_the_close(
    server: LiveServer, path: str, message: Any, code: int | None
) -> None:
    if code is None:
        with pytest.raises(Exception, match="403"), dialled(server, path):
            pass
        return
    with dialled(server, path) as ws:
        with suppress(ConnectionClosed):  # it may be refused before
            ws.send(**message)
        answer = ws.next()
        assert isinstance(answer, dict)
        assert answer["message"]
        assert answer["error"]
        assert answer["code"] == code
        assert close_code(ws) == code


def test_silence_of_the_client_ends_the_socket(server: LiveServer) -> None:
    with dialled(server, f"{ONE}&inactivity_timeout=0.2") as ws:
        ws.send(text=" ")
        answer = ws.next()
        assert answer["error"] == "request_timeout"  # type: ignore[call-overload, index]
        assert close_code(ws) == 1008


@pytest.mark.parametrize("spelling", ["xi_api_key", "xi-api-key", "authorization", "header"])
def test_the_key_may_come_in_the_first_message(tts: TTS, spelling: str) -> None:
    with served(tts, api_keys=("secret",)) as server:
        first = {"text": " ", spelling: "Bearer secret" if "auth" in spelling else "secret"}
        headers = {"xi-api-key": "secret"} if spelling == "header" else {}
        for path in (ONE, MANY):
            with dialled(server, path, additional_headers=headers) as ws:
                ws.send(**first)
                ws.send(text="Hello there. ", flush=True)
                context = "default" if path == MANY else None
                Answers(ws).until_audio(context)
            with dialled(server, path) as ws:
                ws.send(text=" ", xi_api_key="wrong")
                answer = ws.next()
                assert answer["error"] == "unauthorized"  # type: ignore[call-overload, index]


def test_sockets_count_in_the_limit_of_requests(tts: TTS) -> None:
    """Their key may come later than those of others; that must not let them past it."""
    with served(tts, api_keys=("secret",), requests_per_minute=0.001, burst=2) as server:
        codes = []
        for key in ("secret", "wrong", "wrong", "wrong", "secret", "secret"):
            with dialled(server, ONE) as ws:
                ws.send(text=" ", xi_api_key=key)
                ws.send(text="")
                answer = ws.next()
                assert isinstance(answer, dict)
                codes.append(answer.get("error"))
    wrong = ["unauthorized", "unauthorized", "rate_limited"]
    assert codes == [None, *wrong, None, "rate_limited"]


def test_a_client_that_leaves_stops_the_work(server: LiveServer, tts: TTS) -> None:
    for path, context in ((ONE, None), (MANY, "default")):
        with Engine(tts) as engine:
            with dialled(server, path) as ws:
                ws.send(text=" ")
                ws.send(text=LONG, flush=True)
                Answers(ws).until_audio(context)
            engine.wait_for("cancelled")
    eventually(lambda: server.runtime.active == 0)


def test_contexts_side_by_side(server: LiveServer, tts: TTS) -> None:
    first, second = "Here is the first one. ", "And there is another text. "
    with dialled(server, f"{MANY}&seed=3") as ws:
        ws.send(text=" ", context_id="a", voice_settings={"speed": 1.2})
        ws.send(text=first, context_id="a")
        ws.send(text=" ", contextId="b")
        ws.send(text=second, context_id="b", flush=True)
        ws.send(text="", context_id="a")  # keeps alive
        ws.send(context_id="a", flush=True)
        ws.send(close_socket=True)
        got = Answers(ws)
        got.until_final("a")
        if not any(one.get("isFinal") for one in got.of("b")):
            got.until_final("b")
        assert close_code(ws) == 1000
    for name, text in (("a", first), ("b", second)):
        assert got.text(name).strip() == text.strip()
        assert len(got.samples(name)) > 2400
    wanted = fed(tts, " " + first, seed=3, speed=1.2)[:-400]  # a flush ends more softly
    np.testing.assert_allclose(got.samples("a")[: len(wanted)], wanted, atol=1 / 32768)


def test_closing_a_context_that_is_heard_stops_it(server: LiveServer, tts: TTS) -> None:
    with dialled(server, MANY) as ws, Engine(tts) as engine:
        got = Answers(ws)
        ws.send(text=" ", context_id="a")
        ws.send(text=LONG, context_id="a", flush=True)
        got.until_audio("a")
        ws.send(context_id="a", close_context=True)
        got.until_final("a")
        engine.wait_for("cancelled")
        assert len(got.samples("a")) / 24000 < 60
        count = len(got.of("a"))
        ws.send(text="Again. ", context_id="a", flush=True)  # a new one of the same name
        got.until_audio("a")
        assert len(got.of("a")) > count
        ws.send(context_id="nobody", close_context=True)
        ws.send(close_socket=True)
        assert close_code(ws) == 1000


def test_closing_right_after_a_flush_finishes_the_audio(server: LiveServer) -> None:
    with dialled(server, MANY) as ws:
        got = Answers(ws)
        ws.send(text=" ", context_id="a")
        ws.send(text=TEXT + " ", context_id="a")
        ws.send(context_id="a", flush=True)
        ws.send(context_id="a", close_context=True)
        got.until_final("a")
    assert got.text("a").strip() == TEXT


def test_too_many_contexts(server: LiveServer) -> None:
    with dialled(server, MANY) as ws:
        for number in range(6):
            ws.send(text="Hello ", context_id=str(number))
        answer = ws.next()
        assert answer["error"] == "invalid_request"  # type: ignore[call-overload, index]
        assert close_code(ws) == 1008


def test_one_context_fails_and_another_goes_on(server: LiveServer) -> None:
    with dialled(server, MANY) as ws:
        got = Answers(ws)
        ws.send(text=" ", context_id="a")
        ws.send(text="x" * 5001, context_id="a", flush=True)
        answer = got.take()
        assert (answer["contextId"], answer["error"]) == ("a", "invalid_request")
        ws.send(text=TEXT, context_id="b", flush=True)
        got.until_audio("b")


@pytest.mark.parametrize("flush", [True, False])
def test_a_pair_of_surrogates_may_come_in_two_messages(server: LiveServer, flush: bool) -> None:
    with dialled(server, ONE) as ws:
        for part in (" ", "Hi \ud83d", "\ude00 there. "):
            ws.send(text=part, flush=flush)
        ws.send(text="")
        got = Answers(ws)
        got.until_final()
    assert "there" in got.text()


@pytest.mark.parametrize("parts", [["Hi \ud83d there. "], ["Hi \ud83d"]])
def test_half_a_character_fails_and_gives_its_place_back(
    server: LiveServer, tts: TTS, parts: list[str]
) -> None:
    with dialled(server, ONE) as ws, dialled(server, MANY) as several:
        for part in (" ", *parts):
            ws.send(text=part, flush=True)
            several.send(text=part, flush=True, context_id="a")
        ws.send(text="")
        error = until_error(ws)
        assert error["error"] == "invalid_request"
        assert "surrogate" in error["message"]
        assert close_code(ws) == 1008
        several.send(close_socket=True)
        error = until_error(several)
        assert (error["error"], error["contextId"]) == ("invalid_request", "a")
        assert close_code(several) == 1000
    eventually(lambda: server.runtime.active == 0)
    with dialled(server, ONE) as ws:
        ws.send(text=TEXT)
        ws.send(text="")
        Answers(ws).until_final()
