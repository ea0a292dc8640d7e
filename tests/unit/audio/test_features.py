from __future__ import annotations

import numpy as np
import pytest

from mynah.audio import features
from mynah.config import MelConfig
from mynah.errors import InvalidRequestError


def _tone(hz: float, rate: int, seconds: float = 0.5) -> features.FloatArray:
    time = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def test_one_second_has_the_expected_number_of_frames() -> None:
    assert features.log_mel(_tone(440, 24000, 1.0), MelConfig()).shape == (50, 80)
    assert features.whisper_log_mel(_tone(440, 16000, 1.0)).shape == (100, 128)
    assert features.kaldi_fbank(_tone(440, 16000, 1.0)).shape == (98, 80)


def test_a_higher_tone_peaks_in_a_higher_bin() -> None:
    peaks = [
        int(features.log_mel(_tone(hz, 24000), MelConfig())[10].argmax())
        for hz in (200, 500, 1000, 2000, 4000)
    ]
    assert peaks == sorted(set(peaks))


def test_silence_is_the_floor() -> None:
    silence = np.zeros(16000, np.float32)
    assert np.ptp(features.log_mel(silence, MelConfig())) < 5
    np.testing.assert_allclose(features.whisper_log_mel(silence), -1.5, atol=1e-6)
    np.testing.assert_allclose(features.kaldi_fbank(silence), 0, atol=1e-5)


def test_long_recordings_are_computed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = _tone(300, 24000, 1.3)
    whole = features.log_mel(samples, MelConfig())
    monkeypatch.setattr(features, "_BLOCK_FRAMES", 7)
    np.testing.assert_allclose(features.log_mel(samples, MelConfig()), whole, atol=1e-5)


def test_filters_are_shared_and_cannot_be_changed() -> None:
    first = features.slaney_filters(24000, 1920, 80, 0.0, 8000.0)
    assert features.slaney_filters(24000, 1920, 80, 0.0, 8000.0) is first
    assert not np.array_equal(features.slaney_filters(24000, 1920, 80, 0.0, None), first)
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1


def test_input_is_not_changed() -> None:
    samples = _tone(300, 16000)
    before = samples.copy()
    features.kaldi_fbank(samples)
    features.whisper_log_mel(samples)
    np.testing.assert_array_equal(samples, before)


def test_too_short_or_stereo_input_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="at least 160 samples, got 10"):
        features.whisper_log_mel(np.zeros(10, np.float32))
    with pytest.raises(InvalidRequestError, match=r"got \(10, 2\)"):
        features.kaldi_fbank(np.zeros((10, 2), np.float32))
    with pytest.raises(InvalidRequestError, match="at least 2 samples"):
        features.log_mel(np.zeros(0, np.float32), MelConfig())
    assert features.kaldi_fbank(np.zeros(399, np.float32)).shape == (0, 80)
