from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mynah.backends.fake import fake_config
from mynah.pipeline.schedule import ChunkSchedule
from mynah.pipeline.session import Session
from mynah.pipeline.synthesizer import synthesize
from mynah.types import FloatArray
from tests.fake_model import fake_model, session

MODELS = {pointer: fake_model(fake_config(pointer=pointer)) for pointer in (True, False)}
REQUESTS = [
    ("Good morning. How are you?", "fake", 1.0),
    ("Nobody said a word, not one.", "other", 1.0),
    ("It rained. It rained all day long, and then some. We stayed in.", "fake", 1.3),
    ("Ten.", "third", 0.7),
]


def start(pointer: bool, which: int, seed: int) -> Session:
    text, voice, speed = REQUESTS[which]
    return session(MODELS[pointer], text, voice, seed=seed, speed=speed)


@given(
    pointer=st.booleans(),
    chosen=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=2, max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_interleaved_sessions_equal_separate_ones(
    pointer: bool, chosen: list[tuple[int, int]], order: random.Random
) -> None:
    sessions = [start(pointer, *values) for values in chosen]
    parts: list[list[FloatArray]] = [[] for _ in chosen]
    while running := [index for index, one in enumerate(sessions) if not one.is_over]:
        index = order.choice(running)
        for _ in range(order.randint(1, 20)):
            if not sessions[index].is_over and (chunk := sessions[index].advance()):
                parts[index].append(chunk.audio.samples)
    for values, pieces in zip(chosen, parts, strict=True):
        alone = synthesize(start(pointer, *values)).samples
        np.testing.assert_array_equal(np.concatenate(pieces), alone)


@given(
    pointer=st.booleans(),
    which=st.integers(0, 3),
    growth=st.integers(1, 4),
    largest=st.integers(1, 6),
)
def test_hops_of_any_size_give_the_same_samples(
    pointer: bool, which: int, growth: int, largest: int
) -> None:
    model = fake_model(fake_config(pointer=pointer))
    sizes = model.config.flow.encoder
    schedule = ChunkSchedule(sizes.chunk_tokens, sizes.lookahead_tokens, growth, largest)
    text, voice, speed = REQUESTS[which]
    model.flow._schedule = schedule  # type: ignore[attr-defined]  # of the causal stage
    changed = session(model, text, voice, seed=1, speed=speed)
    expected = synthesize(start(pointer, which, 1)).samples
    np.testing.assert_allclose(synthesize(changed).samples, expected, atol=1e-6)


@given(pointer=st.booleans(), which=st.integers(0, 3), seed=st.integers(0, 2**31 - 1))
def test_a_seed_gives_the_same_samples(pointer: bool, which: int, seed: int) -> None:
    first = synthesize(start(pointer, which, seed)).samples
    np.testing.assert_array_equal(first, synthesize(start(pointer, which, seed)).samples)


@given(pointer=st.booleans(), which=st.integers(0, 3), steps=st.integers(0, 60))
def test_an_abandoned_session_changes_nothing(pointer: bool, which: int, steps: int) -> None:
    expected = synthesize(start(pointer, which, 3)).samples
    other = start(pointer, which, 4)
    for _ in range(steps):
        if not other.is_over:
            other.advance()
    other.close()
    np.testing.assert_array_equal(synthesize(start(pointer, which, 3)).samples, expected)
