"""Language models in blocks: batches of any lengths, sharing, memory, what goes wrong."""

from __future__ import annotations

import gc
from functools import cache

import numpy as np
import pytest
import torch

from mynah.backends.base import Segment
from mynah.backends.torch.language_model import TorchLMState, TorchSpeechLM
from mynah.backends.torch.paged import PagedModule
from mynah.errors import BackendError
from mynah.networks.build import LanguageModel, build_language_model
from mynah.networks.transformer import PAST
from mynah.types import FloatArray, TokenArray
from tests.tiny_model import tiny_config

FAMILIES = ("cosyvoice1", "cosyvoice2", "cosyvoice3")
TOLERANCE = 2e-5
LENGTHS = (2, 31, 32, 33, 75)
"""Before, at and behind the end of a block of 32."""
families = pytest.mark.parametrize("family", FAMILIES)


@cache
def module(family: str) -> LanguageModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return build_language_model(tiny_config(family).lm).eval()


def speech(count: int, seed: int) -> TokenArray:
    return np.random.default_rng(seed).integers(0, 20, count)


def read(lm: TorchSpeechLM, tokens: TokenArray) -> TorchLMState:
    return lm.prefill([Segment("speech", tokens)])[1]


@torch.inference_mode()
def whole(family: str, tokens: TokenArray) -> FloatArray:
    """Scores after ``tokens``, by one pass without a state."""
    network = module(family)
    hidden, _ = network(network.embed_speech(torch.from_numpy(tokens)[None]))
    scores: FloatArray = network.logits(hidden[0, -1]).numpy()
    return scores


@families
def test_sequences_of_any_length_step_together_as_each_alone(family: str) -> None:
    """Members come and go, so that every pair of lengths meets a block's end."""
    lm = TorchSpeechLM(module(family))
    tokens = [speech(length + 40, length) for length in LENGTHS]
    states = [read(lm, own[:length]) for own, length in zip(tokens, LENGTHS, strict=True)]
    done = list(LENGTHS)
    for number in range(34):
        members = [index for index in range(len(LENGTHS)) if (number + index) % 5]
        batch = np.array([tokens[index][done[index]] for index in members])
        rows = lm.step(batch, [states[index] for index in members])
        for index, row in zip(members, rows, strict=True):
            done[index] += 1
            wanted = whole(family, tokens[index][: done[index]])
            np.testing.assert_allclose(row, wanted, rtol=0, atol=TOLERANCE)


@families
@torch.inference_mode()
def test_prompts_of_any_length_are_read_together(family: str) -> None:
    """New positions are ragged too, before and behind a past."""
    network = module(family)
    runner = PagedModule(network, {}, 8, mask="mask")
    states = [runner.new_state() for _ in range(3)]
    tokens = [speech(30, seed) for seed in range(3)]
    done = [0, 0, 0]
    for counts in ((3, 11, 8), (9, 1, 2)):
        pieces = np.zeros((3, max(counts)), np.int64)
        for row, (own, start, count) in enumerate(zip(tokens, done, counts, strict=True)):
            pieces[row, :count] = own[start : start + count]
            done[row] += count
        embedded = network.embed_speech(torch.from_numpy(pieces))
        hidden = runner.run({"inputs_embeds": embedded}, states, counts)
        for row, count in enumerate(counts):
            scores = network.logits(hidden[row, count - 1]).numpy()
            wanted = whole(family, tokens[row][: done[row]])
            np.testing.assert_allclose(scores, wanted, rtol=0, atol=TOLERANCE)


@families
@torch.inference_mode()
def test_what_is_not_a_number_stays_with_its_sequence(family: str) -> None:
    lm = TorchSpeechLM(module(family))
    good, bad = read(lm, speech(5, 1)), read(lm, speech(40, 2))
    held = bad.cache.past[PAST]
    for layer in held.pool.layers:
        layer[held.blocks[0] * held.pool.size :][: held.pool.size] = torch.nan
    rows = lm.step(np.array([3, 4]), [good, bad])
    assert np.isnan(rows[1]).all()
    wanted = whole(family, np.append(speech(5, 1), 3))
    np.testing.assert_allclose(rows[0], wanted, rtol=0, atol=TOLERANCE)


@families
def test_forks_share_full_blocks_and_go_on_apart(family: str) -> None:
    lm = TorchSpeechLM(module(family))
    state = read(lm, speech(70, 1))
    pool = state.cache.past[PAST].pool
    assert pool.num_used == 3
    forks = [lm.fork(state) for _ in range(4)]
    assert pool.num_used == 3 + 4  # each has the last one of its own
    rows = [lm.step(np.array([token]), [fork])[0] for token, fork in enumerate(forks)]
    rows += list(lm.step(np.array([7]), [state]))
    for token, row in zip((0, 1, 2, 3, 7), rows, strict=True):
        wanted = whole(family, np.append(speech(70, 1), token))
        np.testing.assert_allclose(row, wanted, rtol=0, atol=TOLERANCE)


def test_memory_of_states_that_are_gone_is_used_again() -> None:
    lm = TorchSpeechLM(module("cosyvoice2"))
    kept = read(lm, speech(40, 0))
    pool = kept.cache.past[PAST].pool
    blocks = 0
    for round_ in range(5):
        states = [read(lm, speech(100, seed)) for seed in range(6)]
        lm.step(np.zeros(6, np.int64), states)
        assert pool.num_used == 2 + 6 * 4
        blocks = blocks or pool.num_blocks
        assert pool.num_blocks == blocks, round_
        del states
        gc.collect()
        assert pool.num_used == 2
    np.testing.assert_allclose(
        lm.step(np.array([3]), [kept])[0],
        whole("cosyvoice2", np.append(speech(40, 0), 3)),
        rtol=0,
        atol=TOLERANCE,
    )


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("cosyvoice1", "RelativeLanguageModel"),
        ("cosyvoice2", "SpeechLanguageModel"),
    ],
)
def test_a_module_that_cannot_run_is_a_backend_error(family: str, name: str) -> None:
    runner = PagedModule(module(family), {}, 8, mask="mask")
    state = runner.new_state()
    with pytest.raises(BackendError, match=name):
        runner.run({"inputs_embeds": torch.zeros(1, 2, 5)}, [state], [2])
    assert state.past[PAST].length == 0
