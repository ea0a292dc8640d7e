"""What a native token encoder remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mynah.backends.native.kernels import AnyArray
from mynah.backends.native.segments import CacheLayout, SegmentedState, SegmentPool, restored

_KEEP_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Part:
    """States at one rate."""

    pool: SegmentPool
    frames: int
    """Frames of one position."""

    @classmethod
    def of(cls, layout: CacheLayout, frames: int) -> Part:
        """With memory of its own."""
        return cls(SegmentPool(layout, _KEEP_BYTES), frames)


class EncoderState:
    """A state at each rate, by name."""

    def __init__(self, parts: Mapping[str, Part], held: Mapping[str, SegmentedState]) -> None:
        self._parts, self._held = parts, held

    @classmethod
    def new(cls, parts: Mapping[str, Part]) -> EncoderState:
        """That has read nothing."""
        return cls(parts, {name: SegmentedState(part.pool, 1) for name, part in parts.items()})

    @classmethod
    def restored(cls, parts: Mapping[str, Part], arrays: Mapping[str, AnyArray]) -> EncoderState:
        """The state that ``arrays`` was called on; raises ModelFormatError as ``restored``."""
        held = {}
        for name, part in parts.items():
            start = f"{name}."
            own = {key.removeprefix(start): v for key, v in arrays.items() if key.startswith(start)}
            held[name] = restored(own, part.pool, 1)
        return cls(parts, held)

    def __getitem__(self, name: str) -> SegmentedState:
        return self._held[name]

    def fork(self) -> EncoderState:
        """A state that goes on alone; large parts are shared."""
        return type(self)(self._parts, {name: one.fork() for name, one in self._held.items()})

    def trim(self, keep_frames: int) -> None:
        """Forget all but the last ``keep_frames`` frames."""
        for name, one in self._held.items():
            one.trim(keep_frames // self._parts[name].frames)

    def arrays(self) -> dict[str, AnyArray]:
        """Everything by name, to be stored."""
        parts = self._held.items()
        return {f"{name}.{key}": v for name, one in parts for key, v in one.arrays().items()}

    def nbytes(self) -> int:
        """Memory of everything reachable from here, in bytes; forks count shared parts again."""
        return sum(one.nbytes() for one in self._held.values())
