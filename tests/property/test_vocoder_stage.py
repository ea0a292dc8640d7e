"""The incremental vocoder against one whole decode, for any feeding of frames; speed likewise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.backends.base import FloatArray
from mynah.pipeline import harmonics, pulses, speed
from mynah.pipeline.harmonics import HarmonicState
from mynah.pipeline.pulses import PulseState
from mynah.pipeline.receptive_field import lookahead_frames
from mynah.pipeline.speed import SpeedState
from mynah.pipeline.vocoder import VocoderStageState, advance, new_state
from tests.property.vocoder_model import BACKENDS, CONFIGS, KINDS, SAMPLE_RATE, mel, network, oracle

TOLERANCE = 1e-4

feedings = st.lists(st.integers(0, 40), max_size=8)
seeds = st.one_of(st.none(), st.integers(0, 9))
some = settings(max_examples=25)
kinds = pytest.mark.parametrize("kind", KINDS)
backends = pytest.mark.parametrize("backend", BACKENDS)


def start(kind: str, seed: int | None) -> VocoderStageState:
    noise = None if seed is None else np.random.default_rng(seed)
    return new_state(CONFIGS[kind], SAMPLE_RATE, noise)


def split(values: FloatArray, feeding: list[int]) -> list[FloatArray]:
    """Pieces of the given sizes, then the rest as the last one."""
    ends = np.cumsum(feeding, dtype=np.int64)
    return np.split(values, np.minimum(ends, len(values)))


def stream(
    kind: str, backend: str, frames: FloatArray, seed: int | None, feeding: list[int]
) -> FloatArray:
    net, config, state = network(kind, backend), CONFIGS[kind], start(kind, seed)
    pieces = split(frames, feeding)
    made = [advance(net, config, piece, state, final=False) for piece in pieces[:-1]]
    made.append(advance(net, config, pieces[-1], state, final=True))
    return np.concatenate(made)


@kinds
@backends
@some
@given(feeding=feedings, count=st.integers(0, 120), seed=seeds)
def test_any_feeding_equals_the_whole(
    kind: str, backend: str, feeding: list[int], count: int, seed: int | None
) -> None:
    frames = mel(kind, count)
    made = stream(kind, backend, frames, seed, feeding)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, oracle(kind, backend, frames, seed), rtol=0, atol=TOLERANCE)
    whole = stream(kind, backend, frames, seed, [])
    np.testing.assert_allclose(made, whole, rtol=0, atol=1e-5)


@kinds
@backends
@some
@given(
    counts=st.lists(st.integers(0, 60), min_size=2, max_size=4),
    order=st.lists(st.integers(0, 3), max_size=12),
    size=st.integers(1, 25),
)
def test_interleaved_equal_separate(
    kind: str, backend: str, counts: list[int], order: list[int], size: int
) -> None:
    net, config = network(kind, backend), CONFIGS[kind]
    inputs = [mel(kind, count, seed) for seed, count in enumerate(counts)]
    separate = [stream(kind, backend, frames, seed, []) for seed, frames in enumerate(inputs)]
    states = [start(kind, seed) for seed in range(len(inputs))]
    fed = [0] * len(inputs)
    made: list[list[FloatArray]] = [[] for _ in inputs]
    for turn in order:
        i = turn % len(inputs)
        piece = inputs[i][fed[i] : fed[i] + size]
        fed[i] += len(piece)
        made[i].append(advance(net, config, piece, states[i], final=False))
    for i, frames in enumerate(inputs):
        made[i].append(advance(net, config, frames[fed[i] :], states[i], final=True))
        np.testing.assert_allclose(np.concatenate(made[i]), separate[i], rtol=0, atol=1e-5)


@kinds
@backends
@some
@given(known=st.integers(1, 80), more=st.integers(0, 40))
def test_committed_samples_do_not_depend_on_what_follows(
    kind: str, backend: str, known: int, more: int
) -> None:
    net, config, frames = network(kind, backend), CONFIGS[kind], mel(kind, known)
    early = advance(net, config, frames, start(kind, 1), final=False)
    certain = max(known - lookahead_frames(config), 0)
    assert len(early) == certain * config.samples_per_frame
    longer = np.concatenate([frames, mel(kind, more, seed=5) + 3])
    whole = stream(kind, backend, longer, 1, [])
    np.testing.assert_allclose(early, whole[: len(early)], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if CONFIGS[kind].head == "polar"])
@some
@given(f0=st.lists(st.floats(0, 400, width=32), max_size=150), feeding=feedings, seed=seeds)
def test_harmonics_in_any_pieces_are_the_same_bits(
    kind: str, f0: list[float], feeding: list[int], seed: int | None
) -> None:
    config, values = CONFIGS[kind], np.array(f0, np.float32)
    noises = [None if seed is None else np.random.default_rng(seed) for _ in range(2)]
    whole = harmonics.harmonics(config, values, SAMPLE_RATE, noises[0])
    state = HarmonicState(SAMPLE_RATE, noises[1])
    pieces = split(values, feeding)
    made = [harmonics.advance(config, piece, state, final=False) for piece in pieces[:-1]]
    made.append(harmonics.advance(config, pieces[-1], state, final=True))
    assert np.array_equal(np.concatenate(made), whole)
    assert whole.shape == (len(f0) * config.samples_per_frame, config.num_harmonics + 1)


@some
@given(f0=st.lists(st.floats(0, 400, width=32), max_size=60), feeding=feedings, seed=seeds)
def test_pulses_in_any_pieces_are_the_same_bits(
    f0: list[float], feeding: list[int], seed: int | None
) -> None:
    config, values = CONFIGS["source_filter"], np.array(f0, np.float32)
    noises = [None if seed is None else np.random.default_rng(seed) for _ in range(2)]
    whole = pulses.pulses(config, values, SAMPLE_RATE, noises[0])
    state = PulseState(SAMPLE_RATE, noises[1])
    pieces = split(values, feeding)
    made = [pulses.advance(config, piece, state, final=False) for piece in pieces[:-1]]
    made.append(pulses.advance(config, pieces[-1], state, final=True))
    assert np.array_equal(np.concatenate(made), whole)


@some
@given(
    factor=st.floats(speed.MIN_SPEED, speed.MAX_SPEED),
    feeding=feedings,
    count=st.integers(0, 150),
    known=st.booleans(),
)
def test_speed_in_any_pieces_is_the_same(
    factor: float, feeding: list[int], count: int, known: bool
) -> None:
    frames = mel("polar", count)
    total = count if known else None
    whole = speed.advance(frames, SpeedState(factor, total), final=True)
    state = SpeedState(factor, total)
    pieces = split(frames, feeding)
    made = [speed.advance(piece, state, final=False) for piece in pieces[:-1]]
    made.append(speed.advance(pieces[-1], state, final=True))
    assert np.array_equal(np.concatenate(made), whole)
    assert len(whole) == speed.output_frames(count, factor)
    assert len(state.context) <= 2 + speed.MAX_SPEED
