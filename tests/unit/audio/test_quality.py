from __future__ import annotations

import numpy as np
import pytest

from mynah.audio.quality import check_prompt, measure_prompt, sound_span
from mynah.errors import PromptAudioError
from mynah.types import Audio
from tests.sounds import make_speechlike


def _noise(duration_s: float) -> Audio:
    count = round(16000 * duration_s)
    samples = 0.1 * np.random.default_rng(0).standard_normal(count)
    return Audio(samples.astype(np.float32), 16000)


def _gain(audio: Audio, gain: float) -> Audio:
    return Audio(np.clip(audio.samples * np.float32(gain), -1, 1), audio.sample_rate)


def test_speech_passes_with_its_measurements(speechlike: Audio) -> None:
    report = check_prompt(speechlike)
    assert report.duration_s == pytest.approx(3.0)
    assert 2.5 < report.sound_s <= 3.0
    assert report.snr_db > 20
    assert report.clipped_share == 0


def test_quiet_recordings_pass(speechlike: Audio) -> None:
    assert check_prompt(_gain(speechlike, 0.1)).level_db > -50


SPEECH = make_speechlike(3.0, 16000)
PAD = np.zeros(24000, np.float32)
BAD = {
    "0.50 s long, at least 1 s": make_speechlike(0.5, 16000),
    "31.0 s long, the limit is 30 s": make_speechlike(31.0, 16000),
    "8000 Hz, at least 16000 Hz": make_speechlike(3.0, 8000),
    "is silent: .* -100 dBFS": Audio(np.zeros(32000, np.float32), 16000),
    "is silent: .* -60 dBFS": _gain(_noise(3.0), 0.01),
    "% of the samples are at full scale": _gain(SPEECH, 30.0),
    "too noisy: .* 1 dB above": _noise(3.0),
    r"0\.[56]\d s of sound": Audio(
        np.concatenate([PAD, make_speechlike(0.6, 16000).samples, PAD]), 16000
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_unsuitable_recordings_are_refused_with_value_and_cure(message: str) -> None:
    with pytest.raises(PromptAudioError, match=message) as caught:
        check_prompt(BAD[message], name="anna.wav")
    assert caught.value.message.startswith("anna.wav ")
    assert caught.value.hint


def test_loud_noise_is_found_but_some_is_allowed() -> None:
    noise = np.random.default_rng(0).standard_normal(len(SPEECH)).astype(np.float32)
    level = np.sqrt(np.mean(SPEECH.samples**2))
    check_prompt(Audio(SPEECH.samples + noise * level * np.float32(0.2), 16000))
    with pytest.raises(PromptAudioError, match="too noisy"):
        check_prompt(Audio(SPEECH.samples + noise * level * np.float32(1.5), 16000))


def test_silence_at_both_ends_is_found() -> None:
    samples = np.concatenate([PAD, SPEECH.samples, PAD])
    start, end = sound_span(samples, 16000)
    assert 24000 - 2400 <= start <= 24000
    assert 72000 - 3200 <= end <= 72000 + 2400
    assert sound_span(PAD, 16000) == (0, 0)
    assert sound_span(PAD[:0], 16000) == (0, 0)


def test_an_empty_recording_can_be_measured() -> None:
    report = measure_prompt(Audio(np.zeros(0, np.float32), 16000))
    assert (report.duration_s, report.peak, report.clipped_share) == (0, 0, 0)
