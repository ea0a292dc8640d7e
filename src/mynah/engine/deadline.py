"""When a request has to be finished."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from mynah.errors import DeadlineError, InvalidRequestError


@dataclass(frozen=True)
class Deadline:
    """A moment on a clock, and how much time was given."""

    at: float
    """On the clock, in seconds."""
    timeout_s: float

    @classmethod
    def after(cls, timeout_s: float | None, clock: Callable[[], float]) -> Self | None:
        """So many seconds from now; None = no deadline.

        Raises:
            InvalidRequestError: if it is no positive number.
        """
        if timeout_s is None:
            return None
        is_number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
        if not is_number or not math.isfinite(timeout_s) or timeout_s <= 0:
            raise InvalidRequestError(
                f"timeout_s {timeout_s!r} is out of range",
                hint="give seconds, more than 0; leave it out for no limit",
            )
        return cls(clock() + timeout_s, timeout_s)

    def has_passed(self, now: float) -> bool:
        """Whether it is too late at the time ``now``."""
        return now >= self.at

    def error(self) -> DeadlineError:
        """What ends a request that is late."""
        return DeadlineError(
            f"the request was not finished within {self.timeout_s:g} s",
            hint="allow more time, speak a shorter text, or serve fewer requests at once",
        )
