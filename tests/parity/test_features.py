"""Features and the prompt resampler against the official code's outputs."""

from __future__ import annotations

import numpy as np
import pytest

from mynah.audio.features import kaldi_fbank, log_mel, whisper_log_mel
from mynah.audio.resample import sinc_resample
from mynah.config import MelConfig
from tests.parity import golden

DATA = golden.load("features", "features")
FACTS = golden.facts("features", "features")
CASES = sorted({name.split(".")[0] for name in DATA})


def _present(quantity: str) -> list[str]:
    return [case for case in CASES if f"{case}.{quantity}" in DATA]


def test_cases_were_found() -> None:
    for quantity in ("mel24k_fmax8000", "whisper_logmel128", "fbank80", "wav"):
        assert _present(quantity), quantity


# Measured: 3.1e-6 (v2); 3.1e-4 (no fmax, energy near the floor above the source's Nyquist).
@pytest.mark.parametrize(
    ("case", "fmax"),
    [
        *((case, 8000.0) for case in _present("mel24k_fmax8000")),
        *((case, None) for case in _present("mel24k_fmaxNone")),
    ],
)
def test_prompt_mel(case: str, fmax: float | None) -> None:
    suffix = "None" if fmax is None else f"{fmax:.0f}"
    expected = DATA[f"{case}.mel24k_fmax{suffix}"][0].T
    actual = log_mel(DATA[f"{case}.wav24k"][0], MelConfig(fmax=fmax))
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-3)


# Measured: 1.6e-5.
@pytest.mark.parametrize("case", _present("whisper_logmel128"))
def test_whisper_log_mel(case: str) -> None:
    expected = DATA[f"{case}.whisper_logmel128"][0].T
    actual = whisper_log_mel(DATA[f"{case}.wav16k"][0])
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4)


# Measured: 2.9e-4, of which the reference's own rounding is the larger part (float64: 5.8e-4).
@pytest.mark.parametrize("subtract_mean", [False, True], ids=["plain", "mean_sub"])
@pytest.mark.parametrize("case", _present("fbank80"))
def test_kaldi_fbank(case: str, subtract_mean: bool) -> None:
    expected = DATA[f"{case}.fbank80" + ("_mean_sub" if subtract_mean else "")]
    actual = kaldi_fbank(DATA[f"{case}.wav16k"][0], subtract_mean=subtract_mean)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-3)


# Measured: 1.5e-6.
@pytest.mark.parametrize(
    ("case", "rate"),
    [(case, rate) for rate in (16000, 24000) for case in _present(f"wav{rate // 1000}k")],
)
def test_prompt_resampler(case: str, rate: int) -> None:
    expected = DATA[f"{case}.wav{rate // 1000}k"][0]
    actual = sinc_resample(DATA[f"{case}.wav"][0], FACTS[case]["sample_rate"], rate)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
