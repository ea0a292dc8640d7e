"""The models of a server: those on offer, those in memory, and who speaks with them.

What is installed while the server runs is on offer at once. A model is loaded when it is first
asked for; so many stay in memory, and one that nobody uses makes room for the next.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from mynah import hub
from mynah.api import TTS
from mynah.engine.admission import Limits
from mynah.errors import ModelNotFoundError, OverloadedError, SynthesisError
from mynah.files import expand_user
from mynah.ready import known_model
from mynah.server.settings import ServerSettings

IDLE_S = 10.0
"""A model that was asked for less than that ago is not given up: somebody may be about to speak."""
_FULL_RETRY_S = 15.0
_WORDS = {"en": "One two three four five.", "zh": "一二三四五六七八。"}
_WARM_ROUNDS = 2
_SLOW_S = 0.5
"""A model that takes longer for the first words is not kept busy any further before it serves."""


class Models:
    """Safe to share between threads."""

    def __init__(
        self,
        settings: ServerSettings,
        loaded: Mapping[str, TTS],
        on_call: Callable[[str, str, float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load nothing yet.

        Args:
            settings: of the operator.
            loaded: models that are there already, by name; they come first.
            on_call: told about every call of a stage: model, stage, seconds.
            clock: gives seconds.
        """
        self._settings, self._on_call, self._clock = settings, on_call, clock
        self._given = tuple(loaded)
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._loaded: dict[str, TTS] = dict(loaded)
        self._asked_at = dict.fromkeys(loaded, clock())
        self._speeches: Counter[str] = Counter()

    def names(self) -> list[str]:
        """Names of the models on offer, the default one first."""
        found = [*self._given, *self._sources()]
        if not self._given and not self._settings.models and hub.DEFAULT_MODEL in found:
            found.insert(0, hub.DEFAULT_MODEL)
        return list(dict.fromkeys([*found, *self._loaded]))

    def default(self) -> str:
        """Name of the model that speaks where a request names none.

        Raises:
            ModelNotFoundError: if there is no model at all.
        """
        # asked for with every request: what is sure is not looked up on the disk
        if self._given:
            return self._given[0]
        if not self._settings.models and hub.DEFAULT_MODEL in self._loaded:
            return hub.DEFAULT_MODEL
        names = self.names()
        if not names:
            raise ModelNotFoundError(
                "no model is installed", hint="run `mynah pull`; no restart is needed"
            )
        return names[0]

    def loaded(self, name: str) -> TTS | None:
        """A model, if it is in memory."""
        return self._loaded.get(name)

    def ask(self, name: str) -> TTS | None:
        """The same, for somebody who is about to use it."""
        with self._lock:
            tts = self._loaded.get(name)
            if tts is not None:
                self._asked_at[name] = self._clock()
            return tts

    def check(self, name: str) -> None:
        """Refuse a name that is not on offer.

        Raises:
            ModelNotFoundError: with those that are, or how to install it.
        """
        if name not in self._loaded and name not in self.names():
            raise self._unknown(name)

    def load(self, name: str) -> TTS:
        """Return a model, loading it if need be; blocks meanwhile.

        Raises:
            ModelNotFoundError: if it is not on offer.
            OverloadedError: if as many as there may be are in memory, and all of them are in use.
            SynthesisError: if it cannot be loaded.
        """
        self.check(name)
        with self._loading:  # one at a time: whoever waits for the same one finds it there
            tts = self.ask(name)
            if tts is None:
                self._make_room()
                tts = self._load(name)
                with self._lock:
                    self._loaded[name] = tts
                    self._asked_at[name] = self._clock()
        return tts

    def hold(self, name: str) -> None:
        """Keep a model in memory for one speech more."""
        with self._lock:
            self._speeches[name] += 1

    def release(self, name: str) -> None:
        """Say that a speech is over."""
        with self._lock:
            self._speeches[name] -= 1
            self._asked_at[name] = self._clock()

    def close(self) -> None:
        """Let go of all."""
        for tts in list(self._loaded.values()):
            tts.close()

    def _sources(self) -> dict[str, str]:
        """Models that can be loaded: name -> what ``TTS.load`` takes."""
        if not self._settings.models:
            return {name: name for name in hub.model_names()}
        return {_name_of(model): model for model in self._settings.models}

    def _unknown(self, name: str) -> ModelNotFoundError:
        names = ", ".join(self.names())
        if not self._settings.models and (known := known_model(name)) is not None:
            return ModelNotFoundError(
                f"{name[:80]} is not installed here",
                hint=f"whoever runs the server can do `mynah pull {known[0].name}`, without a "
                f"restart; until then choose one of {names}",
            )
        return ModelNotFoundError(
            f"there is no model {name[:80]!r} here", hint=f"choose one of {names}"
        )

    def _make_room(self) -> None:
        """Give up the model that was not used for longest, if there are too many.

        Raises:
            OverloadedError: if all of them are in use.
        """
        with self._lock:
            most, now = self._settings.max_models, self._clock()
            if len(self._loaded) < most:
                return
            idle = [
                name
                for name, tts in self._loaded.items()
                if name != self.default()
                and not self._speeches[name]
                and now - self._asked_at[name] >= IDLE_S
                and not (tts.engine.stats().listeners or tts.engine.stats().others)
            ]
            if not idle:
                raise OverloadedError(
                    f"{len(self._loaded)} models are in memory and in use, the limit is {most}",
                    hint=f"try again in a moment, or use one of {', '.join(self._loaded)}",
                    retry_after_s=_FULL_RETRY_S,
                )
            oldest = min(idle, key=self._asked_at.__getitem__)
            given_up = self._loaded.pop(oldest)
            del self._asked_at[oldest]
        given_up.close()

    def _load(self, name: str) -> TTS:
        settings = self._settings
        tts = TTS.load(
            self._sources()[name],
            device=settings.device,
            backend=settings.backend,
            threads=settings.threads,
            left_chunks=settings.left_chunks,
            quality=settings.quality,
            lexicon=settings.lexicon,
            download=False,
            on_call=lambda stage, seconds: self._on_call(name, stage, seconds),
        )
        _warm_up(tts)
        tts.engine.limits = Limits(
            max_listeners=settings.max_listeners,
            max_others=settings.max_sessions,
            headroom=settings.headroom,
        )
        return tts


def _warm_up(tts: TTS) -> None:
    """Speak: allocates what the first request would wait for, and measures the machine.

    A second of audio costs more while all workers are busy than while one is: that is measured,
    since it is then that nobody more can be taken on.
    """
    words = _WORDS.get(tts.config.languages[0].split("-")[0], _WORDS["en"])
    workers = tts.engine.stats().capacity  # until something was measured
    began_at = time.monotonic()
    _speak_together(tts, words, 1)
    if workers > 1 and time.monotonic() - began_at < _SLOW_S:
        for _ in range(_WARM_ROUNDS):
            _speak_together(tts, words, workers)


def _speak_together(tts: TTS, words: str, count: int) -> None:
    with suppress(SynthesisError):
        streams = [tts.stream(words, seed=0) for _ in range(count)]
        for stream in streams:
            with stream:
                for _ in stream:
                    pass


def _name_of(model: str) -> str:
    """Name under which clients know a model that the operator gave by name or folder."""
    if set(model) & {"/", "\\"}:
        return Path(expand_user(model)).name
    return model
