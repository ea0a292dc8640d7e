"""One session among others in a scheduler, and what is known about its time."""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass, field

from mynah.engine.channel import Channel
from mynah.engine.deadline import Deadline
from mynah.engine.text import TextLine
from mynah.errors import CancelledError
from mynah.pipeline.synthesizer import Speaking
from mynah.types import AudioChunk

FIRST_AUDIO_GOAL_S = 0.2
"""When a listener who has heard nothing yet is treated as running dry, after the request."""


class Place(enum.Enum):
    """Where a task stands."""

    READY = "ready"
    RUNNING = "running"
    NEEDS_TEXT = "needs text"
    FULL = "full"
    """Enough was made ahead of the listener."""
    OVER = "over"


@dataclass(frozen=True)
class Outcome:
    """How a request ended, for logs and metrics. It holds no text."""

    status: str
    """``finished``, ``failed`` or ``cancelled``."""
    error_code: str
    """Of the error that ended it; "" = none."""
    total_s: float
    first_audio_s: float | None
    audio_s: float
    underrun_s: float
    num_tokens: int


@dataclass(eq=False)
class Task:
    """A session being spoken; changed only under the scheduler's lock, or by its worker."""

    session: Speaking
    channel: Channel[AudioChunk]
    line: TextLine
    in_time: bool
    """Whether somebody listens while it is made; others take what time is left."""
    arrived: float
    """On the scheduler's clock, in seconds."""
    deadline: Deadline | None = None
    place: Place = Place.READY
    first_audio: float | None = None
    """When the first samples were handed over."""
    handed_at: float | None = None
    """When the latest samples were."""
    audio_s: float = 0.0
    busy_s: float = 0.0
    """Time that workers spent on it."""
    render_s: float | None = None
    """How long it takes to turn a chunk of tokens into audio with nothing beside it."""
    falls_behind: bool = False
    """Whether a chunk took longer to make than to hear, with nothing beside it."""
    underrun_s: float = 0.0
    """Silence that a listener heard who plays from the first chunk on."""
    error: BaseException | None = None
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def dry_at(self) -> float:
        """When the listener runs out of audio; the earliest is served first."""
        if not self.in_time:
            return float("inf")
        if self.first_audio is None:
            return self.arrived + FIRST_AUDIO_GOAL_S
        return self.first_audio + self.underrun_s + self.audio_s

    @property
    def has_heard_nothing(self) -> bool:
        """Whether somebody waits for its first audio."""
        return self.in_time and self.first_audio is None

    def is_late(self, now: float) -> bool:
        """Whether its time is over; a cancelled one ends by itself."""
        return (
            self.deadline is not None
            and self.deadline.has_passed(now)
            and not self.session.is_cancelled
        )

    def hand_over(self, chunk: AudioChunk, now: float) -> None:
        """Give a chunk to the listener."""
        self.channel.offer(chunk)
        if not len(chunk.audio):
            return
        self.handed_at = now
        if self.first_audio is None:
            self.first_audio = now
        self.underrun_s += max(now - self.dry_at, 0.0)
        self.audio_s += chunk.audio.duration_s

    def outcome(self, now: float) -> Outcome:
        """How it ended."""
        cancelled = isinstance(self.error, CancelledError) or (
            self.error is None and self.session.progress != 1.0
        )
        status = "cancelled" if cancelled else "failed" if self.error else "finished"
        return Outcome(
            status=status,
            error_code=getattr(self.error, "code", type(self.error).__name__) if self.error else "",
            total_s=now - self.arrived,
            first_audio_s=None if self.first_audio is None else self.first_audio - self.arrived,
            audio_s=self.audio_s,
            underrun_s=self.underrun_s,
            num_tokens=self.session.num_tokens,
        )
