"""Harmonic source: frequencies, voicing, noise, ends, long speech."""

from __future__ import annotations

import numpy as np
import pytest

from mynah.config import VocoderConfig
from mynah.pipeline.harmonics import REBASE_FRAMES, HarmonicState, advance, harmonics

CONFIG = VocoderConfig()
RATE = 24000
SIZE = CONFIG.samples_per_frame


def test_harmonics_are_multiples_of_f0() -> None:
    waves = harmonics(CONFIG, np.full(52, 200.0, np.float32), RATE)
    middle = waves[SIZE : SIZE + RATE]  # one second: bins are Hz
    peaks = np.abs(np.fft.rfft(middle, axis=0)).argmax(axis=0)
    assert peaks.tolist() == [200 * (h + 1) for h in range(CONFIG.num_harmonics + 1)]
    assert np.abs(middle).max() == pytest.approx(CONFIG.sine_amplitude, rel=1e-3)


def test_phase_stands_still_before_the_first_and_after_the_last_centre() -> None:
    waves = harmonics(CONFIG, np.full(3, 210.0, np.float32), RATE)
    for end in (waves[: SIZE // 2], waves[-SIZE // 2 :]):
        np.testing.assert_allclose(end, np.broadcast_to(end[0], end.shape), rtol=0, atol=1e-5)


def test_unvoiced_frames_are_noise_alone() -> None:
    f0 = np.array([200, 10, 200], np.float32)  # 10 Hz is not above the threshold
    assert not harmonics(CONFIG, f0, RATE)[SIZE : 2 * SIZE].any()
    quiet = harmonics(CONFIG, f0, RATE)
    noisy = harmonics(CONFIG, f0, RATE, np.random.default_rng(0))
    noise = (noisy - quiet).reshape(3, SIZE, -1).std(axis=(1, 2))
    expected = [CONFIG.noise_std, CONFIG.sine_amplitude / 3, CONFIG.noise_std]
    np.testing.assert_allclose(noise, expected, rtol=0.05)


def test_no_frames() -> None:
    assert harmonics(CONFIG, np.zeros(0, np.float32), RATE).shape == (0, 9)
    state = HarmonicState(RATE)
    assert len(advance(CONFIG, np.ones(1, np.float32), state, final=False)) == 0
    nothing = np.zeros(0, np.float32)
    assert len(advance(CONFIG, nothing, state, final=True)) == SIZE
    assert len(advance(CONFIG, nothing, state, final=True)) == 0


def test_long_speech_stays_precise() -> None:
    """float32 phases grow without bound in the released code; here cycles are dropped in time."""
    frames = 2 * REBASE_FRAMES + 10
    f0 = np.random.default_rng(0).uniform(150, 300, frames).astype(np.float32)
    per_frame = ((f0 / np.float32(RATE)).astype(np.float64) * SIZE).cumsum()
    offset = (np.arange(SIZE) + 0.5) / SIZE - 0.5
    for frame in (REBASE_FRAMES - 1, REBASE_FRAMES, 2 * REBASE_FRAMES):
        before, here, after = per_frame[frame - 1 : frame + 2]
        cycles = here + np.where(offset < 0, here - before, after - here) * offset
        expected = CONFIG.sine_amplitude * np.sin(2 * np.pi * cycles)
        made = harmonics(CONFIG, f0, RATE)[frame * SIZE : (frame + 1) * SIZE, 0]
        np.testing.assert_allclose(made, expected, rtol=0, atol=0.02 * CONFIG.sine_amplitude)
