"""Utterances that share the calls of the vocoder against each of them alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.backends.base import BatchedVocoderNetwork
from mynah.errors import GenerationError
from mynah.pipeline.receptive_field import stage_crops
from mynah.pipeline.sharing import unwrapped
from mynah.pipeline.vocoder import VocoderStageState, advance, advance_many, new_state
from tests.fake_model import Wrapped
from tests.property.vocoder_model import BACKENDS, CONFIGS, KINDS, SAMPLE_RATE, mel, network

TOLERANCE = 1e-5
DRIFT = 5e-3
"""F0 is rounded in another way in a batch, and what it is wrong by adds up in the phase."""

some = settings(max_examples=6, deadline=None)
kinds = pytest.mark.parametrize("kind", KINDS)


def start(kind: str, seed: int = 0) -> VocoderStageState:
    return new_state(CONFIGS[kind], SAMPLE_RATE, np.random.default_rng(seed))


@kinds
@some
@given(counts=st.lists(st.integers(0, 80), min_size=2, max_size=4), size=st.integers(5, 60))
def test_utterances_of_any_length_equal_each_alone(kind: str, counts: list[int], size: int) -> None:
    """By a network that shares calls, and by one that computes one after the other."""
    config = CONFIGS[kind]
    for backend, tolerance in (("torch", DRIFT), (BACKENDS[-1], 0.0)):
        net = network(kind, backend)
        inputs = [mel(kind, count, seed) for seed, count in enumerate(counts)]
        states = [start(kind, seed) for seed in range(len(counts))]
        others = [start(kind, seed) for seed in range(len(counts))]
        fed = 0
        while going := [i for i, state in enumerate(states) if not state.finished]:
            pieces = [inputs[i][fed : fed + size] for i in going]
            fed += size
            finals = [fed >= counts[i] for i in going]
            parts = advance_many(net, config, pieces, [states[i] for i in going], finals)
            for i, piece, final, part in zip(going, pieces, finals, parts, strict=True):
                alone = advance(net, config, piece, others[i], final=final)
                np.testing.assert_allclose(unwrapped(part), alone, rtol=0, atol=tolerance)


@kinds
def test_calls_for_many_equal_those_for_one(kind: str) -> None:
    net, config = network(kind, "torch"), CONFIGS[kind]
    assert isinstance(net, BatchedVocoderNetwork)
    mels = [mel(kind, count, count) for count in (40, 30, 40, 300, 40)]
    for frames, f0 in zip(mels, net.f0_many(mels), strict=True):
        np.testing.assert_allclose(f0, net.f0(frames), rtol=1e-5, atol=1e-4)
    rng = np.random.default_rng(0)
    size, channels = config.samples_per_frame, config.num_harmonics + 1
    width = channels if config.head == "polar" else 2
    waves = [rng.standard_normal((len(one) * size, width)).astype(np.float32) for one in mels]
    sources = net.excitation_many(waves)
    for wave, source in zip(waves, sources, strict=True):
        np.testing.assert_allclose(source, net.excitation(wave), rtol=0, atol=1e-6)
    windows = [
        (one, source, stage_crops(config, 5, len(one) - 5, len(one)))
        for one, source in zip(mels, sources, strict=True)
    ]
    for window, samples in zip(windows, net.decode_many(windows), strict=True):
        np.testing.assert_allclose(samples, net.decode(*window), rtol=0, atol=TOLERANCE)


@kinds
def test_long_inputs_of_different_lengths(kind: str) -> None:
    """They are decoded piece by piece, and one has more pieces than the other."""
    net, config = network(kind, "torch"), CONFIGS[kind]
    inputs = [mel(kind, count, count) for count in (300, 250, 0, 30)]
    states = [start(kind) for _ in inputs]
    made = advance_many(net, config, inputs, states, [True] * 4)
    for frames, samples in zip(inputs, made, strict=True):
        alone = advance(net, config, frames, start(kind), final=True)
        assert len(unwrapped(samples)) == len(frames) * config.samples_per_frame
        np.testing.assert_allclose(unwrapped(samples), alone, rtol=0, atol=DRIFT)


@kinds
def test_windows_of_one_shape_share_a_call(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, config = network(kind, "torch"), CONFIGS[kind]
    assert isinstance(net, BatchedVocoderNetwork)
    sizes: list[int] = []
    original = type(net)._run

    def counted(self: Any, function: Any, *inputs: Any) -> Any:
        sizes.append(len(inputs[0]))
        return original(self, function, *inputs)

    monkeypatch.setattr(type(net), "_run", counted)
    states = [start(kind, seed) for seed in range(5)]
    inputs = [mel(kind, 60, seed) for seed in range(4)]
    advance_many(net, config, [*inputs, mel(kind, 50)], states, [False] * 5)
    # F0 of all five, the source of all five, four windows of one shape and one of another
    assert sizes == [5, 1, 4, 1]


@kinds
def test_bad_frames_of_one_utterance_are_its_own_error(kind: str) -> None:
    net, config = network(kind, "torch"), CONFIGS[kind]
    inputs = [mel(kind, 70, seed) for seed in range(3)]
    inputs[1][10] = np.nan
    made = advance_many(net, config, inputs, [start(kind) for _ in inputs], [True] * 3)
    assert isinstance(made[1], GenerationError)
    for i in (0, 2):
        alone = advance(net, config, inputs[i], start(kind), final=True)
        np.testing.assert_allclose(unwrapped(made[i]), alone, rtol=0, atol=DRIFT)


@kinds
def test_bad_samples_of_one_utterance_are_its_own_error(kind: str) -> None:
    def spoil(original: Any, windows: Any) -> Any:
        made = original(windows)
        return [made[0], np.full_like(made[1], np.inf), *made[2:]]

    net, config = network(kind, "torch"), CONFIGS[kind]
    spoiled: Any = Wrapped(net, "decode_many", spoil)
    inputs = [mel(kind, 40, seed) for seed in range(3)]
    made = advance_many(spoiled, config, inputs, [start(kind) for _ in inputs], [True] * 3)
    assert isinstance(made[1], GenerationError)
    for i in (0, 2):
        alone = advance(net, config, inputs[i], start(kind), final=True)
        np.testing.assert_allclose(unwrapped(made[i]), alone, rtol=0, atol=DRIFT)


def test_an_ended_utterance_is_refused_before_anything_changes() -> None:
    net, config = network("polar", "torch"), CONFIGS["polar"]
    states = [start("polar"), start("polar")]
    advance(net, config, mel("polar", 5), states[1], final=True)
    with pytest.raises(ValueError, match="ended"):
        advance_many(net, config, [mel("polar", 5)] * 2, states, [True] * 2)
    assert not states[0].received
