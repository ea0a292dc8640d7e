"""Flow in windows: any feeding of tokens gives the same frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.backends.base import FloatArray, TokenArray
from mynah.pipeline.flow import FlowPrompt
from mynah.pipeline.windowed_flow import cross_fade, stretch
from tests.property.windowed_model import (
    BACKENDS,
    CONFIG,
    FIRST,
    OVERLAP,
    prompt,
    stage,
    tokens,
)

feedings = st.lists(st.integers(0, 25), max_size=6)
counts = st.integers(0, 60)
some = settings(max_examples=15)
backends = pytest.mark.parametrize("backend", BACKENDS)


def stream(
    backend: str, voice: FlowPrompt, speech: TokenArray, feeding: list[int], *, whole: bool = False
) -> FloatArray:
    """Frames of pieces of the given sizes, then of the rest as the last one."""
    flow = stage(backend)
    state = flow.fork(flow.start(voice), whole=whole)
    pieces = np.split(speech, np.minimum(np.cumsum(feeding, dtype=np.int64), len(speech)))
    made = []
    for piece in pieces[:-1]:
        ready = flow.is_ready(state, len(piece))
        frames = flow.advance(piece, state, final=False)
        assert bool(len(frames)) == ready
        made.append(frames)
    made.append(flow.advance(pieces[-1], state, final=True))
    return np.concatenate(made)


@backends
@some
@given(feeding=feedings, count=counts, known=st.sampled_from([0, 1, 11]))
def test_any_feeding_gives_the_same_frames(
    backend: str, feeding: list[int], count: int, known: int
) -> None:
    voice, speech = prompt(known), tokens(count)
    made = stream(backend, voice, speech, feeding)
    assert made.dtype == np.float32
    assert made.shape == (CONFIG.num_frames(count), CONFIG.flow.n_mels)
    np.testing.assert_array_equal(made, stream(backend, voice, speech, []))


@backends
@some
@given(feeding=feedings, count=counts)
def test_a_whole_utterance_is_one_window(backend: str, feeding: list[int], count: int) -> None:
    voice, speech = prompt(7), tokens(count)
    whole = stream(backend, voice, speech, feeding, whole=True)
    assert len(whole) == CONFIG.num_frames(count)
    if count < FIRST + OVERLAP:
        np.testing.assert_array_equal(whole, stream(backend, voice, speech, []))
    elif count > FIRST + OVERLAP:
        assert np.abs(whole - stream(backend, voice, speech, [])).max() > 1e-3


@backends
@some
@given(sizes=st.lists(counts, min_size=2, max_size=3), size=st.integers(1, 25))
def test_interleaved_equal_separate(backend: str, sizes: list[int], size: int) -> None:
    flow, prefix = stage(backend), stage(backend).start(prompt(7))
    inputs = [tokens(count, seed) for seed, count in enumerate(sizes)]
    states = [flow.fork(prefix) for _ in inputs]
    made: list[list[FloatArray]] = [[] for _ in inputs]
    for at in range(0, max(*sizes, 1), size):
        for index, speech in enumerate(inputs):
            piece = speech[at : at + size]
            made[index].append(flow.advance(piece, states[index], final=False))
    for index, speech in enumerate(inputs):
        made[index].append(flow.advance(speech[:0], states[index], final=True))
        alone = stream(backend, prompt(7), speech, [])
        np.testing.assert_array_equal(np.concatenate(made[index]), alone)


@backends
@some
@given(known=st.integers(0, 40), more=st.integers(1, 30))
def test_frames_given_out_do_not_depend_on_what_follows(
    backend: str, known: int, more: int
) -> None:
    flow, speech = stage(backend), tokens(known)
    state = flow.fork(flow.start(prompt(7)))
    early = flow.advance(speech, state, final=False)
    longer = np.concatenate([speech, tokens(more, seed=5)])
    np.testing.assert_array_equal(early, stream(backend, prompt(7), longer, [])[: len(early)])


def test_backends_agree() -> None:
    ours, theirs = (stream(backend, prompt(7), tokens(55), []) for backend in BACKENDS)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@some
@given(count=st.integers(0, 40), extra=st.integers(0, 9))
def test_a_cross_fade_keeps_what_both_agree_on(count: int, extra: int) -> None:
    """Weights sum to one exactly; the official ones sum to 1.08."""
    after = np.random.default_rng(count).standard_normal((count + extra, 3)).astype(np.float32)
    np.testing.assert_array_equal(cross_fade(after[:count], after), after)
    other = cross_fade(after[:count] + 1, after)
    moved = (other - after)[:count]
    assert (moved > 0).all()
    assert (moved < 1).all()
    assert (np.diff(moved, axis=0) < 0).all()
    np.testing.assert_array_equal(other[count:], after[count:])


@some
@given(count=st.integers(2 * OVERLAP + 1, 60), change=st.integers(0, 9))
def test_edges_lie_on_the_same_frames_whatever_is_between(count: int, change: int) -> None:
    rows = np.random.default_rng(count).standard_normal((count, 2)).astype(np.float32)
    edge = CONFIG.num_frames(OVERLAP)
    frames = CONFIG.num_frames(count)
    stretched = stretch(rows, frames, OVERLAP, edge)
    assert len(stretched) == frames
    other = np.concatenate([rows[:OVERLAP], rows[: change + 1], rows[-OVERLAP:]])
    again = stretch(other, CONFIG.num_frames(len(other)), OVERLAP, edge)
    np.testing.assert_array_equal(stretched[:edge], again[:edge])
    np.testing.assert_array_equal(stretched[-edge:], again[-edge:])
