"""Source of the source-filter vocoder: a band-limited pulse train and white noise.

Between frame centres F0 runs linearly; beside an unvoiced frame it goes on as it is. A frame's
second half depends on the next frame, so ``advance`` keeps one frame until it is known, or until
the end. The phase accumulates in float64 and noise is drawn in sample order, so any chunking of
the F0 gives the same samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mynah.config import VocoderConfig

FloatArray = npt.NDArray[np.float32]

_TOP = 0.475
"""Highest harmonic as a share of the sample rate: a little below the Nyquist frequency."""


@dataclass(eq=False)
class PulseState:
    """Where one utterance's pulse train stands; ``noise`` belongs to this state, None = silent."""

    sample_rate: int
    noise: np.random.Generator | None = None
    phase: float = 0.0
    """In cycles, at the last sample emitted."""
    pending: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))
    """F0 of the frame before the waiting one, and of the waiting one."""


def advance(config: VocoderConfig, f0: FloatArray, state: PulseState, *, final: bool) -> FloatArray:
    """Append F0 values in Hz, (F,); return the samples that are now certain.

    Returns:
        (N, 2) float32: pulse train, noise. N is a multiple of ``config.samples_per_frame``. One
        frame stays in the state until ``final``.
    """
    if len(f0) and not len(state.pending):
        state.pending = np.repeat(np.float32(f0[0]), 2)
        f0 = f0[1:]
    known = np.concatenate([state.pending, f0.astype(np.float32)])
    if final and len(known):
        known = np.append(known, known[-1])
    if len(known) < 3:
        state.pending = known
        return np.zeros((0, 2), np.float32)
    state.pending = np.zeros(0, np.float32) if final else known[-2:]
    # one frame at a time: float sums must not depend on how many frames came together
    parts = [_frame(config, state, *known[at : at + 3].tolist()) for at in range(len(known) - 2)]
    return np.concatenate(parts)


def pulses(
    config: VocoderConfig,
    f0: FloatArray,
    sample_rate: int,
    noise: np.random.Generator | None = None,
) -> FloatArray:
    """Whole utterance: F0 (F,) in Hz -> (F * samples_per_frame, 2)."""
    return advance(config, f0, PulseState(sample_rate, noise), final=True)


def _frame(
    config: VocoderConfig, state: PulseState, before: float, here: float, after: float
) -> FloatArray:
    """One frame from its F0 and both neighbours', (samples_per_frame, 2)."""
    size = config.samples_per_frame
    out = np.zeros((size, 2), np.float32)
    if state.noise is not None:
        out[:, 1] = state.noise.standard_normal((size,), dtype=np.float32) * config.noise_std
    threshold = config.voiced_threshold_hz
    if here <= threshold:
        state.phase = 0.0
        return out
    before = before if before > threshold else here
    after = after if after > threshold else here
    offset = (np.arange(size) + 0.5) / size - 0.5
    slope = np.where(offset < 0, here - before, after - here)
    cycles = state.phase + np.cumsum((here + offset * slope) / state.sample_rate)
    state.phase = float(cycles[-1] % 1.0)
    # all harmonics at equal strength, summed in closed form:
    # sum over h = 1..K of sin(h p) = sin(K p / 2) sin((K + 1) p / 2) / sin(p / 2)
    count = math.floor(_TOP * state.sample_rate / max(before, here, after))
    half = math.pi * cycles
    below = np.sin(half)
    small = np.abs(below) < 1e-6
    waves = np.sin(count * half) * np.sin((count + 1) * half) / np.where(small, 1.0, below)
    out[:, 0] = np.where(small, 0.0, waves) * config.sine_amplitude
    return out
