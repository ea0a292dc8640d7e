"""Harmonic source whose phase runs from sample to sample: pitch, joins, starts, long speech."""

from __future__ import annotations

import numpy as np
import pytest

from mynah.config import VocoderConfig
from mynah.pipeline.harmonics import HarmonicState, advance, harmonics

CONFIG = VocoderConfig(
    sine_phase="sample", upsample_rates=(8, 8), upsample_kernel_sizes=(16, 16), noise_std=0.0
)
RATE = 22050
SIZE = CONFIG.samples_per_frame


def exact(f0: np.ndarray, harmonic: int = 1) -> np.ndarray:
    """The same sine by whole sums in double precision."""
    step = (f0 * np.float32(harmonic) / np.float32(RATE)).astype(np.float64)
    cycles = np.repeat(step, SIZE).cumsum()
    return CONFIG.sine_amplitude * np.sin(2 * np.pi * cycles)


def test_harmonics_are_multiples_of_f0() -> None:
    waves = harmonics(CONFIG, np.full(100, 210.0, np.float32), RATE)[:RATE]
    peaks = np.abs(np.fft.rfft(waves, axis=0)).argmax(axis=0)
    assert peaks.tolist() == [210 * (h + 1) for h in range(CONFIG.num_harmonics + 1)]
    assert np.abs(waves).max() == pytest.approx(CONFIG.sine_amplitude, rel=1e-3)


def test_a_frame_needs_no_other_one() -> None:
    state = HarmonicState(RATE)
    assert len(advance(CONFIG, np.full(3, 200.0, np.float32), state, final=False)) == 3 * SIZE
    assert not len(advance(CONFIG, np.zeros(0, np.float32), state, final=True))


def test_pitch_changes_without_a_jump() -> None:
    f0 = np.random.default_rng(0).uniform(80, 300, 200).astype(np.float32)
    waves = harmonics(CONFIG, f0, RATE)
    for harmonic in (1, 5):
        np.testing.assert_allclose(waves[:, harmonic - 1], exact(f0, harmonic), rtol=0, atol=1e-6)


def test_ten_minutes_stay_precise() -> None:
    """Rounding does not grow: whole cycles are dropped in time."""
    config = CONFIG.model_copy(update={"num_harmonics": 0})
    frames = 10 * 60 * RATE // SIZE
    f0 = np.random.default_rng(0).uniform(150, 300, frames).astype(np.float32)
    made = harmonics(config, f0, RATE)[-SIZE:, 0]
    np.testing.assert_allclose(made, exact(f0)[-SIZE:], rtol=0, atol=1e-6)


def test_overtones_start_at_random_phases_of_their_own_generator() -> None:
    f0 = np.full(4, 200.0, np.float32)
    plain = harmonics(CONFIG, f0, RATE)
    first, again, other = (
        harmonics(CONFIG, f0, RATE, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first[:, 0], plain[:, 0], rtol=0, atol=1e-7)
    for harmonic in range(1, CONFIG.num_harmonics + 1):
        assert np.abs(first[:, harmonic] - other[:, harmonic]).max() > 1e-3
        assert np.abs(first[:, harmonic] - plain[:, harmonic]).max() > 1e-3
