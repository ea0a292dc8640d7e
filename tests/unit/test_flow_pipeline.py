"""Schedule, noise, masks, and what the flow stage refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mynah.backends.onnx.flow import OnnxFlow
from mynah.errors import (
    GenerationError,
    GenerationLimitError,
    InvalidRequestError,
    ModelFormatError,
    ModelNotFoundError,
)
from mynah.export.flow import export_flow
from mynah.networks.masks import attention_mask, chunk_mask
from mynah.pipeline.flow import FlowPrompt, advance, fork, prefix_state
from mynah.pipeline.noise import ArrayNoise, SeededNoise, noise_source
from mynah.pipeline.schedule import ChunkSchedule, Span
from mynah.pipeline.solver import euler_steps
from tests.property.flow_model import CHUNK, CONFIG, NOISE, flow, network, prompt, tokens

schedules = st.builds(ChunkSchedule, growth=st.integers(1, 3), max_hop_chunks=st.integers(1, 5))


@given(schedule=schedules, prompt_count=st.integers(0, 90), counts=st.lists(st.integers(0, 60)))
def test_spans_tile_the_grid(schedule: ChunkSchedule, prompt_count: int, counts: list[int]) -> None:
    committed, available = 0, prompt_count
    for count in [0, *counts]:
        available += count
        for span in schedule.spans(committed, prompt_count, available, final=False):
            assert span == Span(committed, committed + schedule.chunk_tokens)
            assert span.stop + schedule.lookahead_tokens <= available
            committed = span.stop
    for span in schedule.spans(committed, prompt_count, available, final=True):
        assert span.start == committed
        committed = span.stop
    assert committed == available


def test_growing_hops() -> None:
    schedule = ChunkSchedule(growth=2, max_hop_chunks=4)
    limits = sorted({schedule.commit_limit(30, available) for available in range(700)})
    assert limits == [0, 25, 50, 75, 125, 225, 325, 425, 525, 625]


def test_first_audio_comes_at_the_first_grid_point() -> None:
    schedule = ChunkSchedule()
    assert schedule.tokens_until_first_audio(0) == 28
    assert schedule.tokens_until_first_audio(28) == 25
    assert schedule.tokens_until_first_audio(75) == 28


@given(available=st.integers(0, 800))
def test_best_prompt_needs_no_work_later(available: int) -> None:
    schedule = ChunkSchedule()
    length = schedule.best_prompt_length(available)
    assert length <= available
    if available >= 28:
        assert available - length < 25
        assert schedule.commit_limit(length, length) == length - 3
    else:
        assert length == available


@given(start=st.integers(0, 2000), length=st.integers(0, 700), cut=st.integers(0, 700))
def test_noise_does_not_depend_on_slicing(start: int, length: int, cut: int) -> None:
    noise = SeededNoise(4)
    middle = start + min(cut, length)
    whole = noise.frames(start, start + length)
    parts = [noise.frames(start, middle), noise.frames(middle, start + length)]
    assert whole.shape == (length, 4)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_noise_is_standard_normal_and_fixed() -> None:
    values = SeededNoise(80).frames(0, 5000)
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01
    assert not np.array_equal(values[:256], values[256:512])
    np.testing.assert_array_equal(values[300:310], SeededNoise(80).frames(300, 310))


def test_noise_from_a_file_ends() -> None:
    noise = ArrayNoise(np.ones((10, 8), dtype=np.float32))
    assert noise.frames(4, 10).shape == (6, 8)
    with pytest.raises(GenerationLimitError, match="10 frames"):
        noise.frames(4, 11)


def test_noise_source_follows_the_configuration() -> None:
    given_array = np.zeros((3, CONFIG.n_mels), dtype=np.float32)
    assert isinstance(noise_source(CONFIG), SeededNoise)
    assert isinstance(noise_source(CONFIG, given_array), ArrayNoise)
    with pytest.raises(ModelFormatError, match="shape"):
        noise_source(CONFIG, given_array.T)
    with pytest.raises(ModelFormatError, match="noise file"):
        noise_source(CONFIG.model_copy(update={"noise": "torch"}))


def test_euler_steps_reach_one() -> None:
    steps = euler_steps(10)
    assert steps[0][0] == 0
    assert sum(dt for _, dt in steps) == pytest.approx(1, abs=1e-6)


def test_chunk_mask() -> None:
    mask = chunk_mask(2, 6, 2, left_chunks=1)
    assert mask.tolist() == [[False, False, True, True, True, True]] * 2
    assert chunk_mask(3, 3, 2).tolist() == [[True, True, False]] * 2 + [[True] * 3]


def test_masked_training_step_has_finite_gradients() -> None:
    """Padding and a bounded window leave some queries without a key; nothing may become NaN."""
    module, frames = flow(), 6 * CHUNK
    x = torch.randn(2, frames, CONFIG.n_mels, requires_grad=True)
    padding = torch.arange(frames)[None] < torch.tensor([[frames], [3]])
    chunks = chunk_mask(frames, frames, CHUNK, left_chunks=1)
    speaker, t = torch.randn(2, CONFIG.n_mels), torch.rand(2)
    velocity, new = module.velocity(x, x, speaker, x, t, mask=padding, chunk_mask=chunks)
    assert not new
    (gradient,) = torch.autograd.grad(velocity.square().sum(), x)
    assert gradient.isfinite().all()
    assert not velocity[1, 3:].any()
    joined = attention_mask(chunks, padding)
    assert joined is not None
    assert joined.any(-1).all()


def test_a_finished_utterance_takes_no_more() -> None:
    net = network("torch")
    state = prefix_state(net, CONFIG, prompt(0), NOISE)
    assert advance(net, CONFIG, tokens(0), state, final=True).shape == (0, CONFIG.n_mels)
    with pytest.raises(InvalidRequestError, match="finished"):
        advance(net, CONFIG, tokens(1), state, final=True)


@pytest.mark.parametrize("bad", [-1, CONFIG.speech_vocab_size])
def test_tokens_out_of_range(bad: int) -> None:
    net = network("torch")
    state = prefix_state(net, CONFIG, prompt(3), NOISE)
    with pytest.raises(GenerationError, match=str(bad)):
        advance(net, CONFIG, np.array([1, bad]), state, final=False)


def test_prompt_parts_must_fit() -> None:
    voice = prompt(5)
    assert voice.mel is not None
    for wrong in (
        replace(voice, mel=voice.mel[:-1]),
        replace(voice, mel=None),
        FlowPrompt(voice.speaker, mel=voice.mel),
    ):
        with pytest.raises(InvalidRequestError, match="prompt's mel"):
            prefix_state(network("torch"), CONFIG, wrong, NOISE)
    with pytest.raises(InvalidRequestError, match="left_chunks"):
        prefix_state(network("torch"), CONFIG, voice, NOISE, left_chunks=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(value: float) -> None:
    class Broken:
        def frames(self, start: int, stop: int) -> Any:
            return np.full((stop - start, CONFIG.n_mels), value, dtype=np.float32)

    net = network("torch")
    state = prefix_state(net, CONFIG, prompt(0), Broken())
    with pytest.raises(GenerationError, match="not finite"):
        advance(net, CONFIG, tokens(3), state, final=True)


def test_fork_leaves_the_original_alone() -> None:
    net = network("onnx")
    prefix = prefix_state(net, CONFIG, prompt(CHUNK + 4), NOISE)
    first, second = (
        advance(net, CONFIG, tokens(9), fork(net, prefix), final=True) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_model_folder_without_flow(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        OnnxFlow(tmp_path)
    export_flow(flow(), tmp_path)
    weights = tmp_path / "flow_embeddings.safetensors"
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(ModelFormatError, match="speaker projection"):
        OnnxFlow(tmp_path)
