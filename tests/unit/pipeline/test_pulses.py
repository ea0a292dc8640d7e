"""The pulse train of the source-filter vocoder: pitch, band limit, silence, any chunking."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynah.config import VocoderConfig
from mynah.pipeline.pulses import PulseState, advance, pulses

RATE = 24000
CONFIG = VocoderConfig(
    head="source_filter", num_harmonics=0, upsample_rates=(4,), upsample_kernel_sizes=(8,),
    n_fft=480, hop_length=120, sine_amplitude=0.05, noise_std=0.1,
)  # fmt: skip
SIZE = CONFIG.samples_per_frame


def test_one_pulse_per_period_with_equal_harmonics() -> None:
    train = pulses(CONFIG, np.full(50, 200.0, np.float32), RATE)[:, 0]
    spectrum = np.abs(np.fft.rfft(train[: 24000 // 2]))  # 2 Hz per bin
    harmonics = spectrum[100 : 100 * 56 : 100]
    assert harmonics.min() > 0.8 * harmonics.max()
    between = spectrum[50 : 100 * 56 : 100]
    assert between.max() < 0.01 * harmonics.max()
    assert spectrum[int(0.98 * 6000) :].max() < 0.01 * harmonics.max(), "nothing near Nyquist"


def test_unvoiced_frames_are_silent_and_noise_is_everywhere() -> None:
    f0 = np.array([0, 0, 150, 150, 0], np.float32)
    out = pulses(CONFIG, f0, RATE, np.random.default_rng(0))
    voiced = np.abs(out[:, 0]).reshape(5, SIZE).max(axis=1) > 0
    assert voiced.tolist() == [False, False, True, True, False]
    level = out[:, 1].reshape(5, SIZE).std(axis=1)
    np.testing.assert_allclose(level, CONFIG.noise_std, rtol=0.2)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_short_input_has_its_length(size: int) -> None:
    out = pulses(CONFIG, np.full(size, 120.0, np.float32), RATE)
    assert out.shape == (size * SIZE, 2)


@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=8),
    st.integers(0, 2**31),
)
def test_any_chunking_gives_the_same_samples(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    total = sum(sizes)
    f0 = (rng.uniform(80, 400, total) * (rng.random(total) > 0.3)).astype(np.float32)
    whole = pulses(CONFIG, f0, RATE, np.random.default_rng(1))
    state = PulseState(RATE, np.random.default_rng(1))
    parts, start = [], 0
    for size in sizes:
        parts.append(advance(CONFIG, f0[start : start + size], state, final=False))
        start += size
    parts.append(advance(CONFIG, f0[:0], state, final=True))
    np.testing.assert_array_equal(np.concatenate(parts), whole)
