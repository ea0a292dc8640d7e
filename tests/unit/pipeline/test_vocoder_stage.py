"""Vocoder stage: edges, bad values, memory; speed change against torch's interpolation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mynah.backends.base import CropArray, FloatArray
from mynah.config import VocoderConfig
from mynah.errors import GenerationError, InvalidRequestError
from mynah.pipeline import speed
from mynah.pipeline.receptive_field import lookahead_frames, receptive_field
from mynah.pipeline.speed import SpeedState
from mynah.pipeline.vocoder import MAX_WINDOW_FRAMES, advance, new_state
from tests.property.vocoder_model import CONFIGS, KINDS, SAMPLE_RATE, mel, network, oracle

CONFIG = CONFIGS["polar"]
NO_FRAMES = np.zeros((0, CONFIG.n_mels), np.float32)


class Fake:
    """A vocoder that returns set values and remembers the longest window."""

    def __init__(self, config: VocoderConfig, f0: float = 0.0, sample: float = 0.0) -> None:
        self.size, self._f0, self._sample = config.samples_per_frame, f0, sample
        self.longest = 0

    def f0(self, mel: FloatArray) -> FloatArray:
        return np.full(len(mel), self._f0, np.float32)

    def excitation(self, harmonics: FloatArray) -> FloatArray:
        return harmonics[:, 0]

    def decode(
        self, mel: FloatArray, source: FloatArray, crops: CropArray | None = None
    ) -> FloatArray:
        assert len(source) == len(mel) * self.size
        self.longest = max(self.longest, len(mel))
        return np.full(len(source), self._sample, np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [0, 1, 2, 7])
def test_short_utterances(kind: str, frames: int) -> None:
    config = CONFIGS[kind]
    made = advance(
        network(kind, "torch"),
        config,
        mel(kind, frames),
        new_state(config, SAMPLE_RATE),
        final=True,
    )
    np.testing.assert_allclose(made, oracle(kind, "torch", mel(kind, frames), None), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_long_utterance_in_bounded_windows(kind: str) -> None:
    config, frames = CONFIGS[kind], mel(kind, 2 * MAX_WINDOW_FRAMES + 60)
    state = new_state(config, SAMPLE_RATE, np.random.default_rng(0))
    made = advance(network(kind, "onnx"), config, frames, state, final=True)
    np.testing.assert_allclose(made, oracle(kind, "onnx", frames, 0), rtol=0, atol=1e-4)


def test_memory_does_not_grow() -> None:
    net, state = Fake(CONFIG), new_state(CONFIG, SAMPLE_RATE)
    sizes, emitted = set(), 0
    for _ in range(60):
        emitted += len(advance(net, CONFIG, mel("polar", 20), state, final=False))
        sizes.add((len(state.mel), len(state.source)))
    left, right = receptive_field(CONFIG)
    assert emitted == (60 * 20 - lookahead_frames(CONFIG)) * CONFIG.samples_per_frame
    assert net.longest <= left + 20 + right
    assert max(frames for frames, _ in sizes) <= left + lookahead_frames(CONFIG) + 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    for net in (Fake(CONFIG, f0=value), Fake(CONFIG, sample=value)):
        with pytest.raises(GenerationError, match="not numbers"):
            advance(net, CONFIG, mel("polar", 3), new_state(CONFIG, SAMPLE_RATE), final=True)
    broken = mel("polar", 3)
    broken[1] = value
    state = new_state(CONFIG, SAMPLE_RATE)
    with pytest.raises(GenerationError, match="not numbers"):
        advance(network("polar", "torch"), CONFIG, broken, state, final=True)


def test_loud_samples_are_clipped() -> None:
    state = new_state(CONFIG, SAMPLE_RATE)
    made = advance(Fake(CONFIG, sample=40.0), CONFIG, mel("polar", 2), state, final=True)
    assert set(made.tolist()) == {np.float32(CONFIG.audio_limit)}


def test_misuse_is_refused() -> None:
    state = new_state(CONFIG, SAMPLE_RATE)
    with pytest.raises(ValueError, match="shape"):
        advance(Fake(CONFIG), CONFIG, np.zeros((3, 5), np.float32), state, final=False)
    advance(Fake(CONFIG), CONFIG, NO_FRAMES, state, final=True)
    with pytest.raises(ValueError, match="ended"):
        advance(Fake(CONFIG), CONFIG, NO_FRAMES, state, final=True)


@pytest.mark.parametrize("factor", [0.25, 0.8, 1.0, 1.25, 3.3, 4.0])
@pytest.mark.parametrize("count", [1, 2, 50, 101])
def test_speed_equals_interpolation(factor: float, count: int) -> None:
    frames = mel("polar", count)
    made = speed.advance(frames, SpeedState(factor, count), final=True)
    size = max(int(count / factor), 1)
    whole = torch.nn.functional.interpolate(
        torch.from_numpy(frames).T[None], size=size, mode="linear"
    )[0].T
    np.testing.assert_allclose(made, whole.numpy(), rtol=0, atol=2e-4)


def test_streamed_speed_is_at_most_a_frame_from_the_whole() -> None:
    frames = np.arange(101, dtype=np.float32)[:, None]  # a frame's value is its position
    streamed = speed.advance(frames, SpeedState(1.3), final=True)
    whole = speed.advance(frames, SpeedState(1.3, 101), final=True)
    assert len(streamed) == len(whole)
    assert np.abs(streamed - whole).max() <= 1.3


def test_speed_one_changes_nothing_and_waits_for_nothing() -> None:
    frames = mel("polar", 5)
    assert np.array_equal(speed.advance(frames, SpeedState(1.0), final=False), frames)


@pytest.mark.parametrize("factor", [0.0, 0.24, 4.01, -1.0, float("nan"), float("inf")])
def test_speed_out_of_range(factor: float) -> None:
    with pytest.raises(InvalidRequestError, match="speed"):
        SpeedState(factor)


def test_speed_total_must_come_true() -> None:
    with pytest.raises(ValueError, match="instead of 5"):
        speed.advance(mel("polar", 6), SpeedState(1.5, 5), final=False)
    with pytest.raises(ValueError, match="instead of 5"):
        speed.advance(mel("polar", 4), SpeedState(1.5, 5), final=True)
