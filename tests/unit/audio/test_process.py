from __future__ import annotations

import numpy as np
import pytest

from mynah.audio.process import (
    Compressor,
    PostProcessing,
    amplify,
    normalize_loudness,
    normalize_peak,
)
from mynah.audio.quality import frame_levels_db
from mynah.errors import InvalidRequestError
from mynah.types import Audio


def test_amplifying_is_linear_until_it_comes_near_full_scale() -> None:
    samples = np.linspace(-1, 1, 2001, dtype=np.float32)
    assert amplify(samples, 1.0) is samples
    np.testing.assert_array_equal(amplify(samples, 0.5), samples * np.float32(0.5))
    assert not amplify(samples, 0.0).any()
    loud = amplify(samples, 2.0)
    assert loud.dtype == np.float32
    quiet = np.abs(samples) <= 0.4
    np.testing.assert_array_equal(loud[quiet], samples[quiet] * 2)
    assert np.abs(loud).max() < 1.0
    assert np.diff(loud).min() >= 0
    assert np.abs(np.diff(loud)).max() <= 2.01 * np.diff(samples).max()  # no step at the bend
    np.testing.assert_allclose(loud, -loud[::-1], atol=1e-6)


def test_nothing_happens_by_default(speechlike: Audio) -> None:
    assert PostProcessing().apply(speechlike).samples is speechlike.samples


def test_levels_are_reached_without_clipping(speechlike: Audio) -> None:
    peak = PostProcessing(peak_db=-6.0).apply(speechlike)
    assert np.abs(peak.samples).max() == pytest.approx(10 ** (-6 / 20), rel=1e-4)
    loud = PostProcessing(loudness_db=-24.0).apply(speechlike)
    assert np.percentile(frame_levels_db(loud.samples, 24000), 95) == pytest.approx(-24, abs=0.1)
    assert np.abs(normalize_loudness(speechlike.samples, 24000, 0.0)).max() < 1


def test_silence_stays_silence() -> None:
    silence = np.zeros(2400, np.float32)
    assert not normalize_peak(silence).any()
    assert not normalize_loudness(silence, 24000).any()
    assert len(PostProcessing(compress=True).apply(Audio(silence[:0], 24000))) == 0


def test_the_compressor_evens_out_levels(speechlike: Audio) -> None:
    audio = PostProcessing(peak_db=-1.0).apply(speechlike)
    result = PostProcessing(compress=True).apply(audio)
    assert len(result) == len(audio)
    levels = [np.percentile(frame_levels_db(a.samples, 24000), 95) for a in (audio, result)]
    assert levels[1] < levels[0] - 2
    assert np.abs(result.samples).max() <= np.abs(audio.samples).max()


def test_quiet_sound_passes_the_compressor_unchanged(speechlike: Audio) -> None:
    quiet = speechlike.samples * np.float32(0.05)
    compressor = Compressor(24000)
    out = np.concatenate([compressor.feed(quiet), compressor.finish()])
    np.testing.assert_allclose(out, quiet, rtol=1e-6)


def test_contradicting_levels_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="both"):
        PostProcessing(peak_db=-1, loudness_db=-20)
    with pytest.raises(InvalidRequestError, match=r"3\.0 dBFS"):
        PostProcessing(peak_db=3.0)
