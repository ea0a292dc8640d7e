"""Who may start now: decided by how much audio the machine makes in a second.

The cost of a second of audio is measured while requests are served. A listener in real time needs
one second of audio a second, so ``capacity / cost`` of them can be served without a gap.
"""

from __future__ import annotations

from dataclasses import dataclass

from mynah.errors import InvalidRequestError, OverloadedError

_WEIGHT = 0.2
"""Of the newest measurement in the running mean."""


@dataclass(frozen=True)
class Limits:
    """What a scheduler takes on; None = as much as it can serve in time."""

    max_listeners: int | None = None
    """Requests served in real time at once."""
    max_others: int = 16
    """Requests that nobody waits for, such as files."""
    headroom: float = 0.85
    """Share of the measured capacity that is given away."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InvalidRequestError: naming the one that makes no sense.
        """
        if self.max_listeners is not None and self.max_listeners < 1:
            raise InvalidRequestError(
                f"max_listeners is {self.max_listeners}", hint="choose at least 1, or None"
            )
        if self.max_others < 0:
            raise InvalidRequestError(f"max_others is {self.max_others}", hint="choose at least 0")
        if not 0.0 < self.headroom <= 1.0:
            raise InvalidRequestError(
                f"headroom is {self.headroom}", hint="choose above 0 and at most 1"
            )


class Admission:
    """Counts requests against what was measured. Used under the scheduler's lock."""

    def __init__(self, limits: Limits, workers: int) -> None:
        """Start without a measurement: one listener for each worker."""
        self.limits = limits
        self.num_refused = 0
        self._workers = workers
        self._cost: float | None = None

    @property
    def cost(self) -> float | None:
        """Worker seconds for a second of audio (the real-time factor of one worker)."""
        return self._cost

    @property
    def capacity(self) -> int:
        """Listeners that can be served at once."""
        if self._cost is None:
            measured = self._workers
        else:
            measured = max(int(self._workers * self.limits.headroom / self._cost), 1)
        most = self.limits.max_listeners
        return measured if most is None else min(measured, most)

    def measure(self, busy_s: float, audio_s: float) -> None:
        """Learn from so many worker seconds that made so many seconds of audio."""
        if audio_s <= 0.0 or busy_s <= 0.0:
            return
        cost = busy_s / audio_s
        self._cost = cost if self._cost is None else self._cost + _WEIGHT * (cost - self._cost)

    def check(self, listeners: int, others: int, *, in_time: bool, soonest_end_s: float) -> None:
        """Refuse a request that cannot be served in time.

        Args:
            listeners: requests served in real time now.
            others: the rest.
            in_time: whether the new one is to be served in real time.
            soonest_end_s: when the first of the listeners is expected to be done.

        Raises:
            OverloadedError: with the time after which it is worth trying again.
        """
        if in_time and listeners >= self.capacity:
            self.num_refused += 1
            raise OverloadedError(
                f"{listeners} requests are being spoken, this machine can serve {self.capacity} "
                "in real time",
                hint="try again in a moment, or ask for a file that need not come in real time",
                retry_after_s=min(max(soonest_end_s, 1.0), 60.0),
            )
        if not in_time and others >= self.limits.max_others:
            self.num_refused += 1
            raise OverloadedError(
                f"{others} requests wait already, the limit is {self.limits.max_others}",
                hint="try again later",
                retry_after_s=min(max(soonest_end_s, 1.0), 60.0),
            )
