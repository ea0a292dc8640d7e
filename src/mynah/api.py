"""The class that people import: text in, speech out."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeAlias, TypedDict, Unpack

from mynah import hub
from mynah.audio.io import AudioSource, read_audio
from mynah.backends.base import SpeakerEncoder, SpeechTokenizer
from mynah.backends.registry import load_backend, load_encoders, load_noise
from mynah.config import ModelConfig
from mynah.engine.cache import Cache
from mynah.engine.stream import SpeechStream
from mynah.errors import GenerationLimitError, InvalidRequestError, UnsupportedFeatureError
from mynah.files import expand_user
from mynah.pipeline.model import (
    PreparedVoice,
    SpeechModel,
    build_model,
    check_voice,
    prepare_voice,
)
from mynah.pipeline.readers import build_reader
from mynah.pipeline.session import Session
from mynah.pipeline.synthesizer import join, synthesize
from mynah.pipeline.voice_store import VoiceStore
from mynah.pipeline.voices import VOICE_SUFFIX, VoiceEncoder, load_voice
from mynah.types import Audio, AudioChunk, SynthesisRequest, Voice

VoiceLike: TypeAlias = Voice | str | os.PathLike[str] | None
"""A voice, its name, the path of a voice file or of a recording; None = the model's own voice."""

Encoders: TypeAlias = tuple[SpeechTokenizer, SpeakerEncoder]

_VOICES_KEPT = 8


