"""Runs of silent tokens are cut to the model's limit, wherever they are."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynah.backends.fake import fake_config
from mynah.pipeline.silence import SilenceState, is_heard
from mynah.pipeline.synthesizer import synthesize
from tests.fake_model import SHORT, fake_model, session
from tests.lm_models import tiny_config

CONFIG = tiny_config("plain").model_copy(update={"silent_tokens": (1, 2, 28)})


def heard(tokens: list[int], limit: int = 5) -> list[int]:
    config, state = CONFIG.model_copy(update={"max_silent_tokens": limit}), SilenceState()
    return [token for token in tokens if is_heard(token, state, config)]


def test_the_sixth_silent_token_in_a_row_is_dropped() -> None:
    assert heard([7, 1, 2, 28, 1, 1, 2, 1, 7]) == [7, 1, 2, 28, 1, 1, 7]


def test_speech_between_silences_starts_the_count_again() -> None:
    tokens = [1, 1, 1, 7, 1, 1, 1]
    assert heard(tokens) == tokens


def test_a_model_without_silent_tokens_keeps_all() -> None:
    state, plain = SilenceState(), tiny_config("plain")
    assert all(is_heard(1, state, plain) for _ in range(50))


@pytest.mark.parametrize("limit", [0, 1, 5])
@given(tokens=st.lists(st.sampled_from([1, 2, 28, 7, 8]), max_size=60))
def test_every_run_is_cut_to_the_limit(limit: int, tokens: list[int]) -> None:
    expected: list[int] = []
    for is_silent, run in groupby(tokens, key=lambda token: token in CONFIG.silent_tokens):
        expected += list(run)[: limit if is_silent else None]
    assert heard(tokens, limit) == expected


def test_a_session_speaks_only_what_is_heard() -> None:
    """The language model goes on through a silence of any length, the audio does not."""
    config = fake_config(pointer=False)
    every = tuple(range(config.lm.speech_vocab_size))
    silent = config.model_copy(update={"lm": config.lm.model_copy(update={"silent_tokens": every})})
    lengths, counts = [], []
    for one in (config, silent):
        spoken = session(fake_model(one), SHORT)
        lengths.append(len(synthesize(spoken)))
        counts.append(spoken.num_tokens)
    assert counts[0] == counts[1] > config.lm.max_silent_tokens
    assert lengths[0] == counts[0] * config.samples_per_token
    assert lengths[1] == config.lm.max_silent_tokens * config.samples_per_token
