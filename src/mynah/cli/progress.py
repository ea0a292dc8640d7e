"""The progress line: audio made, real-time factor, time left. On a terminal only."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self


class Progress:
    """Shows how far a synthesis is, on standard error, if that is a terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        """Start the clock."""
        self.audio_s = 0.0
        self._started = time.perf_counter()
        self._bar: Any = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("speaking"),
                BarColumn(),
                TextColumn("{task.fields[facts]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("speaking", total=1.0, facts="")

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started

    @property
    def real_time_factor(self) -> float:
        """Time taken per time of audio; below 1 is faster than speech."""
        return self.elapsed_s / self.audio_s if self.audio_s else 0.0

    def update(self, duration_s: float, share: float) -> None:
        """Note ``duration_s`` more seconds of audio; ``share`` of the text is done, 0 to 1."""
        self.audio_s += duration_s
        if self._bar is None:
            return
        left = self.elapsed_s * (1 - share) / share if share > 0.02 else None
        facts = f"{self.audio_s:5.1f} s of audio, {self.real_time_factor:.2f} x real time"
        if left is not None:
            facts += f", {left:.0f} s left"
        self._bar.update(self._task, completed=share, facts=facts)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
