from __future__ import annotations

import numpy as np
import pytest

from mynah.config import MelConfig
from mynah.evaluation.measures import (
    compare_scores,
    divergences,
    log_mel_of,
    relative_error,
    signal_to_noise_db,
)


def test_divergence_of_two_coins() -> None:
    fair, bent = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])
    expected = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    found = divergences(fair.astype(np.float32), bent.astype(np.float32))
    assert found[0] == pytest.approx(expected, rel=1e-5)


def test_scores_may_be_shifted_and_minus_infinity_is_harmless() -> None:
    scores = np.array([[1.0, 2.0, 3.0]], np.float32)
    assert divergences(scores, scores + 50)[0] == pytest.approx(0.0, abs=1e-6)
    banned = np.array([[1.0, 2.0, -1e30]], np.float32)
    assert np.isfinite(divergences(banned, banned)).all()


def test_agreement_is_told_along_the_sequence() -> None:
    exact = np.eye(8, dtype=np.float32)
    other = exact.copy()
    other[6:] = np.roll(other[6:], 1, axis=1)  # the last quarter is wrong
    found = compare_scores([(exact, other)])
    assert found.same == 0.75
    assert found.same_along == (1.0, 1.0, 1.0, 0.0)
    assert found.divergence_along[:3] == (0.0, 0.0, 0.0)
    assert found.divergence_along[3] > 0
    assert found.divergence == pytest.approx(found.divergence_along[3] / 4)


def test_a_tenth_of_the_amplitude_is_20_db() -> None:
    wave = np.sin(np.arange(1000, dtype=np.float32))
    assert signal_to_noise_db([(wave, np.float32(1.1) * wave)]) == pytest.approx(20, abs=0.01)
    assert signal_to_noise_db([(wave, wave), (wave, wave)]) is None


def test_an_error_is_relative_to_the_spread_not_to_the_level() -> None:
    exact = np.array([99.0, 101.0], np.float32)
    assert relative_error(exact, exact + 0.1) == pytest.approx(0.1, rel=1e-4)


def test_a_spectrum_does_not_hear_phases_nor_what_is_far_below_the_rest() -> None:
    time = np.arange(24000) / 24000
    one, late = (np.sin(2 * np.pi * (440 * time + turn)).astype(np.float32) for turn in (0, 0.3))
    hiss = 1e-6 * np.random.default_rng(0).standard_normal(24000).astype(np.float32)
    plain = log_mel_of(one, MelConfig())
    inner = slice(4, -4)
    assert relative_error(plain[inner], log_mel_of(late, MelConfig())[inner]) < 0.05
    assert relative_error(plain[inner], log_mel_of(one + hiss, MelConfig())[inner]) < 0.02
    assert signal_to_noise_db([(one, late)]) is not None
