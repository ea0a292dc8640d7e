"""How long calls take: the same backend, or anything else, with a note after every call."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

from mynah.backends.base import Backend

OnCall: TypeAlias = Callable[[str, float], None]
"""Called with a stage and the seconds of one call. Stages are

* ``lm``, ``flow`` and ``vocoder``: calls of the networks,
* ``text``: normalising, cutting and tokenising, also of transcripts and instructions,
* ``voice``: making a voice ready, where it was not; the flow's share of it is in ``flow``, too,
* ``recording``: reading a recording, to make a voice of it or to say it again.
"""

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def timed(
    backend: Backend, on_call: OnCall, clock: Callable[[], float] = time.perf_counter
) -> Backend:
    """Return the backend with calls that are timed. Calls of a network to itself are not.

    Args:
        backend: of one model.
        on_call: told after every call, also after one that fails, by the thread that made it.
        clock: gives seconds.
    """
    return replace(
        backend,
        lm=timed_object(backend.lm, "lm", on_call, clock),
        flow=timed_object(backend.flow, "flow", on_call, clock),
        vocoder=timed_object(backend.vocoder, "vocoder", on_call, clock),
    )


def timed_object(
    thing: T,
    stage: str,
    on_call: OnCall | None,
    clock: Callable[[], float] = time.perf_counter,
) -> T:
    """Return an object whose methods are timed, but for those it calls itself; None = as it is."""
    return thing if on_call is None else cast(T, _Timed(thing, stage, on_call, clock))


def timed_call(
    function: Callable[P, R],
    stage: str,
    on_call: OnCall | None,
    clock: Callable[[], float] = time.perf_counter,
) -> Callable[P, R]:
    """Return a function whose calls are timed; ``on_call`` = None: the function as it is."""
    if on_call is None:
        return function

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        began_at = clock()
        try:
            return function(*args, **options)
        finally:
            on_call(stage, clock() - began_at)

    return call


class _Timed:
    """Everything that an object has, its methods timed."""

    def __init__(self, thing: Any, stage: str, on_call: OnCall, clock: Callable[[], float]) -> None:
        self._thing, self._stage = thing, stage
        self._on_call, self._clock = on_call, clock

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._thing, name)
        if not callable(value):
            return value
        call = timed_call(value, self._stage, self._on_call, self._clock)
        setattr(self, name, call)  # next time it is found at once
        return call
