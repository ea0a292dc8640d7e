"""Sixteen-bit PCM and the WAV header. Out-of-range samples are clipped, they never wrap."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from mynah.errors import InvalidRequestError

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int16]

WAV_HEADER_BYTES = 44
BYTES_PER_SAMPLE = 2
_UNKNOWN = 0xFFFFFFFF
_SCALE = np.float32(32768.0)


def float_to_int16(samples: FloatArray) -> IntArray:
    """Convert float32 (num_samples,) in [-1, 1] to int16 (num_samples,), rounded and clipped.

    Raises:
        InvalidRequestError: if a sample is NaN; infinities are clipped.
    """
    scaled = np.rint(np.asarray(samples, dtype=np.float32) * _SCALE)
    if np.isnan(scaled).any():
        raise InvalidRequestError(
            f"{int(np.isnan(scaled).sum())} of {scaled.size} samples are NaN",
            hint="the network that made them misbehaved; nothing sensible can be written",
        )
    clipped: IntArray = np.clip(scaled, -32768.0, 32767.0).astype(np.int16)
    return clipped


def int16_to_float(pcm: IntArray) -> FloatArray:
    """Convert int16 (num_samples,) to float32 (num_samples,) in [-1, 1)."""
    return np.asarray(pcm, dtype=np.int16).astype(np.float32) / _SCALE


def to_bytes(samples: FloatArray) -> bytes:
    """Return float32 (num_samples,) as little-endian 16-bit PCM."""
    return float_to_int16(samples).astype("<i2", copy=False).tobytes()


def from_bytes(data: bytes) -> FloatArray:
    """Return little-endian 16-bit PCM as float32 (num_samples,).

    Raises:
        InvalidRequestError: if the number of bytes is odd.
    """
    if len(data) % BYTES_PER_SAMPLE:
        raise InvalidRequestError(
            f"{len(data)} bytes are no whole number of 16-bit samples",
            hint="pass pieces of an even number of bytes",
        )
    return int16_to_float(np.frombuffer(data, dtype="<i2").astype(np.int16))


def wav_header(sample_rate: int, num_samples: int | None = None) -> bytes:
    """Return the 44-byte header of a mono 16-bit WAV file.

    Args:
        sample_rate: in Hz.
        num_samples: None = not known yet; also for more than four gigabytes. Players then read
            to the end of the stream.
    """
    data = _UNKNOWN if num_samples is None else num_samples * BYTES_PER_SAMPLE
    data = min(data, _UNKNOWN)
    riff = min(data + WAV_HEADER_BYTES - 8, _UNKNOWN)
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        riff,
        b"WAVE",
        b"fmt ",
        16,
        1,  # integer PCM
        1,  # channel
        sample_rate,
        sample_rate * BYTES_PER_SAMPLE,
        BYTES_PER_SAMPLE,
        8 * BYTES_PER_SAMPLE,
        b"data",
        data,
    )
