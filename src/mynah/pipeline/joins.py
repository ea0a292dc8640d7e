"""Utterances spoken one after the other: a natural pause between them, and no click.

The samples of an utterance stay as they are but for a few milliseconds at a join, which are faded
to and from silence. Silence that the model made itself counts towards the pause.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mynah.backends.base import FloatArray

NO_SAMPLES: FloatArray = np.zeros(0, dtype=np.float32)
FADE_S = 0.005
SILENCE = 0.005
"""Samples below this count as silence: -46 dBFS."""
_MAX_LEAD_S = 0.1  # less than the first chunk of any utterance


@dataclass(eq=False)
class JoinState:
    """Where the audio of one session stands."""

    sample_rate: int
    pause_s: float = 0.0
    """Silence wanted before the next utterance, as far as it has not been made."""
    is_start: bool = False
    """Whether the next samples are the first ones after a pause."""
    quiet: int = 0
    """Silent samples at the end of what was made."""


def advance(samples: FloatArray, state: JoinState) -> FloatArray:
    """Take the next samples (N,) of an utterance; return what is heard, with the pause before."""
    if not len(samples):
        return samples
    if state.is_start:
        samples = _begin(samples, state)
        state.is_start = False
    loud = np.flatnonzero(np.abs(samples) >= SILENCE)
    state.quiet = len(samples) - 1 - int(loud[-1]) if len(loud) else state.quiet + len(samples)
    return samples


def end_utterance(samples: FloatArray, pause_s: float, state: JoinState) -> FloatArray:
    """Close an utterance that another one follows; ``samples`` are its last ones (N,)."""
    samples = advance(samples, state)
    count = min(round(FADE_S * state.sample_rate), len(samples))
    if count:
        samples = samples.copy()
        samples[-count:] *= np.linspace(1.0, 0.0, count, dtype=np.float32)
    state.pause_s, state.is_start = pause_s, True
    return samples


def _begin(samples: FloatArray, state: JoinState) -> FloatArray:
    """Put what is missing of the pause before the first samples of an utterance."""
    limit = round(_MAX_LEAD_S * state.sample_rate)
    loud = np.flatnonzero(np.abs(samples[:limit]) >= SILENCE)
    lead = int(loud[0]) if len(loud) else min(limit, len(samples))
    missing = round(state.pause_s * state.sample_rate) - state.quiet - lead
    count = min(round(FADE_S * state.sample_rate), len(samples))
    faded = samples.copy()
    faded[:count] *= np.linspace(0.0, 1.0, count, dtype=np.float32)
    state.quiet = 0
    return np.concatenate([np.zeros(max(missing, 0), np.float32), faded])
