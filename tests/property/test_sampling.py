"""Sampling never does what it must not, whatever the scores."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mynah.config import SamplingConfig
from mynah.pipeline.sampling import ban, draw, nucleus, sample_nucleus, sample_token, softmax

SCORES = hnp.arrays(
    np.float32,
    st.integers(2, 40),
    elements=st.floats(-60, 60, width=32) | st.just(float(np.float32(1.5))),  # ties
)
UNIFORM = st.floats(0, 1, exclude_max=True)
ALMOST_ONE = float(np.nextafter(1.0, 0.0))


@given(SCORES, st.data(), UNIFORM | st.just(ALMOST_ONE))
def test_banned_tokens_are_never_chosen(
    logits: np.ndarray[tuple[int], np.dtype[np.float32]], data: st.DataObject, u: float
) -> None:
    size = len(logits)
    banned = data.draw(st.lists(st.integers(0, size - 1), max_size=size - 1, unique=True))
    history = data.draw(st.lists(st.integers(0, size - 1), max_size=12))
    settings = SamplingConfig(
        top_p=data.draw(st.floats(0.01, 1.0)), top_k=data.draw(st.integers(1, 50))
    )
    scores = ban(logits, banned)
    assert sample_token(scores, history, settings, lambda: u) not in banned
    assert sample_nucleus(scores, settings.top_p, lambda: u) not in banned


@given(SCORES, st.floats(0.01, 1.0), st.integers(1, 50))
def test_a_nucleus_is_the_stable_descending_prefix(
    logits: np.ndarray[tuple[int], np.dtype[np.float32]], top_p: float, top_k: int
) -> None:
    probabilities = softmax(logits)
    expected: list[int] = []
    mass = np.float32(0)
    for index in sorted(range(len(logits)), key=lambda i: (-probabilities[i], i)):
        if mass >= np.float32(top_p) or len(expected) >= top_k:
            break
        expected.append(index)
        mass += probabilities[index]
    assert nucleus(probabilities, top_p, top_k).tolist() == expected


@given(SCORES, UNIFORM)
def test_a_draw_inverts_the_cumulative_distribution(
    logits: np.ndarray[tuple[int], np.dtype[np.float32]], u: float
) -> None:
    weights = softmax(logits)
    index = draw(weights, u)
    shares = np.cumsum(weights.astype(np.float64) / weights.astype(np.float64).sum())
    assert weights[index] > 0
    assert index == 0 or shares[index - 1] <= u
    assert u < shares[index] or not weights[index + 1 :].any()
