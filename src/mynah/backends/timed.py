"""How long the networks take: the same backend, with a note after every call."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias, cast

from mynah.backends.base import Backend, FlowNetwork, SpeechLM, VocoderNetwork

OnCall: TypeAlias = Callable[[str, float], None]
"""Called with ``lm``, ``flow`` or ``vocoder``, and the seconds of one call."""


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
        lm=cast(SpeechLM, _Timed(backend.lm, "lm", on_call, clock)),
        flow=cast(FlowNetwork, _Timed(backend.flow, "flow", on_call, clock)),
        vocoder=cast(VocoderNetwork, _Timed(backend.vocoder, "vocoder", on_call, clock)),
    )


class _Timed:
    """Everything that a network has, its methods timed."""

    def __init__(
        self, network: Any, stage: str, on_call: OnCall, clock: Callable[[], float]
    ) -> None:
        self._network, self._stage = network, stage
        self._on_call, self._clock = on_call, clock

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._network, name)
        if not callable(value):
            return value
        stage, on_call, clock = self._stage, self._on_call, self._clock

        @functools.wraps(value)
        def call(*args: Any, **options: Any) -> Any:
            began_at = clock()
            try:
                return value(*args, **options)
            finally:
                on_call(stage, clock() - began_at)

        setattr(self, name, call)  # next time it is found at once
        return call
