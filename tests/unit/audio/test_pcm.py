from __future__ import annotations

import io
import wave

import numpy as np
import pytest

from mynah.audio import pcm
from mynah.errors import InvalidRequestError


def test_loud_samples_are_clipped_and_never_wrap() -> None:
    samples = np.array([-9.0, -1.0, 0.0, 1.0, 1.0001, 9.0, np.inf, -np.inf], np.float32)
    expected = [-32768, -32768, 0, 32767, 32767, 32767, 32767, -32768]
    assert pcm.float_to_int16(samples).tolist() == expected


def test_nan_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="1 of 3 samples are NaN"):
        pcm.float_to_int16(np.array([0, np.nan, 0], np.float32))


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="3 bytes"):
        pcm.from_bytes(b"abc")


def test_the_standard_library_reads_the_header() -> None:
    data = pcm.to_bytes(np.zeros(480, np.float32))
    with wave.open(io.BytesIO(pcm.wav_header(24000, 480) + data)) as file:
        assert file.getparams()[:4] == (1, 2, 24000, 480)


def test_an_unknown_length_is_the_largest_number() -> None:
    header = pcm.wav_header(24000)
    assert len(header) == pcm.WAV_HEADER_BYTES
    assert header[4:8] == header[40:44] == b"\xff" * 4
    assert pcm.wav_header(24000, 1 << 40) == header
