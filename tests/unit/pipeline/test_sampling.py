from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mynah.config import SamplingConfig
from mynah.errors import GenerationError
from mynah.pipeline.sampling import ban, draw, sample_nucleus, sample_token


def _logits(*probabilities: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    with np.errstate(divide="ignore"):
        return np.log(np.array(probabilities, dtype=np.float32))


def _numbers(*values: float) -> Callable[[], float]:
    return iter(values).__next__


def test_the_token_that_crosses_top_p_is_kept() -> None:
    settings = SamplingConfig(top_p=0.6)
    logits = _logits(0.5, 0.3, 0.2)
    assert sample_token(logits, [], settings, _numbers(0.99)) == 1
    assert sample_token(logits, [], settings, _numbers(0.0)) == 0


def test_top_k_one_is_greedy_and_ties_go_to_the_lower_id() -> None:
    settings = SamplingConfig(top_k=1)
    assert sample_token(_logits(0.2, 0.4, 0.4), [], settings, _numbers(0.99)) == 1


def test_a_repeated_token_is_excluded_and_all_others_stand() -> None:
    settings = SamplingConfig(top_p=0.5)
    logits = _logits(0.9, 0.04, 0.06)
    assert sample_token(logits, [0], settings, _numbers(0.5, 0.39)) == 1
    assert sample_token(logits, [0], settings, _numbers(0.5, 0.41)) == 2


def test_repetitions_outside_the_window_do_not_count() -> None:
    settings = SamplingConfig(top_p=0.5, repetition_window=3)
    assert sample_token(_logits(0.9, 0.1), [0, 1, 1, 1], settings, _numbers(0.5)) == 0


def test_no_window_means_no_repetition_rule() -> None:
    settings = SamplingConfig(top_p=0.5, repetition_window=0)
    assert sample_token(_logits(0.9, 0.1), [0, 0, 0], settings, _numbers(0.5)) == 0


def test_the_only_allowed_token_may_repeat() -> None:
    logits = ban(_logits(0.5, 0.5), [1])
    assert sample_token(logits, [0], SamplingConfig(), _numbers(0.5)) == 0


def test_rounding_never_leads_to_a_weight_of_zero() -> None:
    """Ten shares of 0.1 add up to less than one, and u can reach that."""
    weights = np.array([1] * 10 + [0], dtype=np.float32)
    assert draw(weights, float(np.nextafter(1.0, 0.0))) == 9


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["nan", "inf"])
def test_unusable_scores_are_an_error(value: float) -> None:
    logits = _logits(0.5, 0.5)
    logits[1] = value
    with pytest.raises(GenerationError, match="unusable"):
        sample_token(logits, [], SamplingConfig(), _numbers(0.5))


def test_nothing_allowed_is_an_error() -> None:
    with pytest.raises(GenerationError, match="unusable"):
        sample_nucleus(ban(_logits(0.5, 0.5), [0, 1]), 0.9, _numbers(0.5))
