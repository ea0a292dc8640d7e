"""A loaded model with its voices, lexicons and engine: checks requests and starts them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mynah.api.lexicons import LexiconFinder, LexiconLike
from mynah.api.options import SpeakOptions, VoiceLike
from mynah.api.prepared import PreparedVoices
from mynah.api.requests import open_conversion, open_session
from mynah.api.voices import Encoders, VoiceFinder
from mynah.audio.io import AudioSource
from mynah.backends.timed import OnCall
from mynah.engine.deadline import Deadline
from mynah.engine.scheduler import Scheduler
from mynah.engine.stream import SpeechStream
from mynah.errors import InvalidRequestError
from mynah.pipeline.conversion import Conversion
from mynah.pipeline.model import SpeechModel
from mynah.pipeline.rendering import advance_many
from mynah.pipeline.session import Session
from mynah.pipeline.synthesizer import Speaking
from mynah.pipeline.voice_store import VoiceStore
from mynah.types import Audio

_MAX_BATCH = 8  # sessions that share one call of the language model
_MAX_WIDE_BATCH = 64  # the same, on a device where more rows take hardly longer


@dataclass(frozen=True)
class Request:
    """A request that was checked and not started."""

    session: Speaking
    deadline: Deadline | None = None


class OpenModel:
    """What ``TTS`` is made of. Safe to share between threads."""

    def __init__(
        self,
        model: SpeechModel,
        voices: VoiceStore,
        encoders: Callable[[], Encoders] | None,
        lexicon: LexiconLike,
        cache: Path | None = None,
        on_call: OnCall | None = None,
    ) -> None:
        """Start no thread yet; see ``TTS`` for the arguments.

        ``cache`` is a folder for voices made ready, for this model as it is loaded.
        """
        self._lexicons = LexiconFinder()
        self._model: SpeechModel | None = model.with_lexicon(self._lexicons.find(lexicon))
        self.prepared = PreparedVoices(cache, on_call)
        self.config = model.config
        self.voices = VoiceFinder(model.config, voices, encoders, on_call)
        most = _MAX_WIDE_BATCH if model.backend.batches_rendering else _MAX_BATCH
        self.engine = Scheduler(
            model.lm,
            workers=model.backend.parallel_calls,
            # several workers are for small networks, whose calls gain nothing from being shared
            max_batch=1 if model.backend.parallel_calls > 1 else most,
            render=partial(advance_many, model) if model.backend.batches_rendering else None,
        )

    @property
    def model(self) -> SpeechModel:
        """The model, with the project's lexicon.

        Raises:
            InvalidRequestError: after ``close``.
        """
        if self._model is None:
            raise InvalidRequestError("this TTS is closed", hint="load the model again")
        return self._model

    def check(self) -> None:
        """Refuse what comes after ``close``.

        Raises:
            InvalidRequestError: see ``model``.
        """
        _ = self.model

    def speech(
        self, text: str | None, voice: VoiceLike, options: SpeakOptions, *, whole: bool = False
    ) -> Request:
        """Check everything; nothing is computed yet but a voice from a new recording.

        Raises:
            InvalidRequestError: if the request cannot be served; its kinds tell why.
        """
        deadline = Deadline.after(options.get("timeout_s"), self.engine.now)
        self.check()
        found = self.voices.find(voice)
        lexicon = self._lexicons.find(self.voices.lexicon_path(voice, found))
        lexicon |= self._lexicons.find(options.get("lexicon"))
        session: Session = open_session(
            self.model.with_lexicon(lexicon),
            text,
            found,
            self.prepared,
            whole=whole,
            options=options,
        )
        return Request(session, deadline)

    def conversion(
        self,
        audio: Audio | AudioSource,
        voice: VoiceLike,
        *,
        speed: float,
        seed: int | None,
        whole: bool,
    ) -> Request:
        """Read and check a recording; nothing is computed yet.

        Raises:
            PromptAudioError: if the recording cannot be read or is too short.
            InvalidRequestError: if the request cannot be served.
        """
        conversion: Conversion = open_conversion(
            self.model,
            audio,
            self.voices.find(voice),
            self.prepared,
            self.voices.tokenizer,
            speed=speed,
            seed=seed,
            whole=whole,
        )
        return Request(conversion)

    def stream(
        self, request: Request, text: Iterable[str] | None = None, *, in_time: bool = True
    ) -> SpeechStream:
        """Start a request; ``text`` are the pieces of its text, if an iterable has them.

        Raises:
            OverloadedError: if the engine has limits and cannot serve it in time.
        """
        return SpeechStream(
            request.session, self.engine, text=text, in_time=in_time, deadline=request.deadline
        )

    def close(self) -> None:
        """Stop all streams and let go of the model. Harmless to repeat."""
        self._model = None
        self.engine.close()
        self.prepared.clear()
        self.voices.clear()
