"""Repetition-aware sampling (VALL-E 2) on host arrays: same uniforms, same choices, any backend.

Sums and ties follow the official code: probabilities in float32, nucleus mass accumulated in
float32, ties in order of id, the draw by the inverse of a float64 cumulative distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from mynah.config import SamplingConfig
from mynah.errors import GenerationError
from mynah.types import FloatArray, TokenArray

Uniform = Callable[[], float]
"""Gives the next number in [0, 1), for example ``numpy.random.Generator.random``."""


def sample_token(
    logits: FloatArray, history: Sequence[int], sampling: SamplingConfig, uniform: Uniform
) -> int:
    """Choose the next token from scores (V,); entries of -inf are never chosen.

    One number is drawn from ``uniform``; a second one if the choice would repeat one of the last
    ``repetition_window`` tokens of ``history`` too often. Then that token is excluded and the draw
    is from everything else, as the official code does.

    Raises:
        GenerationError: if the scores hold NaN or +inf, or allow nothing.
    """
    probabilities = softmax(logits)
    kept = nucleus(probabilities, sampling.top_p, sampling.top_k)
    token = int(kept[draw(probabilities[kept], uniform())])
    if not _repeats(token, history, sampling):
        return token
    others = logits.copy()
    others[token] = -np.inf
    if np.isneginf(others).all():
        return token
    return draw(softmax(others), uniform())


def sample_nucleus(logits: FloatArray, top_p: float, uniform: Uniform) -> int:
    """Choose an index from scores (V,) by nucleus sampling alone.

    Raises:
        GenerationError: as ``sample_token``.
    """
    probabilities = softmax(logits)
    kept = nucleus(probabilities, top_p, len(probabilities))
    return int(kept[draw(probabilities[kept], uniform())])


def ban(logits: FloatArray, ids: TokenArray | slice | list[int]) -> FloatArray:
    """Copy of the scores with ``ids`` excluded."""
    banned = logits.copy()
    banned[ids] = -np.inf
    return banned


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities (V,) in float32.

    Raises:
        GenerationError: if the scores hold NaN or +inf, or allow nothing.
    """
    highest = logits.max()
    if not np.isfinite(highest):
        raise GenerationError(
            f"the language model's scores are unusable (largest: {highest})",
            hint="the weights may be damaged; run mynah doctor",
        )
    weights = np.exp(logits - highest, dtype=np.float32)
    probabilities: FloatArray = weights / weights.sum(dtype=np.float32)
    return probabilities


def nucleus(probabilities: FloatArray, top_p: float, top_k: int) -> TokenArray:
    """Ids of the most likely tokens, descending, that together just reach ``top_p``.

    At most ``top_k``, at least one; the token that crosses ``top_p`` is included.
    """
    top_k = min(top_k, len(probabilities))
    lowest = np.partition(probabilities, len(probabilities) - top_k)[len(probabilities) - top_k]
    candidates = np.flatnonzero(probabilities >= lowest)  # ids ascending, ties included
    order = np.argsort(-probabilities[candidates], kind="stable")
    candidates = candidates[order][:top_k]
    mass_before = np.cumsum(probabilities[candidates], dtype=np.float32)[:-1]
    return candidates[: 1 + int(np.count_nonzero(mass_before < np.float32(top_p)))]


def draw(weights: FloatArray, u: float) -> int:
    """Index whose share of the weights holds ``u`` in [0, 1); weights of zero are never chosen."""
    exact: npt.NDArray[np.float64] = weights.astype(np.float64)
    cumulative = np.cumsum(exact / exact.sum())
    index = int(np.count_nonzero(cumulative <= u))
    # Rounding may leave the last sum below one, and u above it.
    return min(index, int(np.flatnonzero(exact)[-1]))


def _repeats(token: int, history: Sequence[int], sampling: SamplingConfig) -> bool:
    window = sampling.repetition_window
    if window < 1:
        return False
    count = sum(1 for previous in history[-window:] if previous == token)
    return count >= window * sampling.repetition_threshold
