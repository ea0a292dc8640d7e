"""Sampling decisions against the official function, with its uniform numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from mynah.config import SamplingConfig
from mynah.pipeline.sampling import sample_token
from tests.parity import golden


def _settings() -> SamplingConfig:
    params = golden.facts("sampling", "ras")["params"]
    return SamplingConfig(
        top_p=params["top_p"],
        top_k=params["top_k"],
        repetition_window=params["win_size"],
        repetition_threshold=params["tau_r"],
    )


def _numbers(values: Iterable[float]) -> Callable[[], float]:
    return iter(values).__next__


@pytest.mark.parametrize("case", range(len(golden.load("sampling", "ras")["result"])))
def test_each_case_chooses_the_official_token(case: int) -> None:
    arrays = golden.load("sampling", "ras")
    num_draws = int(arrays["n_draws"][case])
    history = arrays["history"][case, : arrays["history_len"][case]].tolist()
    used = iter(arrays["draws"][case, :num_draws].tolist())
    token = sample_token(arrays["logp"][case], history, _settings(), used.__next__)
    assert token == arrays["result"][case]
    assert next(used, None) is None, "the official code drew more numbers"


def test_a_sequence_with_a_growing_history() -> None:
    arrays = golden.load("sampling", "ras")
    history: list[int] = []
    for logits, draws in zip(
        arrays["sequence.logits"], golden.facts("sampling", "ras")["sequence"]["draws"], strict=True
    ):
        history.append(sample_token(logits, history, _settings(), _numbers(draws)))
    np.testing.assert_array_equal(history, arrays["sequence.tokens"])
