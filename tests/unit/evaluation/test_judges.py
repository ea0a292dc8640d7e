from __future__ import annotations

import sys

import numpy as np
import pytest

from mynah.errors import BackendUnavailableError, InvalidRequestError
from mynah.evaluation import dnsmos
from mynah.evaluation.dnsmos import HOP_SAMPLES, WINDOW_SAMPLES, Dnsmos
from mynah.evaluation.recognizer import Recognizer
from mynah.types import Audio
from tests.sounds import make_speechlike


@pytest.mark.parametrize(
    ("num_samples", "count"),
    [
        (WINDOW_SAMPLES, 1),
        (WINDOW_SAMPLES + HOP_SAMPLES - 1, 1),
        (WINDOW_SAMPLES + HOP_SAMPLES, 2),
        (WINDOW_SAMPLES - 1, 10),  # doubled
        (100, 4),  # doubled until long enough
    ],
)
def test_windows(num_samples: int, count: int) -> None:
    samples = np.arange(num_samples, dtype=np.float32)
    windows = dnsmos.windows(samples)
    assert len(windows) == count
    assert all(len(window) == WINDOW_SAMPLES for window in windows)
    shared = min(num_samples, WINDOW_SAMPLES)
    np.testing.assert_array_equal(windows[0][:shared], samples[:shared])


def test_dnsmos_prefers_quiet_to_noise() -> None:
    judge = Dnsmos()
    speech = make_speechlike(4.0, 24000)
    noise = np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32)
    clean = judge.score(speech)
    noisy = judge.score(Audio(speech.samples + 0.05 * noise, 24000))
    assert noisy.background < clean.background - 0.3
    assert all(0 < value < 5 for value in (clean.overall, clean.speech, clean.background))
    with pytest.raises(InvalidRequestError, match="without samples"):
        judge.score(Audio(np.zeros(0, np.float32), 16000))


def test_the_recognizer_depends_on_nothing_heard_before() -> None:
    pytest.importorskip("pocketsphinx", reason="no wheel for this Python")
    judge = Recognizer()
    sound = make_speechlike(2.0, 24000)
    first = judge.transcribe(sound)
    judge.transcribe(make_speechlike(1.0, 16000, seed=3))
    assert judge.transcribe(sound) == first
    assert judge.transcribe(Audio(np.zeros(16000, np.float32), 16000)) == ""
    assert judge.transcribe(Audio(np.zeros(0, np.float32), 16000)) == ""


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(BackendUnavailableError, match=r"mynah-tts\[eval\]"):
        Recognizer()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendUnavailableError, match=r"mynah-tts\[eval\]"):
        Dnsmos()
