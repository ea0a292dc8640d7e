"""Recordings that clients send: decoded under limits, without believing their names or types."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any

import numpy as np

from mynah.audio.io import read_audio
from mynah.errors import InvalidRequestError, PromptAudioError
from mynah.server.errors import TooLargeError
from mynah.types import Audio

_DATA_URL = "data:"
# By their first bytes; anything else is read by libsndfile or not at all. Naming the container
# keeps FFmpeg from guessing, and so from formats that open further files or addresses.
_BROWSER = "matroska"
_PHONE = "mov"
_ADTS = "aac"


def decode_upload(data: bytes, max_bytes: int, max_duration_s: float) -> Audio:
    """Decode a recording to mono.

    Args:
        data: of a file: WAV, FLAC, Ogg, MP3, and through PyAV WebM, MP4 and AAC.
        max_bytes: refuse larger files.
        max_duration_s: refuse longer recordings, in seconds.

    Raises:
        TooLargeError: if it has too many bytes.
        PromptAudioError: if it cannot be read, is empty or too long.
    """
    if len(data) > max_bytes:
        raise TooLargeError(
            f"the recording has {len(data)} bytes, the limit is {max_bytes}",
            hint="send 3 to 10 seconds of speech; FLAC and MP3 are smaller than WAV",
        )
    container = _container(data)
    if container is None:
        return read_audio(data, max_duration_s=max_duration_s)
    return _decode_with_av(data, container, max_duration_s)


def decode_base64(text: str) -> bytes:
    """Return the bytes of base64 text, also of a ``data:`` URL.

    Raises:
        PromptAudioError: if it is neither.
    """
    if text.startswith(_DATA_URL):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise PromptAudioError(
                "the reference audio is a data URL, but not of base64",
                hint="send data:audio/wav;base64,... or the base64 alone",
            )
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise PromptAudioError(
            "the reference audio is not valid base64",
            hint="encode the bytes of the sound file with base64",
        ) from error


def _container(data: bytes) -> str | None:
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return _BROWSER
    if data[4:8] == b"ftyp":
        return _PHONE
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:  # layer bits 00: not MP3
        return _ADTS
    return None


def _decode_with_av(data: bytes, container: str, max_duration_s: float) -> Audio:
    try:
        import av
    except ImportError as error:
        raise InvalidRequestError(
            "this kind of recording needs PyAV, which is not installed here",
            hint='send WAV or FLAC, or install "mynah-tts[server]"',
        ) from error
    parts: list[Any] = []
    rate, count = 0, 0
    try:
        with av.open(io.BytesIO(data), mode="r", format=container) as opened:
            stream = next(iter(opened.streams.audio), None)
            if stream is None:
                raise PromptAudioError(
                    "the recording holds no sound", hint="send a file with an audio track"
                )
            resampler = av.AudioResampler(format="flt", layout="mono")
            for frame in opened.decode(stream):
                for mono in resampler.resample(frame):
                    rate = mono.sample_rate
                    samples = mono.to_ndarray().reshape(-1)
                    count += len(samples)
                    parts.append(samples)
                if rate and count > max_duration_s * rate:
                    raise PromptAudioError(
                        f"the recording is longer than {max_duration_s:g} s",
                        hint="cut out the part that is needed",
                    )
    except av.FFmpegError as error:
        raise PromptAudioError(
            f"the recording cannot be decoded: {error.strerror}", hint="convert it to WAV or FLAC"
        ) from error
    if not count:
        raise PromptAudioError("the recording holds no samples", hint="record it again")
    samples = np.concatenate(parts).astype(np.float32)
    if not np.isfinite(samples).all():
        raise PromptAudioError("the recording holds NaN", hint="convert it to WAV or FLAC")
    return Audio(samples, rate)
