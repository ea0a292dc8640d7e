"""The stage's rules, with a network whose scores are written down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from mynah.backends.base import Cursor, Segment
from mynah.config import LMConfig, SamplingConfig
from mynah.errors import GenerationError
from mynah.pipeline.prompt import LMPrompt
from mynah.pipeline.speech_lm import SpeechLMStage, allowed_moves
from mynah.types import FloatArray, TokenArray
from tests.lm_models import tiny_config

GREEDY = SamplingConfig(
    top_k=1, repetition_window=0, min_token_text_ratio=1, max_token_text_ratio=4
)


class ScriptedLM:
    """Scores that prefer one token; what was asked is kept for the test."""

    def __init__(self, config: LMConfig, favourite: int, move: int = 0) -> None:
        self.config = config
        self.favourite = favourite
        self.move = move
        self.cursors: list[Cursor] = []
        self.num_calls = 0
        self.broken_at: int | None = None

    def _scores(self, step: int) -> FloatArray:
        scores = np.zeros(self.config.head_size, dtype=np.float32)
        scores[self.favourite] = 5.0
        scores[7] = 4.0
        if self.broken_at is not None and step >= self.broken_at:
            scores[3] = np.nan
        return scores

    def prefill(
        self, segments: Sequence[Segment], state: Any = None, cursor: Cursor | None = None
    ) -> tuple[FloatArray, Any]:
        return self._scores(0), {"steps": 0}

    def step(
        self, tokens: TokenArray, states: Sequence[Any], cursors: Sequence[Cursor] | None = None
    ) -> FloatArray:
        self.num_calls += 1
        self.cursors.extend(cursors or [])
        for state in states:
            state["steps"] += 1
        return np.stack([self._scores(state["steps"]) for state in states])

    def advance_logits(self, tokens: TokenArray, states: Sequence[Any]) -> FloatArray:
        assert self.config.pointer is not None
        scores = np.full((len(tokens), self.config.pointer.max_advance + 2), -9, dtype=np.float32)
        scores[:, self.move] = 9.0
        return scores

    def fork(self, state: Any) -> Any:
        return dict(state)


def _run(
    network: ScriptedLM, num_text: int = 4, pauses: list[int] | None = None
) -> tuple[list[int], Any]:
    stage = SpeechLMStage(network, network.config, GREEDY)
    marks = None if pauses is None else np.isin(np.arange(num_text), pauses)
    prompt = LMPrompt("cross_lingual", np.zeros(num_text, dtype=np.int64))
    state = stage.start(prompt, np.random.default_rng(0), pauses=marks)
    while stage.next_token(state) is not None:
        pass
    return state.tokens, state


def test_the_end_waits_for_the_minimum_length() -> None:
    config = tiny_config("plain")
    tokens, state = _run(ScriptedLM(config, config.eos))
    assert tokens == [7, 7, 7, 7]
    assert state.is_finished
    assert not state.hit_limit


@pytest.mark.parametrize("offset", [1, 2], ids=["unused", "fill"])
def test_every_control_token_ends_speech(offset: int) -> None:
    config = tiny_config("plain")
    tokens, _ = _run(ScriptedLM(config, config.eos + offset))
    assert tokens == [7, 7, 7, 7]


def test_the_maximum_length_is_flagged() -> None:
    network = ScriptedLM(tiny_config("plain"), 5)
    tokens, state = _run(network)
    assert tokens == [5] * 16
    assert state.hit_limit
    assert network.num_calls == 15  # the last token is never read


def test_a_ratio_that_allows_no_token_ends_at_once() -> None:
    network = ScriptedLM(tiny_config("plain"), 5)
    stage = SpeechLMStage(network, network.config, GREEDY)
    short = GREEDY.model_copy(update={"max_token_text_ratio": 0.1})
    prompt = LMPrompt("cross_lingual", np.zeros(4, dtype=np.int64))
    state = stage.start(prompt, np.random.default_rng(0), sampling=short)
    assert stage.next_token(state) is None
    assert state.hit_limit


def test_nan_is_a_typed_error() -> None:
    network = ScriptedLM(tiny_config("plain"), 5)
    network.broken_at = 3
    with pytest.raises(GenerationError, match="NaN or infinity at token 3"):
        _run(network)


def test_a_broken_utterance_leaves_the_others_alone() -> None:
    network = ScriptedLM(tiny_config("plain"), 5)
    network.broken_at = 2
    stage = SpeechLMStage(network, network.config, GREEDY)
    prompt = LMPrompt("cross_lingual", np.zeros(4, dtype=np.int64))
    old, new = (stage.start(prompt, np.random.default_rng(0)) for _ in range(2))
    stage.next_token(old)
    assert stage.step_many([old, new]) == [5, 5]
    assert stage.step_many([old, new]) == [None, 5]
    assert isinstance(old.error, GenerationError)
    assert old.is_finished
    assert new.error is None


def test_a_pointer_must_move_on_after_its_limit() -> None:
    """The scores want to stay; positions 0 to 2 get 5 tokens, the pause 8."""
    network = ScriptedLM(tiny_config("pointer"), 5, move=0)
    stage = SpeechLMStage(
        network, network.config, GREEDY.model_copy(update={"max_token_text_ratio": 40})
    )
    prompt = LMPrompt("cross_lingual", np.zeros(3, dtype=np.int64))
    pauses = np.array([False, True, False])
    state = stage.start(prompt, np.random.default_rng(0), pauses=pauses)
    while stage.next_token(state) is not None:
        pass
    positions = [0, *(cursor.position for cursor in network.cursors)]
    # Which way it moves is drawn among equals; each place is held to its own limit.
    assert positions.count(0) == 5
    assert positions.count(1) in (0, 8)
    assert positions.count(2) == 5
    assert not state.hit_limit


def test_a_pointer_ends_speech_only_at_the_last_position() -> None:
    config = tiny_config("pointer")
    assert config.pointer is not None
    tokens, state = _run(ScriptedLM(config, config.eos, move=config.pointer.max_advance + 1))
    assert state.cursor.position == 3
    assert set(tokens) == {7}  # control tokens are never spoken
    assert len(tokens) >= state.min_tokens


def test_a_pointer_waits_for_the_minimum_length() -> None:
    pointer = tiny_config("pointer").pointer
    assert pointer is not None
    pauses = np.zeros(2, dtype=np.bool_)
    waiting = allowed_moves(Cursor(1, 99), pauses, pointer, may_end=False)
    assert np.flatnonzero(waiting).tolist() == [0]
    ending = allowed_moves(Cursor(1, 99), pauses, pointer, may_end=True)
    assert np.flatnonzero(ending).tolist() == [pointer.max_advance + 1]


def test_pause_marks_must_fit_the_text() -> None:
    network = ScriptedLM(tiny_config("plain"), 5)
    stage = SpeechLMStage(network, network.config, GREEDY)
    prompt = LMPrompt("cross_lingual", np.zeros(4, dtype=np.int64))
    pauses = np.zeros(3, dtype=np.bool_)
    with pytest.raises(ValueError, match="pause marks"):
        stage.start(prompt, np.random.default_rng(0), pauses=pauses)
