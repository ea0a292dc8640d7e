"""The language model stage, however it is fed, batched or copied: the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.backends.base import Cursor, Segment, SpeechLM
from mynah.config import SamplingConfig
from mynah.pipeline.prompt import build_segments
from mynah.pipeline.speech_lm import LMStageState, SpeechLMStage, allowed_moves
from tests.lm_models import BACKENDS, KINDS, tiny_backends, tiny_config, tiny_prompt

TOLERANCE = 1e-5
SAMPLING = SamplingConfig(min_token_text_ratio=1.0, max_token_text_ratio=6.0)

Networks = dict[str, dict[str, SpeechLM]]

some = settings(max_examples=25, deadline=None)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    return {kind: tiny_backends(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


def _start(network: SpeechLM, kind: str, seed: int) -> tuple[SpeechLMStage, LMStageState]:
    stage = SpeechLMStage(network, tiny_config(kind), SAMPLING)
    prompt = tiny_prompt(kind, seed, num_text=3 + seed % 5)
    pauses = np.arange(len(prompt.text)) % 3 == 2
    return stage, stage.start(prompt, np.random.default_rng(seed), pauses=pauses)


def _finish(stage: SpeechLMStage, state: LMStageState) -> list[int]:
    while stage.next_token(state) is not None:
        pass
    return list(state.tokens)


def _split(segments: Sequence[Segment], cuts: Sequence[int]) -> list[list[Segment]]:
    """Cut a prompt into pieces after the given numbers of positions."""
    units = [Segment(s.kind, s.ids[i : i + 1], s.vector) for s in segments for i in range(len(s))]
    edges = [0, *sorted({cut % len(units) for cut in cuts} - {0}), len(units)]
    return [units[a:b] for a, b in pairwise(edges)]


@pytest.mark.parametrize("backend", BACKENDS)
@some
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 99), cuts=st.lists(st.integers(0, 99)))
def test_a_prompt_in_any_pieces_equals_the_whole(
    networks: Networks, backend: str, kind: str, seed: int, cuts: list[int]
) -> None:
    network, config = networks[kind][backend], tiny_config(kind)
    cursor = Cursor(0, 0) if config.pointer else None
    segments = build_segments(tiny_prompt(kind, seed), config)
    whole, _ = network.prefill(segments, None, cursor)
    state: Any = None
    pieces = _split(segments, cuts)
    for index, piece in enumerate(pieces):
        is_last = index == len(pieces) - 1
        logits, state = network.prefill(piece, state, cursor if is_last else None)
    np.testing.assert_allclose(logits, whole, rtol=0, atol=TOLERANCE)


@some
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 10_000))
def test_same_seed_same_tokens_on_both_backends(networks: Networks, kind: str, seed: int) -> None:
    torch_tokens, onnx_tokens, again = (
        _finish(*_start(networks[kind][name], kind, seed)) for name in ("torch", "onnx", "onnx")
    )
    assert torch_tokens == onnx_tokens == again


@pytest.mark.parametrize("backend", BACKENDS)
@some
@given(kind=st.sampled_from(KINDS), seeds=st.lists(st.integers(0, 99), min_size=1, max_size=4))
def test_interleaved_equals_separate(
    networks: Networks, backend: str, kind: str, seeds: list[int]
) -> None:
    network = networks[kind][backend]
    alone = [_finish(*_start(network, kind, seed)) for seed in seeds]
    stage = SpeechLMStage(network, tiny_config(kind), SAMPLING)
    states = [_start(network, kind, seed)[1] for seed in seeds]
    while not all(state.is_finished for state in states):
        stage.step_many(states)
    assert [state.tokens for state in states] == alone


@pytest.mark.parametrize("backend", BACKENDS)
@some
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 99), before=st.integers(0, 6))
def test_a_fork_goes_on_independently(
    networks: Networks, backend: str, kind: str, seed: int, before: int
) -> None:
    stage, state = _start(networks[kind][backend], kind, seed)
    for _ in range(before):
        stage.next_token(state)
    copies = [stage.fork(state) for _ in range(2)]
    already = list(state.tokens)
    first = _finish(stage, copies[0])
    assert state.tokens == already
    original = _finish(stage, state)
    assert first == original == _finish(stage, copies[1])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "pointer" in kind])
@some
@given(seed=st.integers(0, 10_000))
def test_a_pointer_visits_the_text_in_order(networks: Networks, kind: str, seed: int) -> None:
    """It never goes back, never jumps too far, and speech ends at the last position only."""
    stage, state = _start(networks[kind]["onnx"], kind, seed)
    pointer = tiny_config(kind).pointer
    assert pointer is not None
    places = []
    while not state.is_finished:
        assert state.cursor is not None
        places.append(state.cursor)
        stage.next_token(state)
    moves = np.diff([place.position for place in places])
    assert ((moves >= 0) & (moves <= pointer.max_advance)).all()
    assert state.hit_limit or places[-1].position == len(state.pauses) - 1
    for place in places:
        at_pause = state.pauses[place.position]
        limit = pointer.forced_advance_pause if at_pause else pointer.forced_advance
        is_last = place.position == len(state.pauses) - 1
        assert place.dwell < limit or is_last


@given(
    pauses=st.lists(st.booleans(), min_size=1, max_size=8),
    data=st.data(),
    dwell=st.integers(0, 40),
    may_end=st.booleans(),
)
def test_some_move_is_always_allowed(
    pauses: list[bool], data: st.DataObject, dwell: int, may_end: bool
) -> None:
    pointer = tiny_config("pointer").pointer
    assert pointer is not None
    position = data.draw(st.integers(0, len(pauses) - 1))
    allowed = allowed_moves(Cursor(position, dwell), np.array(pauses), pointer, may_end=may_end)
    assert allowed.any()
    furthest = np.flatnonzero(allowed[:-1])
    assert not furthest.size or position + furthest[-1] < len(pauses)
    assert not allowed[-1] or (may_end and position == len(pauses) - 1)
