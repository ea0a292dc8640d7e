from __future__ import annotations

import io

import numpy as np
import pytest

from mynah.audio.encoders import FORMATS, format_named, open_encoder
from mynah.errors import InvalidRequestError, UnsupportedFeatureError

av = pytest.importorskip("av")

RATE = 24000
COMPRESSED = [name for name in FORMATS if name not in ("wav", "pcm")]


def tone(seconds: float = 1.0) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


def encoded(name: str, pieces: list[np.ndarray], **options: int) -> tuple[list[bytes], int]:
    encoder = open_encoder(name, RATE, **options)
    parts = [encoder.encode(piece) for piece in pieces]
    return [*parts, encoder.finish()], encoder.sample_rate


def decoded(name: str, data: bytes, rate: int) -> np.ndarray:
    if name in ("wav", "pcm"):
        return np.frombuffer(data[44 if name == "wav" else 0 :], "<i2") / 32768
    options = {"sample_rate": str(rate)} if name in ("mulaw", "alaw") else {}
    with av.open(io.BytesIO(data), format=FORMATS[name].muxer.replace("adts", "aac"),
                 options=options) as container:  # fmt: skip
        resampler = av.AudioResampler(format="flt", layout="mono")
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("sample_rate", [8000, 16000, 24000, 48000])
def test_every_format_plays_back_what_was_said(name: str, sample_rate: int) -> None:
    pieces = np.array_split(tone(), 7)
    parts, rate = encoded(name, pieces, sample_rate=sample_rate)
    assert rate == sample_rate
    heard = decoded(name, b"".join(parts), rate)
    heard = heard[: rate + rate // 5]
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    peak_hz = spectrum.argmax() * rate / len(heard)
    if name == "opus":  # its decoder always answers at 48 kHz
        peak_hz *= 48000 / rate
    assert abs(peak_hz - 440) < 8
    assert 0.25 < np.abs(heard).max() < 0.75


@pytest.mark.parametrize("name", FORMATS)
def test_bytes_come_while_the_audio_is_made(name: str) -> None:
    parts, _ = encoded(name, np.array_split(tone(4), 20))
    assert sum(map(len, parts[:10])) > 0.3 * sum(map(len, parts))


@pytest.mark.parametrize(
    ("name", "magic"), [("wav", b"RIFF"), ("flac", b"fLaC"), ("opus", b"OpusHead")]
)
def test_one_header_for_each_stream(name: str, magic: bytes) -> None:
    whole = b"".join(encoded(name, np.array_split(tone(), 5))[0])
    assert whole.count(magic) == 1


@pytest.mark.parametrize("name", ["wav", "pcm", "flac", "mulaw", "alaw"])
def test_the_pieces_do_not_matter(name: str) -> None:
    once = b"".join(encoded(name, [tone()])[0])
    often = b"".join(encoded(name, np.array_split(tone(), 13))[0])
    rate = RATE
    np.testing.assert_array_equal(decoded(name, once, rate), decoded(name, often, rate))


def test_loud_samples_are_clipped_not_wrapped() -> None:
    loud = np.array([0.0, 1.0, 1.5, -1.0, -3.0, np.inf], np.float32)
    values = np.frombuffer(b"".join(encoded("pcm", [loud])[0]), "<i2")
    assert values.tolist() == [0, 32767, 32767, -32768, -32768, 32767]


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_stream_is_a_valid_file(name: str) -> None:
    parts, rate = encoded(name, [])
    assert np.abs(decoded(name, b"".join(parts), rate)).max(initial=0) < 0.01


@pytest.mark.parametrize("name", ["mp3", "opus", "aac"])
def test_a_smaller_bit_rate_makes_fewer_bytes(name: str) -> None:
    sizes = [len(b"".join(encoded(name, [tone(3)], bit_rate=r)[0])) for r in (24_000, 96_000)]
    assert sizes[0] < sizes[1]


def test_a_rate_the_format_cannot_hold_goes_up() -> None:
    assert open_encoder("opus", 22050).sample_rate == 24000
    assert open_encoder("mp3", 22050).sample_rate == 22050


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("ogg", {}, UnsupportedFeatureError),
        ("opus", {"sample_rate": 22050}, UnsupportedFeatureError),
        ("wav", {"bit_rate": 64000}, UnsupportedFeatureError),
        ("mp3", {"bit_rate": 1}, InvalidRequestError),
        ("pcm", {"sample_rate": 3}, InvalidRequestError),
    ],
)
def test_what_cannot_be_is_refused(name: str, options: dict[str, int], expected: type) -> None:
    with pytest.raises(expected) as caught:
        open_encoder(name, RATE, **options)
    assert caught.value.hint


def test_formats_have_content_types() -> None:
    assert format_named("mp3").content_type == "audio/mpeg"
