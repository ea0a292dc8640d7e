"""DashScope's socket: messages as its documents show them and as its Python SDK 2.0 sends them."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from mynah.api import TTS
from mynah.audio.process import amplify
from mynah.audio.resample import resample
from mynah.engine.admission import Limits
from mynah.server.dashscope import count_characters
from tests.fake_model import TEXT, fake_tts
from tests.server.conftest import LiveServer
from tests.server.loops import Engine, eventually
from tests.server.sockets import Socket, dialled, served

PATH = "/api-ws/v1/inference"
LONG = "This goes on for quite a while, with many words in it. " * 60
PCM = {"format": "pcm", "sample_rate": 24000}


@pytest.fixture(scope="module")
def tts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TTS]:
    with fake_tts(tmp_path_factory.mktemp("voices")) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def server(tts: TTS) -> Iterator[LiveServer]:
    with served(tts, max_text_characters=5000, voice_aliases={"longother": "other"}) as running:
        yield running


def fed(tts: TTS, *parts: str, **options: Any) -> Any:
    """What the engine says of text that comes in pieces."""
    stream = tts.open_stream("fake", seed=0, **options)
    for part in parts:
        stream.feed(part)
    stream.end_text()
    return np.concatenate([chunk.audio.samples for chunk in stream])


class Client:
    """One connection, and what came on it."""

    def __init__(self, ws: Socket) -> None:
        self.ws = ws
        self.task_id = ""
        self.events: list[dict[str, Any]] = []
        self.audio: list[bytes] = []

    def send(self, action: str, task_id: str | None = None, **payload: Any) -> None:
        header = {"action": action, "task_id": task_id or self.task_id, "streaming": "duplex"}
        self.ws.send(header=header, payload={"input": {}, **payload})

    def run(self, model: str = "cosyvoice-v3-flash", **parameters: Any) -> str:
        """Send run-task as the documents show it."""
        self.task_id = str(uuid.uuid4())
        values = {"text_type": "PlainText", "voice": "fake", **parameters}
        self.send(
            "run-task",
            task_group="audio",
            task="tts",
            function="SpeechSynthesizer",
            model=model,
            parameters=values,
        )
        return self.task_id

    def text(self, text: str) -> None:
        self.send("continue-task", input={"text": text})

    def take(self) -> dict[str, Any] | bytes:
        message = self.ws.next()
        if isinstance(message, bytes):
            self.audio.append(message)
        else:
            self.events.append(message)
        return message

    def until(self, kind: str) -> dict[str, Any]:
        while True:
            message = self.take()
            if isinstance(message, dict) and message["header"]["event"] in (kind, "task-failed"):
                assert message["header"]["event"] == kind, message
                return message

    def until_audio(self) -> None:
        while not isinstance(self.take(), bytes):
            pass

    def speak(self, *parts: str, **parameters: Any) -> bytes:
        """A whole task; returns its audio."""
        first = len(self.audio)
        self.run(**parameters)
        self.until("task-started")
        for part in parts:
            self.text(part)
        self.send("finish-task")
        self.until("task-finished")
        return b"".join(self.audio[first:])

    def outputs(self, kind: str) -> list[dict[str, Any]]:
        found = [event["payload"].get("output", {}) for event in self.events]
        return [output for output in found if output.get("type") == kind]

    def close_code(self) -> int:
        try:
            while True:
                self.take()
        except ConnectionClosed as error:
            return 0 if error.rcvd is None else error.rcvd.code


@contextmanager
def client_of(server: LiveServer, path: str = PATH, **options: Any) -> Iterator[Client]:
    with dialled(server, path, **options) as ws:
        yield Client(ws)


def samples_of(data: bytes) -> Any:
    return np.frombuffer(data, "<i2") / 32768


def test_one_task_as_documented(server: LiveServer, tts: TTS) -> None:
    with client_of(server) as client:
        task = client.run(**PCM, volume=50, rate=1.1, pitch=1.0, enable_ssml=False)
        assert client.until("task-started") == {
            "header": {
                "task_id": task,
                "event": "task-started",
                "attributes": {"model": "fake", "voice": "fake", "sample_rate": 24000},
            },
            "payload": {},
        }
        for word in TEXT.split(" "):
            client.text(word + " ")
        client.send("finish-task")
        order = []
        while order[-1:] != ["task-finished"]:
            message = client.take()
            if isinstance(message, bytes):
                order.append("audio")
            else:
                assert message["header"]["task_id"] == task
                order.append(message["payload"]["output"].get("type") or message["header"]["event"])
        finished = client.events[-1]
    sentences = " ".join(order).split("sentence-begin")[1:]
    assert order[0] == "sentence-begin"
    assert len(sentences) == 2
    for number, sentence in enumerate(sentences):
        *middle, end = sentence.removesuffix("task-finished").split()
        assert end == "sentence-end"
        assert middle == ["sentence-synthesis", "audio"] * (len(middle) // 2)
        begin = client.outputs("sentence-begin")[number]
        assert begin == {"type": "sentence-begin", "sentence": {"index": number, "words": []}}
    ends = client.outputs("sentence-end")
    assert " ".join(end["original_text"] for end in ends) == TEXT
    last = next(one for one in client.events if one["payload"].get("output") == ends[-1])
    assert last["payload"]["usage"] == finished["payload"]["usage"] == {"characters": len(TEXT) + 1}
    assert finished["payload"]["output"]["sentence"]["words"] == []
    assert finished["header"]["attributes"]["request_uuid"]
    wanted = fed(tts, TEXT + " ", speed=1.1)
    np.testing.assert_allclose(samples_of(b"".join(client.audio)), wanted, atol=1 / 32768)


def test_the_messages_of_the_python_sdk(server: LiveServer) -> None:
    """``SpeechSynthesizer(model, voice).call(text)``: everything else is left to the service."""
    task = uuid.uuid4().hex
    common = {"task_group": "audio", "task": "tts", "function": "SpeechSynthesizer"}
    parameters = {
        "voice": "longxiaochun_v2", "volume": 50, "text_type": "PlainText", "sample_rate": 0,
        "rate": 1.0, "format": "Default", "pitch": 1.0, "seed": 0, "type": 0, "enable_ssml": True,
    }  # fmt: skip
    with client_of(server, PATH + "/") as client:
        client.task_id = task
        client.send("run-task", model="cosyvoice-v2", **common, parameters=parameters)
        started = client.until("task-started")
        assert started["header"]["attributes"]["voice"] == "fake"  # the model's own
        client.send("continue-task", model="cosyvoice-v2", **common, input={"text": TEXT})
        client.send("finish-task")
        client.until("task-finished")
        with av.open(io.BytesIO(b"".join(client.audio))) as container:
            assert container.format.name == "mp3"
            assert container.streams.audio[0].rate == 22050
            assert sum(frame.samples for frame in container.decode(audio=0)) > 22050


def test_words_come_with_their_places(server: LiveServer) -> None:
    with client_of(server) as client:
        data = client.speak(TEXT, **PCM, word_timestamp_enabled=True)
    ends = client.outputs("sentence-end")
    total_ms = 1000 * len(data) / 48000
    then = 0
    for number, end in enumerate(ends):
        words, text = end["sentence"]["words"], end["original_text"]
        assert end["sentence"]["index"] == number
        assert [word["text"] for word in words] == [part.strip(".,?") for part in text.split(" ")]
        for word in words:
            assert text[word["begin_index"] : word["end_index"]] == word["text"]
            assert then <= word["begin_time"] < word["end_time"] <= total_ms + 1
            then = word["begin_time"]
        parts = [
            one["sentence"]["words"]
            for one in client.outputs("sentence-synthesis")
            if one["sentence"]["index"] == number
        ]
        assert all(part == words[: len(part)] for part in parts)
    assert client.events[-1]["payload"]["output"]["sentence"] == ends[-1]["sentence"]


def test_tasks_one_after_the_other(server: LiveServer) -> None:
    with client_of(server) as client:
        first = client.speak(TEXT, **PCM)
        client.send("finish-task")  # again: nothing happens
        assert client.speak(TEXT, **PCM) == first
        assert client.speak(TEXT, **PCM, seed=1) != first
        assert client.speak(" ", **PCM) == b""
        assert client.events[-1]["payload"]["usage"] == {"characters": 0}


def test_a_new_task_takes_the_place_of_another(server: LiveServer, tts: TTS) -> None:
    with client_of(server) as client, Engine(tts) as engine:
        former = client.run(**PCM)
        client.until("task-started")
        client.text(LONG)
        client.until_audio()
        client.run(**PCM)
        client.send("continue-task", former, input={"text": "too late"})
        client.until("task-started")
        client.audio.clear()
        client.events.clear()
        client.text(TEXT)
        client.send("finish-task")
        client.until("task-finished")
        engine.wait_for("cancelled", "finished")
    assert {event["header"]["task_id"] for event in client.events} == {client.task_id}
    np.testing.assert_allclose(samples_of(b"".join(client.audio)), fed(tts, TEXT), atol=1 / 32768)


def test_cancelling_drops_the_rest(server: LiveServer, tts: TTS) -> None:
    with client_of(server) as client:
        with Engine(tts) as engine:
            client.run(**PCM)
            client.until("task-started")
            client.text(LONG)
            client.until_audio()
            client.send("finish-task", input={"directive": "cancel"})
            client.until("task-finished")
            engine.wait_for("cancelled")
        assert client.speak(TEXT, **PCM)


def test_a_client_that_leaves_stops_the_work(server: LiveServer, tts: TTS) -> None:
    with Engine(tts) as engine:
        with client_of(server) as client:
            client.run(**PCM)
            client.text(LONG)
            client.until_audio()
        engine.wait_for("cancelled")
    eventually(lambda: server.runtime.active == 0)


def test_a_flush_speaks_what_is_there(server: LiveServer) -> None:
    with client_of(server) as client:
        client.run(**PCM)
        client.text("no end of a sentence")
        client.send("continue-task", input={"flush": True})
        client.until_audio()


def test_a_whole_text_with_the_first_message(server: LiveServer) -> None:
    with client_of(server) as client:
        header = {"action": "run-task", "task_id": "t", "streaming": "out"}
        parameters = {"voice": "fake", **PCM}
        client.ws.send(header=header, payload={"parameters": parameters, "input": {"text": TEXT}})
        client.until("task-finished")
    assert len(b"".join(client.audio)) > 48000


@pytest.mark.parametrize(
    ("parameters", "gain", "factor"),
    [({"volume": 25}, 0.5, 1), ({"volume": 100}, 2, 1), ({"pitch": 1.25, "rate": 0.8}, 1, 1.25)],
    ids=["quiet", "loud", "high"],
)
def test_volume_and_pitch(
    server: LiveServer, tts: TTS, parameters: dict[str, float], gain: float, factor: float
) -> None:
    with client_of(server) as client:
        got = samples_of(client.speak(TEXT, **PCM, **parameters))
    plain = fed(tts, TEXT, speed=parameters.get("rate", 1.0) / factor)
    wanted = amplify(resample(plain, round(24000 * factor), 24000), gain)
    np.testing.assert_allclose(got, wanted, atol=2 / 32768)


@pytest.mark.parametrize(
    ("parameters", "name", "rate"),
    [
        ({"format": "wav", "sample_rate": 8000}, "wav", 8000),
        ({"format": "mp3", "sample_rate": 44100, "bit_rate": 128000}, "mp3", 44100),
        ({"format": "opus", "sample_rate": 16000, "bit_rate": 16}, "ogg", 48000),
        ({"format": "opus"}, "ogg", 48000),
        ({"format": "opus", "bit_rate": 510}, "ogg", 48000),
    ],
)
def test_formats(server: LiveServer, parameters: dict[str, Any], name: str, rate: int) -> None:
    with client_of(server) as client:
        data = client.speak(TEXT, **parameters)
    with av.open(io.BytesIO(data)) as container:
        assert container.format.name == name
        assert container.streams.audio[0].rate == rate
        assert sum(frame.samples for frame in container.decode(audio=0)) > rate
    assert data.count(b"RIFF" if name == "wav" else b"OpusHead") == (name != "mp3")


def test_names_of_voices(server: LiveServer) -> None:
    for voice, speaks in (("longanhuan_v3.6", "fake"), ("longother", "other"), ("other", "other")):
        with client_of(server) as client:
            client.run(voice=voice)
            assert client.until("task-started")["header"]["attributes"]["voice"] == speaks


@pytest.mark.parametrize(
    ("model", "parameters", "text", "code"),
    [
        ("cosyvoice-v1", {"voice": "nobody"}, "", "InvalidParameter"),
        ("cosyvoice-v1", {"voice": "../fake"}, "", "InvalidParameter"),
        ("no-such-model", {}, "", "ModelNotFound"),
        ("fake", {"format": "midi"}, "", "InvalidParameter"),
        ("fake", {"format": "opus", "bit_rate": 5}, "", "InvalidParameter"),
        ("fake", {"sample_rate": 11025}, "", "InvalidParameter"),
        ("fake", {"rate": 3}, "", "InvalidParameter"),
        ("fake", {"pitch": "NaN"}, "", "InvalidParameter"),
        ("fake", {"volume": 101}, "", "InvalidParameter"),
        ("fake", {"hot_fix": {"pronunciation": [{"word": "no sound"}]}}, "", "InvalidParameter"),
        ("fake", {"hot_fix": {"replace": [{"w" * 200: "x"}]}}, "", "InvalidParameter"),
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


def test_ideographs_count_twice() -> None:
    assert count_characters("中A文123") == 8
    assert count_characters("中 文。") == 6
    assert count_characters("カナ한글") == 4
