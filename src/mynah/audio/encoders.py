"""Audio formats encoded while the audio is being made: one header, then bytes for every piece.

WAV and bare PCM are written here; everything compressed goes through PyAV (FFmpeg). Samples are
clipped before they become integers.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mynah.audio import pcm
from mynah.audio.resample import FloatArray, Resampler
from mynah.errors import BackendUnavailableError, InvalidRequestError, UnsupportedFeatureError

_TELEPHONE_AND_UP = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


@dataclass(frozen=True)
class Format:
    """What a format is on the wire."""

    content_type: str
    suffix: str
    rates: tuple[int, ...] | None
    """Sample rates in Hz that it can hold; None = any."""
    muxer: str = ""
    """FFmpeg's name of the container; "" = written here."""
    codec: str = ""
    bit_rates: tuple[int, int] | None = None
    """Smallest and largest bit rate in bits per second; None = it has none to choose."""
    default_bit_rate: int = 0


FORMATS: dict[str, Format] = {
    "wav": Format("audio/wav", ".wav", None),
    "pcm": Format("audio/pcm", ".pcm", None),
    "flac": Format("audio/flac", ".flac", None, "flac", "flac"),
    "mp3": Format(
        "audio/mpeg", ".mp3", _TELEPHONE_AND_UP, "mp3", "libmp3lame", (8_000, 320_000), 96_000
    ),
    "opus": Format(
        "audio/ogg", ".opus", (8000, 12000, 16000, 24000, 48000), "ogg", "libopus",
        (6_000, 256_000), 48_000,
    ),
    "aac": Format("audio/aac", ".aac", _TELEPHONE_AND_UP, "adts", "aac", (16_000, 320_000), 96_000),
    "mulaw": Format("audio/basic", ".ulaw", None, "mulaw", "pcm_mulaw"),
    "alaw": Format("audio/x-alaw-basic", ".alaw", None, "alaw", "pcm_alaw"),
}  # fmt: skip
"""Every format by its name."""

# Small pages and no seek table: the listener gets what there is, and a pipe cannot go back.
_MUXER_OPTIONS: dict[str, dict[str, str]] = {
    "ogg": {"page_duration": "20000"},
    "mp3": {"write_xing": "0", "id3v2_version": "0"},
}
_BLOCK = 1 << 16


class StreamEncoder(Protocol):
    """One stream being encoded."""

    sample_rate: int
    """Of the encoded audio, in Hz."""

    def encode(self, samples: FloatArray) -> bytes:
        """Append float32 (num_samples,) at the source's rate; return what is ready, maybe b""."""
        ...

    def finish(self) -> bytes:
        """Return the rest; nothing can be encoded after this."""
        ...


def format_named(name: str) -> Format:
    """Look a format up.

    Raises:
        UnsupportedFeatureError: naming the formats there are.
    """
    if name not in FORMATS:
        raise UnsupportedFeatureError(
            f"there is no audio format {name!r}", hint=f"choose one of {', '.join(FORMATS)}"
        )
    return FORMATS[name]


def open_encoder(
    name: str,
    source_rate: int,
    *,
    sample_rate: int | None = None,
    bit_rate: int | None = None,
) -> StreamEncoder:
    """Begin a stream.

    Args:
        name: a key of ``FORMATS``.
        source_rate: of the samples that will come, in Hz.
        sample_rate: of the encoded audio; None = the source's, or the nearest above that the
            format can hold.
        bit_rate: in bits per second, for mp3, opus and aac.

    Raises:
        UnsupportedFeatureError: for an unknown format, or a rate or bit rate that it cannot have.
        InvalidRequestError: if a rate is out of range.
        BackendUnavailableError: if the format needs PyAV and it is not installed.
    """
    kind = format_named(name)
    rate = _rate(name, kind, source_rate, sample_rate)
    if bit_rate is not None:
        _check_bit_rate(name, kind, bit_rate)
    if not kind.muxer:
        return _PlainEncoder(name, source_rate, rate)
    return _AvEncoder(kind, source_rate, rate, bit_rate or kind.default_bit_rate)


