"""Formats of the server's own socket protocol, and bit rates that follow the network."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import pytest

from mynah.api import TTS
from mynah.server.sockets.bit_rate import LOWEST, BitRate
from tests.fake_model import TEXT, fake_tts
from tests.server.sockets import Socket, dialled, served

LONG = "This goes on for quite a while, with many words in it. " * 11


@pytest.fixture(scope="module")
def tts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TTS]:
    with fake_tts(tmp_path_factory.mktemp("voices")) as loaded:
        yield loaded


@pytest.fixture
def ws(tts: TTS) -> Iterator[Socket]:
    with served(tts) as server, dialled(server) as socket:
        yield socket


@pytest.mark.parametrize(
    ("name", "rate"), [("wav", 24000), ("mp3", 44100), ("opus", 48000), ("flac", 16000)]
)
def test_formats_with_a_header_have_one(ws: Socket, name: str, rate: int) -> None:
    ws.send(type="start", voice="fake", text=TEXT, format=name, sample_rate=rate)
    done = ws.until("done")
    data = b"".join(ws.audio)
    assert ws.events[0]["sample_rate"] == rate
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(audio=0))
    assert sum(f.samples / f.sample_rate for f in frames) == pytest.approx(done["audio_s"], abs=0.2)
    magic = {"wav": b"RIFF", "opus": b"OpusHead", "flac": b"fLaC"}
    if name in magic:
        assert data.count(magic[name]) == 1


def decode_packets(packets: list[bytes], rate: int) -> Any:
    decoder = av.CodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.layout = 48000, "mono"
    out = []
    for packet in packets:
        for frame in decoder.decode(av.Packet(packet)):
            out.append(frame.to_ndarray().reshape(-1).astype(np.float32))
    return np.concatenate(out)


def test_opus_packets_adapt_to_the_network(ws: Socket) -> None:
    ws.send(type="start", voice="fake", format="opus-raw", bit_rate=48000, sample_rate=24000)
    ready = ws.until("ready")
    assert (ready["bit_rate"], ready["pre_skip"]) == (48000, 312)
    ws.send(type="network", kbps=20)
    ws.send(type="text", text=LONG)
    ws.send(type="end")
    done = ws.until("done")
    change = ws.of_type("bit_rate")
    assert [event["bit_rate"] for event in change] == [12000]
    index = ws.events.index(change[0])
    assert any(event["type"] == "sentence" for event in ws.events[:index])
    first = ws.audio[: int(1 / 0.02)]
    assert np.mean([len(p) for p in ws.audio[-50:]]) < 0.6 * np.mean([len(p) for p in first])
    decoded = decode_packets(ws.audio, 48000)
    assert len(decoded) / 48000 == pytest.approx(done["audio_s"], abs=0.1)
    assert np.abs(decoded).max() > 0.05


def test_what_the_network_carries_counts_for_all_that_follows(ws: Socket) -> None:
    """A report may cross the end of a request: that is no mistake of the client's."""
    for _ in range(2):
        ws.send(type="network", kbps=20)
        ws.send(type="start", voice="fake", format="opus-raw", bit_rate=48000, text=TEXT)
        assert ws.until("ready")["bit_rate"] == 12000
        ws.until("done")
    assert {event["type"] for event in ws.events} == {"ready", "timing", "sentence", "done"}


def test_bit_rate_follows_a_slow_reader() -> None:
    rate = BitRate(32_000)
    rate.sent(1.0, 3.0)
    assert rate.next() == 19_200
    rate.sent(1.0, 0.5)
    assert rate.next() == 19_200
    rate.sent(1.0, 0.0)
    assert rate.next() == 24_000
    for _ in range(9):
        rate.sent(1.0, 9.0)
        rate.next()
    rate.sent(1.0, 9.0)
    assert rate.next() == LOWEST
    rate.report(1000)
    assert rate.next() == 32_000
