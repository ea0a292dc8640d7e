"""Speaking speed: linear resampling of mel frames in time, incrementally.

Output frame i lies at input position (i + 0.5) * ratio - 0.5, as in linear interpolation without
aligned corners; F input frames become int(F / speed). Two rules differ in ``ratio``:

* total known: F / int(F / speed), the released code's rule for whole utterances;
* total unknown (streaming): ``speed`` itself. When F / speed is no whole number, the last frames
  lie up to one output frame earlier than by the other rule.

Either way any chunking of the input gives the same output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mynah.errors import InvalidRequestError

FloatArray = npt.NDArray[np.float32]

MIN_SPEED, MAX_SPEED = 0.25, 4.0


@dataclass(eq=False)
class SpeedState:
    """Where the resampling of one utterance stands; changed by ``advance``."""

    speed: float
    """1 = as spoken, 2 = twice as fast."""
    total: int | None = None
    """Input frames of the whole utterance, where they are known at the start."""
    received: int = 0
    emitted: int = 0
    context: FloatArray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """The last input frames, which the next output frames may still need."""

    def __post_init__(self) -> None:
        """Check the speed.

        Raises:
            InvalidRequestError: if it is outside 0.25 .. 4.
        """
        if not MIN_SPEED <= self.speed <= MAX_SPEED:
            raise InvalidRequestError(
                f"speed {self.speed} is out of range",
                hint=f"choose a speed between {MIN_SPEED} and {MAX_SPEED}",
            )


def output_frames(frames: int, speed: float) -> int:
    """Frames after resampling; at least one where there was one."""
    return max(int(frames / speed), min(frames, 1))


def advance(mel: FloatArray, state: SpeedState, *, final: bool) -> FloatArray:
    """Append mel frames (F, n_mels); return the resampled frames that are now certain.

    Raises:
        ValueError: if more or fewer frames come than the announced total.
    """
    known = mel if not len(state.context) else np.concatenate([state.context, mel])
    first = state.received - len(state.context)
    state.received += len(mel)
    if state.total is not None and (
        state.received > state.total or (final and state.received < state.total)
    ):
        raise ValueError(f"{state.received} mel frames instead of {state.total}")
    ratio = _ratio(state)
    end = _certain(state, ratio, final)
    positions = np.maximum((np.arange(state.emitted, end) + 0.5) * ratio - 0.5, 0.0)
    left = np.floor(positions).astype(np.int64)
    right = np.minimum(left + 1, max(state.received - 1, 0))
    weight = (positions - left).astype(np.float32)[:, None]
    resampled: FloatArray = known[left - first] * (1 - weight) + known[right - first] * weight
    state.emitted = end
    keep = min(math.floor(max((end + 0.5) * ratio - 0.5, 0.0)), state.received)
    state.context = known[max(keep - first, 0) :].copy()
    return resampled


def _ratio(state: SpeedState) -> float:
    if not state.total:
        return state.speed
    return state.total / output_frames(state.total, state.speed)


def _certain(state: SpeedState, ratio: float, final: bool) -> int:
    """Output frames whose input frames are known and that no ending can take away."""
    if final:
        return max(output_frames(state.received, state.speed), state.emitted)
    # (i + 0.5) * ratio - 0.5 <= received - 1
    reached = math.floor((state.received - 0.5) / ratio - 0.5) + 1
    if state.total is None:
        reached = min(reached, int(state.received / state.speed))
    return max(reached, state.emitted)
