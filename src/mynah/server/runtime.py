"""What all requests of one server share: loaded models, running speeches, worker threads."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from mynah.api import TTS
from mynah.engine.cache import Cache
from mynah.errors import OverloadedError, SynthesisError
from mynah.server.errors import DrainingError, Problem, problem_of
from mynah.server.models import Models
from mynah.server.security import Doorkeeper
from mynah.server.settings import ServerSettings
from mynah.types import Voice

T = TypeVar("T")

_log = logging.getLogger("mynah.server")
_CLIPS_KEPT = 16
_VOICE_THREADS = 2
_DRAIN_POLL_S = 0.05


@dataclass(frozen=True)
class SpeechRecord:
    """What is known of a speech when it is over; holds nothing that a user wrote."""

    protocol: str
    model: str
    outcome: str
    """``done``, ``cancelled``, or the code of an error."""
    characters: int
    first_audio_s: float | None
    """From the request, or the first text of one that is fed, to the first chunk; None = there
    was none."""
    total_s: float
    audio_s: float
    underruns: int
    """Chunks that came later than a listener needed them who plays from the first one."""
    underrun_s: float = 0.0
    """Silence that this listener heard in between."""
    in_time: bool = True
    """Whether somebody listened while it was made."""


@dataclass(frozen=True)
class RequestRecord:
    """What is known of an HTTP request or socket when it is over; nothing that a user wrote."""

    method: str
    route: str
    """Template of the path; ``-`` = there is no such route."""
    status: int
    code: str
    """Of the error that was answered; "" = none."""
    took_s: float


class Runtime:
    """One per server; routes find it in ``app.state.runtime``."""

    def __init__(
        self, settings: ServerSettings, *, loaded: Mapping[str, TTS] | None = None
    ) -> None:
        """Load nothing yet.

        Args:
            settings: of the operator.
            loaded: models that are there already, by name; they come before those of ``settings``.
        """
        self.settings = settings
        self.door = Doorkeeper(settings)
        self.listeners: list[Callable[[SpeechRecord], None]] = []
        """Called in the event loop when a speech is over, or was refused."""
        self.request_listeners: list[Callable[[RequestRecord], None]] = []
        """Called in the event loop when a request or socket is over."""
        self.stage_listeners: list[Callable[[str, str, float], None]] = []
        """Called by whatever thread worked on a stage: model, stage, seconds."""
        self.error_listeners: list[Callable[[Problem], None]] = []
        """Called in the event loop when a client is told of an error after its request began."""
        self.on_drain: list[Callable[[], None]] = []
        """Called in the event loop when the server is about to stop."""
        self.waiting_jobs: Callable[[], int] | None = None
        """Counts the jobs that have not ended; None = this server has no queue."""
        self.is_draining = False
        self.load_error: SynthesisError | None = None
        """Why the default model could not be loaded."""
        self.models = Models(settings, loaded or {}, self.report_call)
        self._loading: dict[str, asyncio.Future[TTS]] = {}
        self._active = 0
        self.clips: Cache[Voice] = Cache(_CLIPS_KEPT)
        """Voices of recordings that came with a request, by digest."""
        self._speaking = ThreadPoolExecutor(settings.max_sessions, "mynah-open")
        self._encoding = ThreadPoolExecutor(os.cpu_count() or 1, "mynah-encode")
        self._voices = ThreadPoolExecutor(_VOICE_THREADS, "mynah-voice")

    def model_names(self) -> list[str]:
        """Names of the models on offer, the default one first."""
        return self.models.names()

    @property
    def default_model(self) -> str:
        """Name of the model that speaks where a request names none.

        Raises:
            ModelNotFoundError: if there is no model at all.
        """
        return self.models.default()

    @property
    def is_ready(self) -> bool:
        """Whether the default model is loaded and new requests are taken."""
        return not self.is_draining and self.loaded(self.default_model) is not None

    @property
    def active(self) -> int:
        """Speeches that are running."""
        return self._active

    def loaded(self, name: str) -> TTS | None:
        """A model, if it is in memory."""
        return self.models.loaded(name)

    async def tts(self, name: str | None = None) -> TTS:
        """Return a model, loading it when it is first asked for; None = the default one.

        Raises:
            ModelNotFoundError: if it is not on offer.
            OverloadedError: if no further model may be loaded now.
            SynthesisError: if it cannot be loaded.
        """
        wanted = self.default_model if name is None else name
        if (found := self.models.ask(wanted)) is not None:
            return found
        self.models.check(wanted)
        loading = self._loading.get(wanted)
        if loading is None:  # everybody waits for one thread: the others are for uploads
            loading = asyncio.ensure_future(self.in_voice_thread(lambda: self.load(wanted)))
            self._loading[wanted] = loading
            loading.add_done_callback(lambda done: self._has_loaded(wanted, done))
        return await asyncio.shield(loading)

    def load(self, name: str | None = None) -> TTS:
        """Do the same as ``tts``, blocking."""
        return self.models.load(self.default_model if name is None else name)

    async def preload(self) -> None:
        """Load the default model; what goes wrong is kept in ``load_error``."""
        try:
            await self.tts()
        except SynthesisError as error:
            self.load_error = error
            _log.error("the default model cannot be loaded: %s", error)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Count a speech that runs, from before anything is done for it until it is over.

        Raises:
            DrainingError: if the server is about to stop.
            OverloadedError: if too many run already.
        """
        self.begin()
        try:
            yield
        finally:
            self.end()

    def begin(self) -> None:
        """Count a speech; see ``session``."""
        if self.is_draining:
            raise DrainingError(
                "the server is about to stop", hint="try again in a moment", retry_after_s=5.0
            )
        if self._active >= self.settings.max_sessions:
            raise OverloadedError(
                f"{self._active} requests are being spoken, no more are taken",
                hint="try again in a moment",
                retry_after_s=1.0,
            )
        self._active += 1

    def end(self) -> None:
        """Take a speech off the count."""
        self._active -= 1

    def report(self, record: SpeechRecord) -> None:
        """Tell everybody who listens that a speech is over."""
        for listener in self.listeners:
            listener(record)

    def report_request(self, record: RequestRecord) -> None:
        """Tell everybody who listens that a request or socket is over."""
        for listener in self.request_listeners:
            listener(record)

    def report_call(self, model: str, stage: str, seconds: float) -> None:
        """Tell everybody who listens how long a call of a stage took."""
        for listener in self.stage_listeners:
            listener(model, stage, seconds)

    def problem(self, error: BaseException) -> Problem:
        """Describe an error of a connection that goes on, or has its own way to tell it.

        Everybody who listens is told, too: no HTTP status will count it.
        """
        problem = problem_of(error)
        for listener in self.error_listeners:
            listener(problem)
        return problem

    async def drained(self, limit_s: float) -> bool:
        """Take no new speech and wait for those that run; False = some still do."""
        if not self.is_draining:
            self.is_draining = True
            for hook in self.on_drain:
                hook()
        try:
            async with asyncio.timeout(limit_s):
                while self._active:
                    await asyncio.sleep(_DRAIN_POLL_S)
        except TimeoutError:
            return False
        return True

    async def in_speaking_thread(self, work: Callable[[], T]) -> T:
        """Run what opens a speech; there is a thread for every session."""
        return await asyncio.get_running_loop().run_in_executor(self._speaking, work)

    async def in_encoding_thread(self, work: Callable[[], T]) -> T:
        """Run an audio encoder for a moment; there is a thread for every core."""
        return await asyncio.get_running_loop().run_in_executor(self._encoding, work)

    async def in_voice_thread(self, work: Callable[[], T]) -> T:
        """Run what takes seconds and is rare: loading models, decoding uploads, making voices."""
        return await asyncio.get_running_loop().run_in_executor(self._voices, work)

    def close(self) -> None:
        """Stop everything and let go of the models."""
        self.models.close()
        for pool in (self._speaking, self._encoding, self._voices):
            pool.shutdown(wait=False, cancel_futures=True)

    def _has_loaded(self, name: str, done: asyncio.Future[TTS]) -> None:
        del self._loading[name]
        if not done.cancelled():
            done.exception()  # those who waited were told; they may all have left
