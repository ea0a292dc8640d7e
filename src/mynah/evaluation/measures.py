"""Measures of the difference between what an exact network says and what another one says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mynah.audio.features import log_mel
from mynah.config import MelConfig
from mynah.types import FloatArray

PARTS = 4
"""Into how many equal parts the positions of a sequence are put: errors may grow along it."""

_Wide = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scores:
    """How well two networks agree on what comes next, position by position."""

    same: float
    """Share of positions where the likeliest choice is the same."""
    divergence: float
    """Mean Kullback-Leibler divergence of the other distribution from the exact one, in nats."""
    divergence_95: float
    """The same, not exceeded at 95 % of the positions."""
    same_along: tuple[float, ...]
    """``same`` in each of PARTS equal parts of the sequences, in order."""
    divergence_along: tuple[float, ...]
    """``divergence`` in the same parts."""


def compare_scores(pairs: Sequence[tuple[FloatArray, FloatArray]]) -> Scores:
    """Compare (T, V) raw scores of an exact and another network, for each sequence."""
    same = [(exact.argmax(-1) == other.argmax(-1)) for exact, other in pairs]
    nats = [divergences(exact, other) for exact, other in pairs]
    place = [np.arange(len(row)) * PARTS // len(row) for row in nats]
    every_same, every_nat, every_place = (np.concatenate(rows) for rows in (same, nats, place))

    def along(values: npt.NDArray[np.generic]) -> tuple[float, ...]:
        parts = (values[every_place == part] for part in range(PARTS))
        return tuple(float(np.mean(part)) for part in parts if len(part))

    return Scores(
        same=float(every_same.mean()),
        divergence=float(every_nat.mean()),
        divergence_95=float(np.quantile(every_nat, 0.95)),
        same_along=along(every_same),
        divergence_along=along(every_nat),
    )


def divergences(exact: FloatArray, other: FloatArray) -> _Wide:
    """Kullback-Leibler divergence of softmax(other) from softmax(exact), (T, V) -> (T,), nats."""
    p, q = log_softmax(exact), log_softmax(other)
    found: _Wide = np.maximum((np.exp(p) * (p - q)).sum(-1), 0.0)
    return found


def log_softmax(scores: FloatArray) -> _Wide:
    """Logarithms of the probabilities along the last axis."""
    wide = scores.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    found: _Wide = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    return found


def relative_error(exact: FloatArray, other: FloatArray) -> float:
    """Root mean square difference in parts of the exact values' standard deviation."""
    difference = other.astype(np.float64) - exact
    return float(np.sqrt(np.mean(np.square(difference)))) / max(float(exact.std()), 1e-12)


def signal_to_noise_db(pairs: Sequence[tuple[FloatArray, FloatArray]]) -> float | None:
    """Energy of the exact waveforms over that of the differences in dB; None without any."""
    signal = sum(float(np.square(exact, dtype=np.float64).sum()) for exact, _ in pairs)
    noise = sum(float(np.square(other.astype(np.float64) - exact).sum()) for exact, other in pairs)
    return 10 * float(np.log10(max(signal, 1e-30) / noise)) if noise else None


def log_mel_of(samples: FloatArray, config: MelConfig) -> FloatArray:
    """Log-mel (F, n_mels) of a waveform, with a floor of silence 80 dB below its loudest part."""
    mel = log_mel(samples, config)
    floored: FloatArray = np.maximum(mel, mel.max() - np.float32(80 / 20 * np.log(10)))
    return floored
