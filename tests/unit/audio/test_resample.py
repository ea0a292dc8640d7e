from __future__ import annotations

import numpy as np
import pytest

from mynah.audio.resample import Resampler, resample, sinc_resample
from mynah.errors import InvalidRequestError


def _tone(rate: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)


@pytest.mark.parametrize("convert", [resample, sinc_resample])
@pytest.mark.parametrize(("source", "target"), [(48000, 24000), (44100, 16000), (16000, 24000)])
def test_a_tone_stays_the_same_tone(convert, source: int, target: int) -> None:  # type: ignore[no-untyped-def]  # two functions of one form
    result = convert(_tone(source), source, target)
    assert result.dtype == np.float32
    assert len(result) == target
    middle = slice(target // 4, -target // 4)
    assert np.abs(result - _tone(target))[middle].max() < 5e-3


@pytest.mark.parametrize("convert", [resample, sinc_resample])
def test_nothing_to_do(convert) -> None:  # type: ignore[no-untyped-def]  # two functions of one form
    samples = _tone(16000)
    assert convert(samples, 16000, 16000) is samples
    assert len(convert(samples[:0], 16000, 24000)) == 0
    with pytest.raises(InvalidRequestError, match="from 0 Hz to 16000 Hz"):
        convert(samples, 0, 16000)


def test_rates_without_a_common_divisor_need_no_giant_filter() -> None:
    assert abs(len(sinc_resample(_tone(47999), 47999, 24000)) - 24000) <= 1


def test_an_unfed_stream_ends_empty() -> None:
    assert len(Resampler(16000, 24000).finish()) == 0
    same = Resampler(16000, 16000)
    assert len(same.feed(np.ones(3, np.float32))) == 3
    assert len(same.finish()) == 0
