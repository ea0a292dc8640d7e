"""The incremental flow stage against one masked pass, for any feeding of tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.backends.base import FloatArray, TokenArray
from mynah.pipeline.flow import FlowStageState, advance, decode_whole, fork, prefix_state
from mynah.pipeline.schedule import ChunkSchedule
from tests.property.flow_model import (
    BACKENDS,
    CHUNK,
    CONFIG,
    CONFIGS,
    KINDS,
    NOISE,
    network,
    oracle,
    prompt,
    tokens,
)

TOLERANCE = 1e-4
LOOKAHEAD = CONFIG.encoder.lookahead_tokens

feedings = st.lists(st.integers(0, 3 * CHUNK), max_size=7)
prompt_lengths = st.integers(0, 3 * CHUNK + 1)
some = settings(max_examples=25, deadline=None)
backends = pytest.mark.parametrize("backend", BACKENDS)
kinds = pytest.mark.parametrize("kind", KINDS)


def stream(
    backend: str, state: FlowStageState, speech: TokenArray, feeding: list[int], kind: str = "unet"
) -> FloatArray:
    """Feed pieces of the given sizes, then what is left as the final piece."""
    net, config, made, start = network(backend, kind), CONFIGS[kind], [], 0
    for size in feeding:
        piece = speech[start : start + size]
        start += len(piece)
        made.append(advance(net, config, piece, state, final=False))
    made.append(advance(net, config, speech[start:], state, final=True))
    return np.concatenate(made)


@kinds
@backends
@some
@given(feeding=feedings, count=st.integers(1, 5 * CHUNK), prompt_count=prompt_lengths)
def test_any_feeding_equals_the_whole(
    kind: str, backend: str, feeding: list[int], count: int, prompt_count: int
) -> None:
    voice, speech = prompt(prompt_count), tokens(count)
    net, config = network(backend, kind), CONFIGS[kind]
    prefix = prefix_state(net, config, voice, NOISE)
    mel = stream(backend, fork(net, prefix), speech, feeding, kind)
    np.testing.assert_allclose(mel, oracle(voice, speech, kind=kind), rtol=0, atol=TOLERANCE)
    whole = decode_whole(net, config, voice, speech, NOISE)
    np.testing.assert_allclose(mel, whole, rtol=0, atol=1e-6)


@kinds
@backends
@some
@given(
    feeding=feedings,
    count=st.integers(1, 6 * CHUNK),
    prompt_count=prompt_lengths,
    left_chunks=st.integers(1, 3),
)
def test_bounded_past_equals_the_windowed_whole(
    kind: str, backend: str, feeding: list[int], count: int, prompt_count: int, left_chunks: int
) -> None:
    voice, speech = prompt(prompt_count), tokens(count)
    net = network(backend, kind)
    state = prefix_state(net, CONFIGS[kind], voice, NOISE, left_chunks=left_chunks)
    mel = stream(backend, state, speech, feeding, kind)
    expected = oracle(voice, speech, left_chunks, kind)
    np.testing.assert_allclose(mel, expected, rtol=0, atol=TOLERANCE)


@backends
@some
@given(
    counts=st.lists(st.integers(1, 3 * CHUNK), min_size=2, max_size=4),
    order=st.lists(st.integers(0, 3), max_size=12),
    size=st.integers(1, CHUNK + 2),
)
def test_interleaved_equal_separate(
    backend: str, counts: list[int], order: list[int], size: int
) -> None:
    """Requests that share one forked prefix do not see each other."""
    net = network(backend)
    prefix = prefix_state(net, CONFIG, prompt(CHUNK + LOOKAHEAD), NOISE)
    speeches = [tokens(count, seed) for seed, count in enumerate(counts)]
    separate = [stream(backend, fork(net, prefix), speech, []) for speech in speeches]
    states = [fork(net, prefix) for _ in speeches]
    fed, made = [0] * len(speeches), [[] for _ in speeches]  # type: list[int], list[list[FloatArray]]
    for turn in order:
        i = turn % len(speeches)
        piece = speeches[i][fed[i] : fed[i] + size]
        fed[i] += len(piece)
        made[i].append(advance(net, CONFIG, piece, states[i], final=False))
    for i, speech in enumerate(speeches):
        made[i].append(advance(net, CONFIG, speech[fed[i] :], states[i], final=True))
        np.testing.assert_allclose(np.concatenate(made[i]), separate[i], rtol=0, atol=1e-6)


@backends
@some
@given(feeding=feedings, growth=st.integers(1, 3), limit=st.integers(1, 4))
def test_growing_hops_change_nothing_but_the_moment(
    backend: str, feeding: list[int], growth: int, limit: int
) -> None:
    voice, speech = prompt(CHUNK + 2), tokens(5 * CHUNK)
    schedule = ChunkSchedule(CHUNK, LOOKAHEAD, growth=growth, max_hop_chunks=limit)
    state = prefix_state(network(backend), CONFIG, voice, NOISE, schedule=schedule)
    mel = stream(backend, state, speech, feeding)
    np.testing.assert_allclose(mel, oracle(voice, speech), rtol=0, atol=TOLERANCE)


class Counting:
    """Passes calls on and notes how many frames each one computes."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.frames: list[int] = []
        self.tokens: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def encode(self, speech: TokenArray, lookahead: TokenArray | None, state: Any) -> Any:
        self.tokens.append(len(speech))
        return self.inner.encode(speech, lookahead, state)

    def velocity(self, x: Any, *rest: Any) -> Any:
        self.frames.append(len(x))
        return self.inner.velocity(x, *rest)


@backends
def test_every_frame_is_computed_once(backend: str) -> None:
    """The networks see new positions only, so a late chunk costs what an early one costs."""
    net = Counting(network(backend))
    state = prefix_state(net, CONFIG, prompt(2 * CHUNK + LOOKAHEAD), NOISE)
    assert net.tokens == [CHUNK, CHUNK]
    net.tokens.clear()
    net.frames.clear()
    chunks = 12
    speech = tokens(chunks * CHUNK)
    for token in np.split(speech, len(speech)):
        advance(net, CONFIG, token, state, final=False)
    assert set(net.tokens) == {CHUNK}
    assert net.frames == [2 * CHUNK] * (len(net.tokens) * CONFIG.num_steps)
    advance(net, CONFIG, speech[:0], state, final=True)
    assert sum(net.tokens) == LOOKAHEAD + len(speech)


@backends
def test_bounded_past_bounds_memory(backend: str) -> None:
    net = network(backend)
    state = prefix_state(net, CONFIG, prompt(CHUNK), NOISE, left_chunks=2)
    sizes = []
    for piece in np.split(tokens(30 * CHUNK), 30):
        advance(net, CONFIG, piece, state, final=False)
        sizes.append(state.encoder.nbytes() + sum(one.nbytes() for one in state.velocity))
    assert len(set(sizes[4:])) == 1


@kinds
def test_backends_agree_with_full_attention(kind: str) -> None:
    voice, speech = prompt(7), tokens(33)
    ours, theirs = (
        decode_whole(network(backend, kind), CONFIGS[kind], voice, speech, NOISE, attention="full")
        for backend in BACKENDS
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