def _rate(name: str, kind: Format, source_rate: int, wanted: int | None) -> int:
    if wanted is None:
        if kind.rates is None or source_rate in kind.rates:
            return source_rate
        return next((rate for rate in kind.rates if rate > source_rate), kind.rates[-1])
    if not 4000 <= wanted <= 192_000:
        raise InvalidRequestError(
            f"sample rate {wanted} Hz is out of range", hint="choose 8000 to 48000"
        )
    if kind.rates is not None and wanted not in kind.rates:
        raise UnsupportedFeatureError(
            f"{name} cannot hold {wanted} Hz",
            hint=f"choose one of {', '.join(map(str, kind.rates))}",
        )
    return wanted


def _check_bit_rate(name: str, kind: Format, bit_rate: int) -> None:
    if kind.bit_rates is None:
        raise UnsupportedFeatureError(
            f"{name} has no bit rate to choose", hint="leave it out, or use mp3, opus or aac"
        )
    low, high = kind.bit_rates
    if not low <= bit_rate <= high:
        raise InvalidRequestError(
            f"{bit_rate} bit/s is out of range for {name}", hint=f"choose {low} to {high}"
        )


class _PlainEncoder:
    """WAV of unknown length, or bare 16-bit little-endian PCM."""

    def __init__(self, name: str, source_rate: int, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._resampler = Resampler(source_rate, sample_rate)
        self._header = pcm.wav_header(sample_rate) if name == "wav" else b""

    def encode(self, samples: FloatArray) -> bytes:
        header, self._header = self._header, b""
        return header + pcm.to_bytes(self._resampler.feed(samples))

    def finish(self) -> bytes:
        header, self._header = self._header, b""
        return header + pcm.to_bytes(self._resampler.finish())


class _Pipe(io.RawIOBase):
    """Where FFmpeg writes; cannot be searched, like the connection it stands for."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


class _AvEncoder:
    """Anything FFmpeg can encode and mux into a pipe."""

    def __init__(self, kind: Format, source_rate: int, sample_rate: int, bit_rate: int) -> None:
        av = _require_av()
        self.sample_rate = sample_rate
        self._resampler = Resampler(source_rate, sample_rate)
        self._pipe = _Pipe()
        options = {"flush_packets": "1", **_MUXER_OPTIONS.get(kind.muxer, {})}
        self._container = av.open(
            self._pipe, mode="w", format=kind.muxer, options=options, buffer_size=4096
        )
        stream = self._container.add_stream(kind.codec, rate=sample_rate)
        stream.layout = "mono"
        if bit_rate:
            stream.bit_rate = bit_rate
        self._stream = stream
        self._frame_type = av.AudioFrame
        self._num_samples = 0

    def encode(self, samples: FloatArray) -> bytes:
        self._write(self._resampler.feed(samples))
        return self._pipe.take()

    def finish(self) -> bytes:
        self._write(self._resampler.finish())
        if self._num_samples == 0:  # some muxers write no header for a stream without frames
            self._write(np.zeros(self.sample_rate // 50, np.float32))
        for packet in self._stream.encode(None):
            self._container.mux(packet)
        self._container.close()
        return self._pipe.take()

    def _write(self, samples: FloatArray) -> None:
        for start in range(0, len(samples), _BLOCK):
            values = pcm.float_to_int16(samples[start : start + _BLOCK])
            frame = self._frame_type.from_ndarray(values[None], format="s16", layout="mono")
            frame.sample_rate = self.sample_rate
            frame.pts = self._num_samples
            self._num_samples += len(values)
            for packet in self._stream.encode(frame):
                self._container.mux(packet)


def _require_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise BackendUnavailableError(
            "compressed audio streams need PyAV, which is not installed",
            hint='pip install "mynah-tts[server]"',
        ) from error
    return av
