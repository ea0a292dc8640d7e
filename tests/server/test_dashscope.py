"""DashScope's socket: messages as its documents show them and as its Python SDK 2.0 sends them."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import pytest

from mynah.api import TTS
from mynah.audio.process import amplify
from mynah.audio.resample import resample
from mynah.server.dashscope import count_characters
from tests.fake_model import TEXT, fake_tts
from tests.server.conftest import LiveServer
from tests.server.dashscope import LONG, PATH, PCM, client_of
from tests.server.loops import Engine, eventually
from tests.server.sockets import served


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


def test_ideographs_count_twice() -> None:
    assert count_characters("中A文123") == 8
    assert count_characters("中 文。") == 6
    assert count_characters("カナ한글") == 4


def test_a_pair_of_surrogates_may_come_in_two_messages(server: LiveServer) -> None:
    with client_of(server) as client:
        whole = client.speak("Hi \U0001f600 there. ", **PCM)
        assert client.speak("Hi \ud83d", "\ude00 there. ", **PCM) == whole


def test_quotes_in_what_is_read_instead(server: LiveServer) -> None:
    def replaced(other: str) -> bytes:
        return client.speak(TEXT, **PCM, hot_fix={"replace": [{TEXT.split()[0]: other}]})

    with client_of(server) as client:
        assert replaced('say "x" \u201cy\u201d') == replaced("say  x   y") != replaced("z")
