"""Seeds of requests that give none.

The official code draws from the global generators of torch, so its scripts make runs repeatable by
seeding those. Here every request has a seed of its own; ``set_all_random_seed`` decides the series
from which the following requests get theirs.
"""

from __future__ import annotations

import random
import secrets
import sys
import threading

from mynah.types import check_seed

_BITS = 31


class SeedSeries:
    """Gives one seed after the other, to any number of threads."""

    def __init__(self) -> None:
        """Start unpredictable."""
        self._lock = threading.Lock()
        self._series: random.Random | None = None

    def restart(self, seed: int) -> None:
        """Begin the series that belongs to a seed."""
        with self._lock:
            self._series = random.Random(seed)

    def draw(self) -> int:
        """Return the next seed; unpredictable as long as nobody called ``restart``."""
        with self._lock:
            if self._series is None:
                return secrets.randbits(_BITS)
            return self._series.getrandbits(_BITS)


SEEDS = SeedSeries()


def set_all_random_seed(seed: int) -> None:
    """Make what follows repeatable: the same calls in the same order give the same samples.

    The generators of ``random``, NumPy and torch (where it is loaded) are seeded as well, since
    scripts call this for those too; mynah itself never draws from them. With several threads the
    order is not certain: give each request its ``seed`` instead.

    Raises:
        InvalidRequestError: if the seed is no whole number from 0.
    """
    seed = check_seed(seed)
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)
    SEEDS.restart(seed)