class SpeakOptions(TypedDict, total=False):
    """Keyword arguments of everything that speaks; see ``TTS.synthesize``."""

    language: str | None
    speed: float
    seed: int | None
    instruction: str | None
    top_p: float | None
    top_k: int | None


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
    ) -> None:
        """Wrap a model that is already built; most people want ``TTS.load``.

        Args:
            model: what speaks.
            voices: where voices are found by name.
            encoders: gives the networks that make voices, when first needed; None = cannot.
        """
        self._model: SpeechModel | None = model
        self._config = model.config
        self._voices = voices
        self._load_encoders = encoders
        self._prepared: Cache[PreparedVoice] = Cache(_VOICES_KEPT)
        self._clips: Cache[Voice] = Cache(_VOICES_KEPT)
        self._encoders: Cache[Encoders] = Cache(1)
        self._streams: weakref.WeakSet[SpeechStream] = weakref.WeakSet()
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] = hub.DEFAULT_MODEL,
        *,
        device: str = "cpu",
        backend: str = "onnx",
        threads: int | None = None,
        left_chunks: int | None = None,
    ) -> Self:
        """Load a model from this machine; nothing is downloaded.

        Args:
            model: a name, see ``mynah models list``, or the path of a model folder.
            device: ``cpu``; with the torch backend also ``cuda`` or ``auto``.
            backend: ``onnx`` or ``torch``.
            threads: for one network call; None = up to four.
            left_chunks: seconds of speech that the flow looks back; None = all. A bound caps the
                memory of very long utterances.

        Raises:
            ModelNotFoundError: if there is no such model.
            ModelFormatError: if a file of it is missing or damaged.
            BackendUnavailableError: if the backend or device is missing.
            InvalidRequestError: for an unknown backend, or a number out of range.
        """
        folder = hub.find_model(model)
        config = folder.config()
        networks = load_backend(
            folder.path, config, device=device, backend=backend, threads=threads
        )
        built = build_model(
            config,
            networks,
            build_reader(config, folder.path),
            noise=load_noise(folder.path),
            left_chunks=left_chunks,
        )
        store = VoiceStore.for_model(folder, config.model_id)
        return cls(built, store, lambda: load_encoders(folder.path, threads))

    @property
    def config(self) -> ModelConfig:
        """Configuration of the model."""
        return self._config

    @property
    def sample_rate(self) -> int:
        """Samples per second of everything this model says."""
        return self._config.sample_rate

    @property
    def voices(self) -> VoiceStore:
        """Voices that can be used by name: the model's and the user's."""
        return self._voices

    def synthesize(
        self,
        text: str,
        voice: VoiceLike = None,
        *,
        language: str | None = None,
        speed: float = 1.0,
        seed: int | None = None,
        instruction: str | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
    ) -> Audio:
        """Speak a text of up to a million characters.

        Args:
            text: what to say.
            voice: a voice, its name, or the path of a voice file or a recording.
            language: BCP 47 code; None = found from the text.
            speed: 0.25 (slow) to 4 (fast).
            seed: of the random choices; the same seed gives the same samples. None = any.
            instruction: how to say it; only some models can.
            top_p: share of probability kept when a token is drawn; None = the model's setting.
            top_k: number of tokens kept when a token is drawn; None = the model's setting.

        Raises:
            InvalidRequestError: if the request cannot be served; its kinds tell why.
            GenerationLimitError: if speech did not end by itself; ``audio`` holds what was made.
            GenerationError: if the model produced something unusable.
            BackendError: if a network cannot be run.
        """
        return synthesize(
            self._session(
                text,
                voice,
                language=language,
                speed=speed,
                seed=seed,
                instruction=instruction,
                top_p=top_p,
                top_k=top_k,
            )
        )

    def stream(
        self, text: str, voice: VoiceLike = None, **options: Unpack[SpeakOptions]
    ) -> SpeechStream:
        """Speak a text and hand the audio out while it is made; see ``synthesize``.

        The chunks join to exactly what ``synthesize`` returns. What is wrong with the request is
        raised here, what goes wrong later while iterating: after all chunks that were made.
        """
        return self._open(self._session(text, voice, **options))

    async def asynthesize(
        self, text: str, voice: VoiceLike = None, **options: Unpack[SpeakOptions]
    ) -> Audio:
        """Speak a text without blocking the event loop; see ``synthesize``."""
        session = await asyncio.to_thread(self._session, text, voice, **options)
        return await _collect(self._open(session))

    async def astream(
        self, text: str, voice: VoiceLike = None, **options: Unpack[SpeakOptions]
    ) -> AsyncIterator[AudioChunk]:
        """Yield the audio while it is made, without blocking the event loop; see ``stream``."""
        stream = self._open(await asyncio.to_thread(self._session, text, voice, **options))
        try:
            async for chunk in stream:
                yield chunk
        finally:
            await stream.aclose()

    def create_voice(
        self,
        audio: Audio | AudioSource,
        transcript: str = "",
        *,
        name: str = "voice",
        language: str = "",
        licence: str = "",
        consent: str = "",
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

        Raises:
            PromptAudioError: if the recording cannot be read or is unsuitable.
            InvalidRequestError: if the name or language is none.
            UnsupportedFeatureError: if this model cannot make voices.
        """
        source = "the recording"
        if isinstance(audio, str | os.PathLike):
            source = os.fspath(audio)
        if not isinstance(audio, Audio):
            audio = read_audio(audio)
        self._alive()
        tokenizer, speaker = self._encoders.get("encoders", self._required_encoders)
        return VoiceEncoder(tokenizer, speaker, self._config).encode(
            audio,
            name=name,
            transcript=transcript,
            language=language,
            licence=licence,
            consent=consent,
            source=source,
        )

    def close(self) -> None:
        """Stop all streams and let go of the model. Harmless to repeat."""
        with self._lock:
            self._model = None
            streams = list(self._streams)
        for stream in streams:
            stream.close()
        self._prepared.clear()
        self._clips.clear()
        self._encoders.clear()

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

    def _session(
        self,
        text: str,
        voice: VoiceLike,
        *,
        language: str | None = None,
        speed: float = 1.0,
        seed: int | None = None,
        instruction: str | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
    ) -> Session:
        """Check everything; nothing is computed yet but a voice from a new recording."""
        model = self._alive()
        chosen = self._resolve(voice)
        request = SynthesisRequest(
            text=text,
            voice=chosen,
            instruction=instruction,
            language=language,
            speed=speed,
            seed=secrets.randbits(31) if seed is None else seed,
            top_p=top_p,
            top_k=top_k,
        )
        check_voice(model, chosen)
        prepared = self._prepared

        def prepare() -> PreparedVoice:
            return prepared.get(_fingerprint(chosen), lambda: prepare_voice(model, chosen))

        return Session(model, request, prepare)

    def _open(self, session: Session) -> SpeechStream:
        stream = SpeechStream(session)
        with self._lock:
            self._streams.add(stream)
            is_closed = self._model is None
        if is_closed:  # in the meantime, by another thread
            stream.close()
        return stream

    def _alive(self) -> SpeechModel:
        model = self._model
        if model is None:
            raise InvalidRequestError("this TTS is closed", hint="load the model again")
        return model

    def _required_encoders(self) -> Encoders:
        if self._load_encoders is None:
            raise UnsupportedFeatureError(
                "this model cannot make voices from recordings", hint="use one of its voices"
            )
        return self._load_encoders()

    def _resolve(self, voice: VoiceLike) -> Voice:
        if isinstance(voice, Voice):
            return voice
        if voice is None:
            return self._voices.load(self._default_voice())
        if not isinstance(voice, str | os.PathLike):
            raise InvalidRequestError(
                f"voice is {type(voice).__name__}", hint="pass a Voice, a name, or a path"
            )
        text = os.fspath(voice)
        # Names hold neither separators nor dots.
        if isinstance(voice, str) and not set(text) & {"/", "\\", "."}:
            return self._voices.load(text)
        path = expand_user(text)
        if path.suffix == VOICE_SUFFIX:
            return load_voice(path, model_id=self._config.model_id)
        key: Hashable = text
        with suppress(OSError, ValueError):
            status = path.stat()
            key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
        return self._clips.get(key, lambda: self.create_voice(path, name="clip"))

    def _default_voice(self) -> str:
        name = self._config.default_voice
        if name is not None:
            return name
        usable = [info.name for info in self._voices.describe() if not info.problem]
        if not usable:
            raise InvalidRequestError(
                "no voice was given, and this model has none",
                hint="pass a recording as voice, or make one with TTS.create_voice",
            )
        return usable[0]


async def _collect(stream: SpeechStream) -> Audio:
    chunks: list[AudioChunk] = []
    try:
        async for chunk in stream:
            chunks.append(chunk)
    except GenerationLimitError as error:
        if chunks:
            error.audio = join(chunks)
        raise
    finally:
        await stream.aclose()
    return join(chunks)


def _fingerprint(voice: Voice) -> bytes:
    """Digest of what the networks read of a voice."""
    digest = hashlib.blake2b(voice.model_id.encode(), digest_size=16)
    digest.update(voice.transcript.encode())
    for array in (voice.speech_tokens, voice.mel, voice.speaker_embedding):
        digest.update(repr(array.shape).encode())
        digest.update(array.tobytes())
    return digest.digest()
