"""Silence, noise and NaN instead of speech (complaint 13), and arithmetic that leaks."""

from __future__ import annotations

import numpy as np
import pytest

from mynah.config import SamplingConfig
from mynah.errors import GenerationError
from mynah.pipeline.sampling import sample_token


def test_choosing_a_token_leaves_the_scores_alone() -> None:
    """Repetition-aware sampling of the official code writes -inf into the scores it was given.

    Where those rows belong to a batch or are kept for a fork, the next reader finds a hole in them.
    """
    scores = np.array([5.0, 1.0, 1.0, 0.5], np.float32)
    before = scores.copy()
    sampling = SamplingConfig(top_k=1, repetition_window=4, repetition_threshold=0.25)
    drawn = {
        sample_token(scores, [0, 0], sampling, np.random.default_rng(i).random) for i in range(9)
    }
    assert 0 not in drawn, "the repeated token was not excluded: this test tests nothing"
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=["nan", "inf"])
def test_scores_that_are_no_numbers_are_an_error(bad: float) -> None:
    """With fp16 engines 64 of 64 outputs held NaN, and were sent to listeners as noise."""
    scores = np.array([1.0, bad, 0.0], np.float32)
    with pytest.raises(GenerationError, match="unusable"):
        sample_token(scores, [], SamplingConfig(), lambda: 0.5)
