"""How much time of a stream may go into what it needs later."""

from __future__ import annotations

from collections.abc import Callable

from mynah.engine.task import Task

_KEPT = 0.9
"""Share of a listener's reserve that is planned with."""


class Beside:
    """Decides for one step of one task. Work beside its audio shares the processors, so the audio
    comes later: only as much later as the listener has in reserve.
    """

    def __init__(
        self, task: Task, clock: Callable[[], float], is_alone: Callable[[], bool]
    ) -> None:
        """The step begins now; ``is_alone`` tells whether no other task waits for a processor."""
        self._task, self._clock, self._is_alone = task, clock, is_alone
        self._begin = self._last = clock()
        self._until = self._begin + _spare_s(task, self._begin)

    def spare_s(self) -> float:
        """Seconds that are left for other work; none while other tasks need a processor."""
        now = self._clock()
        if now >= self._until or not self._is_alone():
            return 0.0
        self._last = now
        return self._until - now

    @property
    def shared_s(self) -> float:
        """For how long other work went on beside the audio."""
        return self._last - self._begin

    def learn(self, duration_s: float) -> None:
        """Note how long the audio of this step takes alone: half of the shared time was its own.

        ``duration_s`` is its length.
        """
        task, now = self._task, self._clock()
        task.render_s = now - self._begin - self.shared_s / 2
        if task.handed_at is None or self.shared_s:
            return
        if now - task.handed_at > duration_s > task.dry_at - now:
            task.falls_behind = True


def _spare_s(task: Task, now: float) -> float:
    """For how long work may go on beside the audio, at half of the speed each.

    Then audio that takes ``a`` alone takes ``a + t / 2`` with ``t`` seconds shared.
    """
    if not task.in_time:
        return float("inf")
    if task.render_s is None:
        return 0.0
    if task.falls_behind:  # whatever comes first is late; least in all is lost at full speed
        return 2.0 * task.render_s
    return 2.0 * (_KEPT * (task.dry_at - now) - task.render_s)
