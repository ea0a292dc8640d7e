"""What the flow in windows refuses, and where its windows lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mynah.errors import GenerationError, InvalidRequestError
from mynah.pipeline.flow_stage import CausalFlowStage, build_flow_stage
from mynah.pipeline.resize import resize
from mynah.pipeline.windowed_flow import WindowedFlowStage
from tests.property.windowed_model import (
    CHUNK,
    CONFIG,
    FIRST,
    NOISE,
    OVERLAP,
    VOCABULARY,
    network,
    prompt,
    stage,
    tokens,
)


def test_windows_begin_as_soon_as_their_tokens_are_there() -> None:
    flow = stage("torch")
    state = flow.fork(flow.start(prompt(5)))
    made = [len(flow.advance(one, state, final=False)) for one in np.split(tokens(60), 60)]
    ends = np.flatnonzero(made) + 1
    assert ends.tolist() == list(range(FIRST + OVERLAP, 60, CHUNK))
    given = CONFIG.num_frames(FIRST), CONFIG.num_frames(FIRST + CHUNK)
    assert (made[ends[0] - 1], made[ends[1] - 1]) == (given[0], given[1] - given[0])


def test_a_whole_utterance_waits_for_its_end() -> None:
    flow = stage("torch")
    state = flow.fork(flow.start(prompt(5)), whole=True)
    assert not flow.is_ready(state, 10_000)
    assert not len(flow.advance(tokens(50), state, final=False))
    assert len(flow.advance(tokens(0), state, final=True)) == CONFIG.num_frames(50)


@pytest.mark.parametrize("rest", [0, 1])
def test_an_end_at_the_end_of_a_window_costs_nothing(rest: int) -> None:
    """The window before knew no more; what it held back is right."""
    flow = stage("torch")
    state = flow.fork(flow.start(prompt(5)))
    flow.advance(tokens(FIRST + OVERLAP), state, final=False)
    held = state.held
    assert held is not None
    last = flow.advance(tokens(rest), state, final=True)
    if rest:
        assert len(last) > len(held)
    else:
        scale, offset = CONFIG.flow.mel_std, CONFIG.flow.mel_mean
        np.testing.assert_allclose(last, held * scale + offset, rtol=1e-6)


def test_no_tokens_no_frames() -> None:
    flow = stage("torch")
    state = flow.fork(flow.start(prompt(0)))
    assert flow.advance(tokens(0), state, final=True).shape == (0, CONFIG.flow.n_mels)


def test_a_finished_utterance_takes_nothing() -> None:
    flow = stage("torch")
    state = flow.fork(flow.start(prompt(5)))
    flow.advance(tokens(3), state, final=True)
    with pytest.raises(InvalidRequestError, match="finished"):
        flow.advance(tokens(1), state, final=False)


@pytest.mark.parametrize("token", [-1, VOCABULARY])
def test_unknown_tokens_are_refused(token: int) -> None:
    flow, bad = stage("torch"), np.array([1, token])
    state = flow.fork(flow.start(prompt(5)))
    with pytest.raises(GenerationError, match=f"0 to {VOCABULARY - 1}"):
        flow.advance(bad, state, final=False)
    with pytest.raises(GenerationError, match=f"0 to {VOCABULARY - 1}"):
        flow.start(replace(prompt(2), tokens=bad))


@pytest.mark.parametrize("shape", [(0, 8), (7, 9), (7,)])
def test_a_prompt_whose_mel_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    mel = np.zeros(shape, np.float32)
    with pytest.raises(InvalidRequestError, match="mel has shape") as caught:
        stage("torch").start(replace(prompt(5), mel=mel))
    assert caught.value.hint


def test_a_mel_without_tokens_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="beside 0 tokens"):
        stage("torch").start(replace(prompt(5), tokens=tokens(0)))


def test_a_network_that_gives_nonsense_is_an_error() -> None:
    flow = stage("torch")
    voice = prompt(5)
    spoiled = np.full_like(voice.speaker, np.inf)
    state = flow.fork(flow.start(replace(voice, speaker=spoiled)))
    with pytest.raises(GenerationError, match="not finite"):
        flow.advance(tokens(5), state, final=True)


def test_the_stage_follows_from_the_configuration() -> None:
    windowed = build_flow_stage(network("torch"), CONFIG, NOISE)
    assert isinstance(windowed, WindowedFlowStage)
    assert windowed.fit_prompt(prompt(13)).tokens.size == 13
    from tests.property import flow_model

    config = CONFIG.model_copy(update={"flow": flow_model.CONFIG})
    causal = build_flow_stage(flow_model.network("torch"), config, flow_model.NOISE)
    assert isinstance(causal, CausalFlowStage)
    assert causal.fit_prompt(flow_model.prompt(14)).tokens.size == 13  # two chunks and three ahead


@pytest.mark.parametrize(("count", "size"), [(5, 9), (9, 5), (1, 4), (4, 1), (3, 3), (2, 0)])
def test_resize_is_torchs_interpolation(count: int, size: int) -> None:
    import torch

    rows = np.random.default_rng(0).standard_normal((count, 2)).astype(np.float32)
    expected = torch.zeros(2, 0)
    if size:
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(rows.T.copy())[None], size=size, mode="linear"
        )[0]
    np.testing.assert_allclose(resize(rows, size), expected.T.numpy(), rtol=0, atol=1e-6)


def test_frames_of_a_number_of_tokens_are_the_official_ones() -> None:
    counts = range(30_000)
    official = [int(count / 50 * 22050 / 256) for count in counts]
    assert [CONFIG.num_frames(count) for count in counts] == official
