"""``TTS``: one loaded model, and every way to speak with it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from mynah import hub
from mynah.api.lexicons import LexiconLike
from mynah.api.loading import load_parts
from mynah.api.opened import OpenModel
from mynah.api.options import AsyncText, SpeakOptions, Text, VoiceLike
from mynah.api.requests import split_text
from mynah.api.voices import Encoders
from mynah.audio.io import AudioSource
from mynah.backends.timed import OnCall
from mynah.config import ModelConfig
from mynah.engine.cache import CacheStats
from mynah.engine.scheduler import Scheduler
from mynah.engine.stream import SpeechStream
from mynah.errors import DeadlineError, GenerationLimitError
from mynah.pipeline.model import SpeechModel
from mynah.pipeline.reading import TextReader
from mynah.pipeline.synthesizer import collect, join, synthesize
from mynah.pipeline.voice_store import VoiceStore
from mynah.ready import ready_model
from mynah.types import Audio, AudioChunk, Mode, Voice


class TTS:
    """A loaded model that speaks. One object serves any number of threads.

    Example:
        >>> from mynah import TTS
        >>> with TTS.load() as tts:
        ...     tts.synthesize("Hello there.").save("hello.wav")
    """

    def __init__(
        self,
        model: SpeechModel,
        voices: VoiceStore,
        encoders: Callable[[], Encoders] | None = None,
        cache: Path | None = None,
        *,
        lexicon: LexiconLike = None,
        on_call: OnCall | None = None,
    ) -> None:
        """Wrap a model that is already built; most people want ``TTS.load``.

        Args:
            model: what speaks.
            voices: where voices are found by name.
            encoders: gives the networks that make voices, when first needed; None = cannot.
            cache: folder that keeps voices made ready for it; None = none is kept.
            lexicon: pronunciations for everything that it says.
            on_call: as for ``load``, for all that is not inside ``model``.
        """
        self._opened = OpenModel(model, voices, encoders, lexicon, cache, on_call)

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] = hub.DEFAULT_MODEL,
        *,
        device: str = "cpu",
        backend: str = "auto",
        threads: int | None = None,
        left_chunks: int | None = None,
        quality: str = "exact",
        lexicon: LexiconLike = None,
        download: bool = True,
        on_call: OnCall | None = None,
    ) -> Self:
        """Load a model.

        Args:
            model: a name, see ``mynah models list``, or the path of a model folder. An official
                release is converted, and downloaded (``mynah pull``), when it is first used.
            device: ``cpu``; with the torch backend also ``cuda`` or ``auto``.
            backend: ``native`` (own kernels, and ONNX Runtime for what they cannot run), ``onnx``,
                ``torch``, or ``auto``: native where it can.
            threads: for one network call; None = up to four, one for small models.
            left_chunks: seconds of speech that the flow looks back; None = all. A bound caps the
                memory of very long utterances.
            quality: ``exact``, ``balanced`` or ``fast``: fewer steps of the flow, see
                docs/performance.md for what that costs.
            lexicon: pronunciations for everything that it says: a ``UserLexicon``, a dictionary,
                or the path of a lexicon file (docs/guides/text.md).
            download: False = never use the network. So do the variables ``MYNAH_OFFLINE=1`` and
                ``HF_HUB_OFFLINE=1``.
            on_call: called with each stage that was worked on, and for how many seconds, by the
                thread that did it; stages are those of ``mynah.backends.timed.OnCall``.

        Raises:
            ModelNotFoundError: if there is no such model.
            ModelDownloadError, OfflineError: if it must be downloaded and that is impossible.
            ModelFormatError: if a file of it is missing or damaged.
            BackendUnavailableError: if the backend or device is missing.
            InvalidRequestError: for an unknown backend, a number out of range, or a wrong
                lexicon.
        """
        folder = ready_model(model, download=download)
        parts = load_parts(
            folder,
            device=device,
            backend=backend,
            threads=threads,
            left_chunks=left_chunks,
            quality=quality,
            on_call=on_call,
        )
        return cls(*parts, lexicon=lexicon, on_call=on_call)

    @property
    def config(self) -> ModelConfig:
        """Configuration of the model."""
        return self._opened.config

    @property
    def sample_rate(self) -> int:
        """Samples per second of everything this model says."""
        return self._opened.config.sample_rate

    @property
    def engine(self) -> Scheduler:
        """What runs this model's streams: its limits and figures are for servers."""
        return self._opened.engine

    @property
    def prepared_voices(self) -> CacheStats:
        """How often a request found its voice ready for use: a figure for servers."""
        return self._opened.prepared.stats()

    @property
    def reader(self) -> TextReader:
        """The text side of this model: tells how a text would be read."""
        return self._opened.model.reader

    @property
    def voices(self) -> VoiceStore:
        """Voices that can be used by name: the model's and the user's."""
        return self._opened.voices.store

    def synthesize(
        self,
        text: Text,
        voice: VoiceLike = None,
        *,
        mode: Mode | None = None,
        instruction: str | None = None,
        emotion: str | None = None,
        dialect: str | None = None,
        style: str | None = None,
        language: str | None = None,
        speed: float = 1.0,
        seed: int | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        normalize: bool = True,
        split: bool = True,
        lexicon: LexiconLike = None,
        timeout_s: float | None = None,
    ) -> Audio:
        """Speak a text of up to a million characters.

        Args:
            text: what to say, or pieces of it: any iterable of strings, cut anywhere.
            voice: a voice, its name, or the path of a voice file or a recording.
            mode: ``sft`` (the speaker vector only), ``zero_shot`` (goes on with the recording and
                its transcript), ``cross_lingual`` (the recording without its words) or
                ``instruct``; None = the most that is possible, ``instruct`` if one is given.
            instruction: how to say it, in words; only some models can.
            emotion: a name from the model's catalogue, instead of an instruction in words.
            dialect: likewise.
            style: likewise.
            language: BCP 47 code; None = found from the text.
            speed: 0.25 (slow) to 4 (fast).
            seed: of the random choices; the same seed gives the same samples. None = any; the one
                that was used is in ``Audio.seed``.
            top_p: share of probability kept when a token is drawn; None = the model's setting.
            top_k: number of tokens kept when a token is drawn; None = the model's setting.
            normalize: whether numbers, dates and symbols are written out in words first.
            split: whether a long text is cut into utterances; if not, it is spoken in one go.
                Text in pieces is always cut.
            lexicon: pronunciations, which count before those of the voice and of ``TTS.load``.
            timeout_s: seconds after which it is given up.

        Raises:
            InvalidRequestError: if the request cannot be served; its kinds tell why.
            GenerationLimitError: if speech did not end by itself; ``audio`` holds what was made.
            DeadlineError: if it was not finished in time; ``audio`` holds what was made.
            GenerationError: if the model produced something unusable.
            BackendError: if a network cannot be run.
        """
        options = SpeakOptions(
            mode=mode,
            instruction=instruction,
            emotion=emotion,
            dialect=dialect,
            style=style,
            language=language,
            speed=speed,
            seed=seed,
            top_p=top_p,
            top_k=top_k,
            normalize=normalize,
            split=split,
            lexicon=lexicon,
            timeout_s=timeout_s,
        )
        return self._synthesize(text, voice, options)

    def stream(
        self,
        text: Text,
        voice: VoiceLike = None,
        *,
        whole: bool = False,
        in_time: bool = True,
        **options: Unpack[SpeakOptions],
    ) -> SpeechStream:
        """Speak a text and hand the audio out while it is made; see ``synthesize``.

        ``in_time`` = False lets listeners of other streams go first.

        The chunks join to exactly what ``synthesize`` returns, but for CosyVoice 1, whose networks
        are not causal: with ``whole`` they do so there, too, and come one utterance at a time.
        What is wrong with the request is raised here, what goes wrong later while iterating: after
        all chunks that were made.
        """
        words, pieces = split_text(text)
        request = self._opened.speech(words, voice, options, whole=whole)
        return self._opened.stream(request, pieces, in_time=in_time)

    def open_stream(
        self, voice: VoiceLike = None, *, in_time: bool = True, **options: Unpack[SpeakOptions]
    ) -> SpeechStream:
        """Begin to speak a text that is fed by hand: ``feed``, ``flush`` and ``end_text``."""
        return self._opened.stream(self._opened.speech(None, voice, options), in_time=in_time)

    def check(self, text: str, voice: VoiceLike = None, **options: Unpack[SpeakOptions]) -> None:
        """Raise what is wrong with a request, as ``stream`` would, without starting it."""
        self._opened.speech(text, voice, options)

    async def asynthesize(
        self, text: AsyncText, voice: VoiceLike = None, **options: Unpack[SpeakOptions]
    ) -> Audio:
        """Speak a text without blocking the event loop; see ``synthesize``."""
        chunks: list[AudioChunk] = []
        try:
            async for chunk in self.astream(text, voice, whole=True, **options):
                chunks.append(chunk)
        except (GenerationLimitError, DeadlineError) as error:
            if chunks:
                error.audio = join(chunks)
            raise
        return join(chunks)

    async def astream(
        self,
        text: AsyncText,
        voice: VoiceLike = None,
        *,
        whole: bool = False,
        in_time: bool = True,
        **options: Unpack[SpeakOptions],
    ) -> AsyncIterator[AudioChunk]:
        """Yield the audio while it is made, without blocking the event loop; see ``stream``."""
        later = text if isinstance(text, AsyncIterable) else None
        words, pieces = (None, None) if isinstance(text, AsyncIterable) else split_text(text)
        request = await asyncio.to_thread(self._opened.speech, words, voice, options, whole=whole)
        stream = self._opened.stream(request, pieces, in_time=in_time)
        puller = None if later is None else asyncio.create_task(stream.pull(later))
        try:
            async for chunk in stream:
                yield chunk
        finally:
            await stream.aclose()
            if puller is not None:
                puller.cancel()
                with suppress(asyncio.CancelledError):
                    await puller

    def convert(
        self,
        audio: Audio | AudioSource,
        voice: VoiceLike = None,
        *,
        speed: float = 1.0,
        seed: int | None = None,
    ) -> Audio:
        """Say a recording again with another voice: words, timing and melody stay.

        Args:
            audio: 0.3 s of speech or more, as for ``create_voice``; cut at quiet places if long.
            voice: a voice, its name, or the path of a voice file or a recording.
            speed: 0.25 (slow) to 4 (fast).
            seed: of the noise; None = any.

        Raises:
            PromptAudioError: if the recording cannot be read or is too short.
            UnsupportedFeatureError: if this model cannot read recordings.
            GenerationError: if the model produced something unusable.
            BackendError: if a network cannot be run.
        """
        request = self._opened.conversion(audio, voice, speed=speed, seed=seed, whole=True)
        return synthesize(request.session)

    def stream_convert(
        self,
        audio: Audio | AudioSource,
        voice: VoiceLike = None,
        *,
        speed: float = 1.0,
        seed: int | None = None,
        whole: bool = False,
    ) -> SpeechStream:
        """Convert a recording and hand the audio out while it is made; see ``convert``."""
        return self._opened.stream(
            self._opened.conversion(audio, voice, speed=speed, seed=seed, whole=whole)
        )

    def create_voice(
        self,
        audio: Audio | AudioSource,
        transcript: str = "",
        *,
        name: str = "voice",
        language: str = "",
        licence: str = "",
        consent: str = "",
        keep_recording: bool = True,
    ) -> Voice:
        """Make a voice from a recording; ``voices.add`` keeps it.

        Args:
            audio: 1 to 30 s of one person, at 16 kHz or more: a path, the bytes of a file, an
                open file, or samples.
            transcript: the words that are said, if known.
            name: letters, digits, ``_`` and ``-``.
            language: BCP 47 code of the recording.
            licence: under which the recording may be used.
            consent: note on the speaker's consent.
            keep_recording: whether the voice carries it, so that other models can use it, too.

        Raises:
            PromptAudioError: if the recording cannot be read or is unsuitable.
            InvalidRequestError: if the name or language is none.
            UnsupportedFeatureError: if this model cannot make voices.
        """
        self._opened.check()
        return self._opened.voices.create(
            audio,
            transcript,
            name=name,
            language=language,
            licence=licence,
            consent=consent,
            keep_recording=keep_recording,
        )

    def close(self) -> None:
        """Stop all streams and let go of the model. Harmless to repeat."""
        self._opened.close()

    def __enter__(self) -> Self:
        """Return the object itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _synthesize(self, text: Text, voice: VoiceLike, options: SpeakOptions) -> Audio:
        words, pieces = split_text(text)
        request = self._opened.speech(words, voice, options, whole=True)
        deadline, engine = request.deadline, self._opened.engine
        if deadline is not None and pieces is not None:
            # only a thread of its own can leave a source that hangs
            with self._opened.stream(request, pieces, in_time=False) as stream:
                return collect(stream)

        def check() -> None:
            if deadline is not None and deadline.has_passed(engine.now()):
                raise deadline.error()

        with engine.beside(request.session):
            return synthesize(request.session, pieces, check)
