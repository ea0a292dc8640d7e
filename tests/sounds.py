"""Sounds for tests."""

from __future__ import annotations

import numpy as np

from mynah.types import Audio


def make_speechlike(duration_s: float, sample_rate: int, *, seed: int = 0) -> Audio:
    """A buzz with formant-like colour in syllables of 0.2 s, over faint noise.

    Loud and quiet parts, no clipping: it passes the checks of a prompt recording.
    """
    time = np.arange(round(duration_s * sample_rate)) / sample_rate
    pitch = 120.0 + 20.0 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    buzz = sum(np.sin(phase * k) * np.exp(-((k * 120 - 600) ** 2) / 8e5) for k in range(1, 30))
    syllables = np.clip(np.sin(2 * np.pi * 2.5 * time), 0.0, None) ** 0.5
    noise = np.random.default_rng(seed).standard_normal(len(time))
    samples = 0.06 * buzz * syllables + 0.0005 * noise
    return Audio(samples.astype(np.float32), sample_rate)
