"""One owner of a model's time: every session of it is advanced here, by a few workers.

The session whose listener runs dry first goes first. Sessions that need a speech token make it
together, in one call of the language model, and audio likewise where the backend gains by that.
Nobody polls: workers sleep until a session can go on
or has to end, and end themselves when there is none.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from mynah.engine.admission import Admission, Limits
from mynah.engine.beside import Beside
from mynah.engine.task import Outcome, Place, Task
from mynah.engine.together import Render, is_rendering, lm_state, make_audio, make_tokens, typed
from mynah.errors import CancelledError, SynthesisError
from mynah.pipeline.speech_lm import SpeechLMStage
from mynah.pipeline.synthesizer import Speaking

_EXIT_S = 10.0
_RESERVE_S = 1.0
"""Audio ahead of a listener who can spare the machine for somebody who has heard nothing yet."""


@dataclass(frozen=True)
class _Batch:
    """Tasks, and the step that they make together."""

    tasks: list[Task]
    step: Callable[[Sequence[Task]], None]


@dataclass(frozen=True)
class Stats:
    """What a scheduler does now and did so far."""

    listeners: int
    others: int
    ready: int
    """Tasks that could go on but have no worker."""
    capacity: int
    """Listeners that can be served at once, as measured."""
    cost: float | None
    """Worker seconds for a second of audio."""
    num_refused: int
    busy_s: float
    audio_s: float
    num_tokens: int
    batches: dict[int, int] = field(default_factory=dict)
    """How often so many sessions shared a call of the language model."""
    render_batches: dict[int, int] = field(default_factory=dict)
    """How often so many sessions turned tokens into audio together; empty where none do."""


class Scheduler:
    """Serves the sessions of one model."""

    def __init__(
        self,
        lm: SpeechLMStage,
        *,
        workers: int = 1,
        max_batch: int = 8,
        render: Render | None = None,
        max_render_batch: int = 16,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start no thread yet.

        Args:
            lm: makes the speech tokens of all sessions.
            workers: threads that call networks at the same time.
            max_batch: sessions that may share one call of the language model.
            render: makes the audio of sessions together; None = each makes its own.
            max_render_batch: sessions that may do so at once.
            limits: of admission; None = everything is taken on, as a library should.
            clock: gives seconds.
        """
        self.on_outcome: Callable[[Outcome], None] | None = None
        """Told about every request that ended, by the worker that ended it."""
        self._lm = lm
        self._num_workers = workers
        self._max_batch = max_batch
        self._render, self._max_render_batch = render, max_render_batch
        self._admission = Admission(limits or Limits(), workers)
        self._is_limited = limits is not None
        self._clock = clock
        self._changed = threading.Condition()
        self._tasks: list[Task] = []
        self._workers: set[threading.Thread] = set()
        self._is_closed = False
        self._num_others = 0  # sessions that are not tasks
        self._busy_s = self._audio_s = 0.0
        self._num_tokens = 0
        self._batches: Counter[int] = Counter()
        self._render_batches: Counter[int] = Counter()

    @property
    def limits(self) -> Limits | None:
        """Of admission; None = everything is taken on."""
        return self._admission.limits if self._is_limited else None

    @limits.setter
    def limits(self, limits: Limits | None) -> None:
        with self._changed:
            self._admission.limits = limits or Limits()
            self._is_limited = limits is not None

    def now(self) -> float:
        """Seconds on the scheduler's clock."""
        return self._clock()

    @contextmanager
    def beside(self, session: Speaking) -> Iterator[None]:
        """While a session is advanced by somebody else: it shares the machine with the tasks.

        It works ahead as long as nobody else could use a processor.
        """
        session.spare_s = lambda: math.inf if self._num_active() == 1 else 0.0
        with self._changed:
            self._num_others += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_others -= 1

    def check(self, *, in_time: bool) -> None:
        """Refuse, before anything is computed, what ``submit`` would refuse.

        Raises:
            OverloadedError: see ``submit``.
        """
        with self._changed:
            self._check(in_time=in_time)

    def submit(self, task: Task) -> None:
        """Take a session on; from now on only the workers advance it.

        Raises:
            OverloadedError: if it could not be served in time.
            CancelledError: if the scheduler was closed.
        """
        with self._changed:
            if self._is_closed:
                raise CancelledError("the model is closed")
            self._check(in_time=task.in_time)
            self._tasks.append(task)
            task.session.on_change = task.line.on_change = lambda: self._wake(task)
            task.channel.on_take = lambda: self._wake(task)
            if len(self._workers) < min(self._num_workers, len(self._tasks)):
                self._start_worker()
            self._changed.notify()

    def stats(self) -> Stats:
        """A snapshot."""
        with self._changed:
            listeners = sum(task.in_time for task in self._tasks)
            return Stats(
                listeners=listeners,
                others=len(self._tasks) - listeners,
                ready=sum(task.place is Place.READY for task in self._tasks),
                capacity=self._admission.capacity,
                cost=self._admission.cost,
                num_refused=self._admission.num_refused,
                busy_s=self._busy_s,
                audio_s=self._audio_s,
                num_tokens=self._num_tokens,
                batches=dict(self._batches),
                render_batches=dict(self._render_batches),
            )

    def close(self) -> None:
        """Cancel all sessions and wait for the workers: one step each. Harmless to repeat."""
        with self._changed:
            self._is_closed = True
            tasks, workers = list(self._tasks), list(self._workers)
        for task in tasks:
            task.session.cancel()
            task.channel.close()
        for worker in workers:
            if worker is not threading.current_thread():
                worker.join(_EXIT_S)

    def _check(self, *, in_time: bool) -> None:
        if not self._is_limited:
            return
        listeners = [task for task in self._tasks if task.in_time]
        now = self._clock()
        ends = [_expected_end(task) - now for task in listeners]
        self._admission.check(
            len(listeners),
            len(self._tasks) - len(listeners),
            in_time=in_time,
            soonest_end_s=min(ends, default=0.0),
        )

    def _start_worker(self) -> None:
        worker = threading.Thread(target=self._work, name="mynah-engine", daemon=True)
        self._workers.add(worker)
        worker.start()

    def _wake(self, task: Task) -> None:
        """Let a task go on that waited for its listener, its text or its end."""
        with self._changed:
            if task.place in (Place.FULL, Place.NEEDS_TEXT):
                task.place = Place.READY
                self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                late, batch = self._take_late(), self._choose()
                while not (late or batch):
                    if not self._tasks:
                        self._workers.discard(threading.current_thread())
                        return
                    self._changed.wait(self._next_deadline())
                    late, batch = self._take_late(), self._choose()
                more = any(task.place is Place.READY for task in self._tasks)
                if more and len(self._workers) < self._num_workers:
                    self._start_worker()
            for task in late:
                self._end(task, self._clock())
            if batch:
                self._run(batch)

    def _take_late(self) -> list[Task]:
        """Take the tasks out whose deadline has passed, wherever they wait."""
        now = self._clock()
        late = [task for task in self._tasks if task.place is not Place.RUNNING]
        late = [task for task in late if task.is_late(now)]
        for task in late:
            assert task.deadline is not None  # is_late asked
            task.error = task.deadline.error()
            self._retire(task)
        return late

    def _next_deadline(self) -> float | None:
        """Seconds until one of those that wait is late, or has no reserve to spare any more.

        None = there is none.
        """
        ends = [
            task.deadline.at
            for task in self._tasks
            if task.deadline is not None and task.place is not Place.RUNNING
        ]
        ends += [
            task.dry_at - _RESERVE_S
            for task in self._tasks
            if task.in_time and task.place is Place.READY
        ]
        return min(max(min(ends) - self._clock(), 0.0), threading.TIMEOUT_MAX) if ends else None

    def _retire(self, task: Task) -> None:
        """Take a task that is over out of the list, and learn from it."""
        task.place = Place.OVER
        self._tasks.remove(task)
        self._admission.measure(task.busy_s, task.audio_s)
        self._audio_s += task.audio_s

    def _choose(self) -> _Batch | None:
        """Take the most urgent task, and those that are ready to make its next step with it.

        Nobody is waited for: who comes too late shares the next call.
        """
        ready = sorted(
            (task for task in self._tasks if task.place is Place.READY),
            key=lambda task: (task.dry_at, task.arrived),
        )
        if self._num_workers > 1:  # one worker does first things first anyway
            ready = self._sparing(ready)
        if not ready:
            return None
        chosen, step = ready[:1], self._advance
        if self._max_batch > 1 and lm_state(ready[0]) is not None:
            together = [task for task in ready if lm_state(task) is not None]
            if len(together) > 1:  # one alone may work ahead
                chosen, step = together[: self._max_batch], self._make_tokens
        elif self._render is not None and is_rendering(ready[0]):
            together = [task for task in ready if is_rendering(task)]
            chosen, step = together[: self._max_render_batch], self._make_audio
        for task in chosen:
            task.place = Place.RUNNING
        return _Batch(chosen, step)

    def _sparing(self, ready: list[Task]) -> list[Task]:
        """Leave out who has enough in reserve, while a listener is about to get first audio.

        Calls of networks side by side slow each other down. Whoever is left out is looked at
        again after the next step, and the listener makes one, so nobody waits for ever.
        """
        places = (Place.READY, Place.RUNNING)
        if not any(task.has_heard_nothing and task.place in places for task in self._tasks):
            return ready
        soon = self._clock() + _RESERVE_S
        return [task for task in ready if task.dry_at <= soon or task.session.is_cancelled]

    def _run(self, batch: _Batch) -> None:
        """Advance tasks by one step; nobody else touches them meanwhile."""
        started = self._clock()
        batch.step(batch.tasks)
        now = self._clock()
        ended: list[Task] = []
        with self._changed:
            self._busy_s += now - started
            for task in batch.tasks:
                task.busy_s += (now - started) / len(batch.tasks)
                task.place = _place(task)
                if task.place is Place.OVER:
                    self._retire(task)
                    ended.append(task)
            self._changed.notify_all()
        for task in ended:
            self._end(task, now)

    def _advance(self, tasks: Sequence[Task]) -> None:
        """One step of one session, whatever it is."""
        (task,) = tasks
        session = task.session
        made = session.num_tokens
        beside = Beside(task, self._clock, lambda: self._num_active() == 1)
        session.spare_s = beside.spare_s
        try:
            if session.needs_text and not task.line.supply(session):
                return
            chunk = session.advance()
        except BaseException as error:  # noqa: BLE001 - raised again by the listener
            task.error = typed(error)
            return
        if session.num_tokens > made:
            self._count(1, session.num_tokens - made)
        if self._num_workers > 1:  # a second worker's processor was in use
            task.busy_s += beside.shared_s
        if chunk is not None:
            beside.learn(chunk.audio.duration_s)
            task.hand_over(chunk, self._clock())

    def _make_tokens(self, tasks: Sequence[Task]) -> None:
        if made := make_tokens(self._lm, tasks):
            self._count(made)

    def _make_audio(self, tasks: Sequence[Task]) -> None:
        assert self._render is not None  # _choose asked
        if made := make_audio(self._render, tasks, self._clock):
            with self._changed:
                self._render_batches[made] += 1

    def _num_active(self) -> int:
        """Sessions that could use a processor now."""
        places = [task.place for task in tuple(self._tasks)]
        active = places.count(Place.READY) + places.count(Place.RUNNING)
        return active + self._num_others

    def _count(self, batch: int, calls: int = 1) -> None:
        with self._changed:
            self._batches[batch] += calls
            self._num_tokens += batch * calls

    def _end(self, task: Task, now: float) -> None:
        """Let go of a session and tell its listener."""
        task.session.on_change = task.line.on_change = task.channel.on_take = None
        with suppress(SynthesisError):
            task.session.close()
        task.line.close()
        if self.on_outcome is not None:  # first: who heard the end may ask for the figures
            self.on_outcome(task.outcome(now))
        task.channel.finish(task.error)
        task.over.set()


def _place(task: Task) -> Place:
    """Where a task stands after its step."""
    session = task.session
    if task.error is not None or session.is_over or task.channel.is_closed:
        return Place.OVER
    if session.is_cancelled:
        return Place.READY  # its next step ends it
    if task.channel.is_full:
        return Place.FULL
    if session.needs_text and not task.line.has_more:
        return Place.NEEDS_TEXT
    return Place.READY


def _expected_end(task: Task) -> float:
    """When a listener is expected to be done, from what was spoken so far."""
    done = task.session.progress
    if done <= 0.0 or task.first_audio is None:
        return task.dry_at
    return task.first_audio + task.audio_s / done
