"""Streams that share the calls of the flow against each of them alone."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.backends.base import BatchedFlowNetwork, FloatArray
from mynah.backends.torch.flow import TorchFlow
from mynah.errors import GenerationError, InvalidRequestError
from mynah.pipeline.flow import FlowStageState, advance, advance_many, fork, prefix_state
from mynah.pipeline.sharing import unwrapped
from tests.property.flow_model import (
    CHUNK,
    CONFIG,
    CONFIGS,
    KINDS,
    NOISE,
    VOCABULARY,
    flow,
    network,
    oracle,
    prompt,
    tokens,
)

TOLERANCE = 1e-5
LOOKAHEAD = CONFIG.encoder.lookahead_tokens

some = settings(max_examples=15, deadline=None)
kinds = pytest.mark.parametrize("kind", KINDS)


def start(
    kind: str, prompt_count: int, left_chunks: int | None = None, net: Any = None
) -> FlowStageState:
    net = net or network("torch", kind)
    return prefix_state(net, CONFIGS[kind], prompt(prompt_count), NOISE, left_chunks=left_chunks)


def many(
    kind: str, pieces: list[Any], states: list[FlowStageState], finals: list[bool], net: Any = None
) -> list[FloatArray]:
    made = advance_many(net or network("torch", kind), CONFIGS[kind], pieces, states, finals)
    return [unwrapped(one) for one in made]


class Counting:
    """Passes calls on and notes how many streams each one of the velocity serves."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.streams = inner, list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def velocity_many(self, x: Any, *rest: Any) -> Any:
        self.streams.append(len(x))
        return self.inner.velocity_many(x, *rest)

    def velocity(self, *inputs: Any) -> Any:
        self.streams.append(1)
        return self.inner.velocity(*inputs)


@kinds
@some
@given(
    prompts=st.lists(st.integers(0, 3 * CHUNK), min_size=2, max_size=4),
    counts=st.lists(st.integers(1, 5 * CHUNK), min_size=4, max_size=4),
    size=st.integers(1, 2 * CHUNK),
    left_chunks=st.one_of(st.none(), st.integers(1, 3)),
)
def test_streams_of_any_length_equal_each_alone(
    kind: str, prompts: list[int], counts: list[int], size: int, left_chunks: int | None
) -> None:
    """Pasts of any length, ends at any time; the oracle is one pass over each whole utterance."""
    speeches = [tokens(count, seed) for seed, count in zip(range(len(prompts)), counts)]  # noqa: B905
    states = [start(kind, count, left_chunks) for count in prompts]
    made: list[list[FloatArray]] = [[] for _ in prompts]
    fed = 0
    while going := [i for i, state in enumerate(states) if not state.finished]:
        pieces = [speeches[i][fed : fed + size] for i in going]
        fed += size
        finals = [fed >= len(speeches[i]) for i in going]
        for i, mel in zip(
            going, many(kind, pieces, [states[i] for i in going], finals), strict=True
        ):
            made[i].append(mel)
    net = network("torch", kind)
    for count, speech, parts in zip(prompts, speeches, made, strict=True):
        mel = np.concatenate(parts)
        alone = advance(net, CONFIGS[kind], speech, start(kind, count, left_chunks), final=True)
        np.testing.assert_allclose(mel, alone, rtol=0, atol=TOLERANCE)
        whole = oracle(prompt(count), speech, left_chunks, kind)
        np.testing.assert_allclose(mel, whole, rtol=0, atol=1e-4)


@kinds
def test_one_call_for_each_euler_step(kind: str) -> None:
    net = Counting(network("torch", kind))
    states = [start(kind, count) for count in (0, CHUNK, 2 * CHUNK, 7)]
    many(kind, [tokens(2 * CHUNK + LOOKAHEAD)] * 4, states, [False] * 4, net)
    steps = CONFIGS[kind].num_steps
    assert net.streams[: 2 * steps] == [4] * 2 * steps
    assert isinstance(net.inner, BatchedFlowNetwork)


