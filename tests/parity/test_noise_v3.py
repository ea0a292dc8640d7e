"""The noise of the official CosyVoice 3 program, which its files do not hold."""

from __future__ import annotations

import numpy as np
import pytest

from mynah.networks.official import model_config_from_golden
from mynah.pipeline import vocoder
from mynah.pipeline.harmonics import HarmonicState
from mynah.pipeline.replayed_noise import ReplayedNoise
from mynah.types import FloatArray
from tests.parity import golden

TABLES = golden.load("v3", "official_noise")
SLICES = {
    "sine_waves_first4800": 0,
    "sine_waves_100000_100100": 100000,
    "sine_waves_last4": golden.facts("v3", "official_noise")["shape"][1] - 4,
}
# the tables are those of a program with the released sizes
CONFIG = model_config_from_golden(golden.contract_config(3))[2]


def drawn(start: int, stop: int, block: int = 1 << 20) -> FloatArray:
    """Samples ``start`` .. ``stop`` of the noise, (samples, harmonics)."""
    assert CONFIG.sine_noise_offset is not None
    noise, width = ReplayedNoise(CONFIG.sine_noise_offset), CONFIG.num_harmonics + 1
    for at in range(0, start, block):
        noise.random((min(block, start - at), width), dtype=np.float32)
    return noise.random((stop - start, width), dtype=np.float32)


@pytest.mark.parametrize("name", SLICES)
def test_noise_equals_the_official_table_bit_for_bit(name: str) -> None:
    table, start = TABLES[name][0], SLICES[name]
    np.testing.assert_array_equal(drawn(start, start + len(table)), table)


def test_every_utterance_hears_it_from_its_start() -> None:
    for seed in (1, 2):
        state = vocoder.new_state(CONFIG, 24000, np.random.default_rng(seed))
        assert isinstance(state.generator, HarmonicState)
        assert state.generator.noise is not None
        first = state.generator.noise.random((7, CONFIG.num_harmonics + 1), dtype=np.float32)
        np.testing.assert_array_equal(first, TABLES["sine_waves_first4800"][0, :7])


def test_a_silent_source_stays_silent() -> None:
    state = vocoder.new_state(CONFIG, 24000)
    assert isinstance(state.generator, HarmonicState)
    assert state.generator.noise is None