@kinds
def test_forks_of_a_voice_share_its_blocks(kind: str) -> None:
    net = TorchFlow(flow(kind))
    prefix = start(kind, 2 * CHUNK + LOOKAHEAD, net=net)
    pool = prefix.velocity[0].past["past_attention"].pool
    held = pool.num_used
    forks = [fork(net, prefix) for _ in range(3)]
    assert pool.num_used == held
    speeches = [tokens(CHUNK + i, seed=i) for i in range(3)]
    together = many(kind, speeches, forks, [True] * 3, net)
    for speech, mel in zip(speeches, together, strict=True):
        alone = advance(net, CONFIGS[kind], speech, fork(net, prefix), final=True)
        np.testing.assert_allclose(mel, alone, rtol=0, atol=TOLERANCE)
    assert pool.num_used > held
    del forks
    assert pool.num_used == held


def test_a_bounded_past_gives_its_blocks_back() -> None:
    net = TorchFlow(flow())
    state = start("unet", CHUNK, left_chunks=2, net=net)
    pool = state.velocity[0].past["past_attention"].pool
    used = []
    for _ in range(9):
        many("unet", [tokens(CHUNK)], [state], [False], net)
        used.append(pool.num_used)
    assert len(set(used[3:])) == 1


@kinds
def test_nan_of_one_stream_stays_its_own(kind: str) -> None:
    """Neither in the call nor later, when its blocks belong to somebody else."""
    net, config = TorchFlow(flow(kind)), CONFIGS[kind]
    speeches = [tokens(CHUNK + 2 * i, seed=i) for i in range(3)]
    alone = [advance(net, config, one, start(kind, 4, net=net), final=True) for one in speeches]
    for _ in range(2):
        states = [start(kind, 4, net=net) for _ in speeches]
        states[1] = replace(states[1], speaker=states[1].speaker * np.nan)
        made = advance_many(net, config, speeches, states, [True] * 3)
        assert isinstance(made[1], GenerationError)
        for i in (0, 2):
            np.testing.assert_allclose(unwrapped(made[i]), alone[i], rtol=0, atol=TOLERANCE)


def test_unknown_tokens_of_one_stream_are_its_own_error() -> None:
    states = [start("unet", CHUNK) for _ in range(2)]
    speeches = [tokens(CHUNK + LOOKAHEAD), np.full(3, VOCABULARY)]
    fine, wrong = advance_many(network("torch"), CONFIG, speeches, states, [True, True])
    assert isinstance(wrong, GenerationError)
    alone = advance(network("torch"), CONFIG, speeches[0], start("unet", CHUNK), final=True)
    np.testing.assert_allclose(unwrapped(fine), alone, rtol=0, atol=TOLERANCE)


def test_a_finished_stream_is_refused_before_anything_changes() -> None:
    states = [start("unet", 0), start("unet", 0)]
    many("unet", [tokens(3)], states[:1], [True])
    with pytest.raises(InvalidRequestError, match="finished"):
        advance_many(network("torch"), CONFIG, [tokens(3)] * 2, states, [True] * 2)
    assert not states[1].finished


def test_threads_share_a_pool_that_grows() -> None:
    """Blocks move when the pool grows; nobody reads or writes them meanwhile."""
    net, config = TorchFlow(flow()), CONFIG
    speeches = [tokens(6 * CHUNK, seed=i) for i in range(6)]
    alone = [advance(net, config, one, start("unet", CHUNK), final=True) for one in speeches]
    fresh, made = TorchFlow(flow()), dict[int, FloatArray]()

    def speak(index: int) -> None:
        state = start("unet", CHUNK, net=fresh)
        parts = [
            advance(fresh, config, piece, state, final=False)
            for piece in np.split(speeches[index], 6)
        ]
        parts.append(advance(fresh, config, tokens(0), state, final=True))
        made[index] = np.concatenate(parts)

    threads = [threading.Thread(target=speak, args=(i,)) for i in range(len(speeches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, mel in enumerate(alone):
        np.testing.assert_allclose(made[index], mel, rtol=0, atol=TOLERANCE)
