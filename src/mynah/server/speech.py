"""The one way in which every protocol speaks: parameters in, chunks and their facts out.

``speak`` for a text that is there, ``open_text_stream`` for one that comes in pieces, ``encoded``
for the bytes of a format. Nothing here knows a protocol, and nothing blocks the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from mynah.api import TTS
from mynah.api.options import SpeakOptions
from mynah.audio.encoders import FORMATS, StreamEncoder, open_encoder
from mynah.engine.stream import SpeechStream
from mynah.errors import CancelledError, InvalidRequestError, SynthesisError, UnknownVoiceError
from mynah.server.frames import EncodedPieces
from mynah.server.runtime import Runtime, SpeechRecord
from mynah.server.spoken import SpokenStream, TextStream, check_length
from mynah.server.uploads import decode_upload
from mynah.types import MAX_SPEED, MIN_SPEED, Mode, Voice, check_voice_name

S = TypeVar("S", bound=SpokenStream)

NEUTRAL = "neutral"
MIN_STRENGTH = 0.25
"""The models know an emotion or do not: below this strength it is left out."""


class Manner(BaseModel):
    """How something is said, by whom: everything but the text."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )

    model: str | None = None
    """Name of a model; None = the server's default."""
    voice: str | None = None
    """Name of a voice, never a path; None = the model's own."""
    reference_audio: bytes | None = Field(default=None, repr=False)
    """A sound file of the voice instead of a name."""
    reference_text: str = Field(default="", repr=False)
    """The words of that recording; "" = unknown."""
    mode: Mode | None = None
    instruction: str | None = Field(default=None, repr=False)
    emotion: str | None = None
    emotion_strength: float = Field(default=1.0, ge=0.0, le=1.0)
    dialect: str | None = None
    style: str | None = None
    language: str | None = None
    speed: float = Field(default=1.0, ge=MIN_SPEED, le=MAX_SPEED)
    seed: int | None = Field(default=None, ge=0)
    normalize: bool = True
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1)


class SpeechParameters(Manner):
    """One whole request."""

    text: str = Field(repr=False)
    split: bool = True


class Encoding(BaseModel):
    """What the listener gets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = "wav"
    """A key of ``mynah.audio.encoders.FORMATS``."""
    sample_rate: int | None = None
    """In Hz; None = the model's, or the nearest that the format can hold."""
    bit_rate: int | None = None
    """In bits per second, for mp3, opus and aac."""
    frame_ms: int | None = Field(default=None, ge=5, le=1000)
    """Length of the pieces of pcm, mulaw and alaw; None = as the server is set."""

    @property
    def content_type(self) -> str:
        """MIME type."""
        return FORMATS[self.format].content_type

    def open(self, source_rate: int) -> StreamEncoder:
        """Begin a stream; see ``mynah.audio.encoders.open_encoder`` for what it raises."""
        return open_encoder(
            self.format, source_rate, sample_rate=self.sample_rate, bit_rate=self.bit_rate
        )


async def speak(
    runtime: Runtime,
    parameters: SpeechParameters,
    *,
    protocol: str = "http",
    in_time: bool = True,
    whole: bool = False,
    max_characters: int | None = None,
) -> SpokenStream:
    """Begin to speak a text.

    Args:
        runtime: of the server.
        parameters: what, and how.
        protocol: who asks, for the statistics.
        in_time: whether somebody listens while it is made; others get what time is left.
        whole: whether the samples must be those of ``TTS.synthesize``, whatever the model: the
            chunks may come later.
        max_characters: of the text; None = the server's limit for one request.

    Raises:
        SynthesisError: if the request is wrong or cannot be served now; ``SpokenStream.first``
            and iterating raise what is found later.
    """
    check_length(len(parameters.text), max_characters or runtime.settings.max_text_characters)
    return await _open(
        runtime,
        parameters,
        lambda tts, voice, options: tts.stream(
            parameters.text, voice, in_time=in_time, whole=whole, **options
        ),
        SpokenStream,
        protocol=protocol,
        characters=len(parameters.text),
        split=parameters.split,
        in_time=in_time,
    )


async def open_text_stream(
    runtime: Runtime, manner: Manner, *, protocol: str = "socket"
) -> TextStream:
    """Begin to speak a text that will be fed; see ``speak`` and ``TextStream``."""
    return await _open(
        runtime,
        manner,
        lambda tts, voice, options: tts.open_stream(voice, **options),
        TextStream,
        protocol=protocol,
        characters=0,
    )


async def encoded(
    runtime: Runtime, spoken: SpokenStream, encoder: StreamEncoder, encoding: Encoding
) -> AsyncIterator[bytes]:
    """Yield the bytes of a speech as they are ready.

    Raw formats come in frames of equal length (the last one may be shorter), the others as their
    encoder hands them out. The encoder must have been opened for ``spoken.sample_rate``.
    """
    out = EncodedPieces(runtime, encoder, encoding.format, encoding.frame_ms)
    async for chunk in spoken:
        for piece in await out.encode(chunk.audio.samples):
            yield piece
    for piece in await out.finish():
        yield piece


async def find_voice(runtime: Runtime, tts: TTS, manner: Manner) -> Voice:
    """Return the voice that is meant; one made of a recording is kept for the next request.

    Raises:
        UnknownVoiceError: if there is none of that name.
        PromptAudioError: if the recording cannot become a voice.
        InvalidRequestError: if both or a transcript alone are given.
    """
    recording = manner.reference_audio
    if recording is None:
        if manner.reference_text:
            raise InvalidRequestError(
                "there is a reference text, but no reference audio", hint="send both, or neither"
            )
        return await runtime.in_speaking_thread(lambda: named_voice(tts, manner.voice))
    if manner.voice is not None:
        raise InvalidRequestError(
            "both a voice and a reference recording are given", hint="send one of them"
        )
    settings = runtime.settings
    digest = hashlib.blake2b(recording, digest_size=16).digest()

    def make() -> Voice:
        audio = decode_upload(recording, settings.max_upload_bytes, settings.max_upload_s)
        return tts.create_voice(
            audio, manner.reference_text, name="reference", keep_recording=False
        )

    key = (tts.config.model_id, digest, manner.reference_text)
    return await runtime.in_voice_thread(lambda: runtime.clips.get(key, make))


def named_voice(tts: TTS, name: str | None) -> Voice:
    """Load a voice by its name, which is never taken for a path; None = the model's own.

    Raises:
        UnknownVoiceError: if there is none of that name.
    """
    if name is None:
        name = default_voice(tts)
    try:
        check_voice_name(name)
    except InvalidRequestError as error:
        raise UnknownVoiceError(error.message, hint=error.hint) from error
    return tts.voices.load(name)


def default_voice(tts: TTS) -> str:
    """Name of the voice that speaks where a request names none.

    Raises:
        InvalidRequestError: if the model has no voice.
    """
    if tts.config.default_voice is not None:
        return tts.config.default_voice
    usable = [info for info in tts.voices.describe() if not info.problem]
    if not usable:
        raise InvalidRequestError(
            "no voice was given, and this model has none",
            hint="send a recording, or make a voice first",
        )
    return min(usable, key=lambda info: info.model_id != tts.config.model_id).name


async def _open(
    runtime: Runtime,
    manner: Manner,
    begin: Callable[[TTS, Voice, SpeakOptions], SpeechStream],
    kind: Callable[..., S],
    *,
    protocol: str,
    characters: int,
    split: bool = True,
    in_time: bool = True,
) -> S:
    asked_at = time.monotonic()
    model, is_counted = "", False
    try:
        runtime.begin()
        is_counted = True
        model = runtime.default_model if manner.model is None else manner.model
        tts = await runtime.tts(model)
        voice = await find_voice(runtime, tts, manner)
        options = _options(tts, manner)
        options["split"] = split
        stream = await _begun(runtime, lambda: begin(tts, voice, options))
    except BaseException as error:
        if is_counted:
            runtime.end()
        # A name that the client made up must not become a label of the statistics.
        known = model if runtime.loaded(model) is not None else ""
        runtime.report(
            SpeechRecord(
                protocol=protocol,
                model=known,
                outcome=_outcome(error),
                characters=characters,
                first_audio_s=None,
                total_s=time.monotonic() - asked_at,
                audio_s=0.0,
                underruns=0,
                in_time=in_time,
            )
        )
        raise
    return kind(
        runtime,
        stream,
        model=model,
        voice=voice.name,
        sample_rate=tts.sample_rate,
        protocol=protocol,
        characters=characters,
        asked_at=asked_at,
        in_time=in_time,
    )


def _outcome(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return CancelledError.code
    return error.code if isinstance(error, SynthesisError) else "internal"


async def _begun(runtime: Runtime, begin: Callable[[], SpeechStream]) -> SpeechStream:
    opening = asyncio.ensure_future(runtime.in_speaking_thread(begin))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:  # the caller left in between: nobody will close it
        opening.add_done_callback(lambda done: _drop(runtime, done))
        raise


def _drop(runtime: Runtime, done: asyncio.Future[SpeechStream]) -> None:
    if not done.cancelled() and done.exception() is None:
        stream = done.result()
        closing = asyncio.ensure_future(runtime.in_speaking_thread(stream.close))
        closing.add_done_callback(lambda closed: closed.cancelled() or closed.exception())


def _options(tts: TTS, manner: Manner) -> SpeakOptions:
    emotion = manner.emotion
    if emotion is not None and manner.emotion_strength < MIN_STRENGTH:
        emotion = None
    instruct = tts.config.instruct
    if emotion == NEUTRAL and (instruct is None or instruct.styles is None):
        emotion = None  # what such a model does anyway
    return SpeakOptions(
        mode=manner.mode,
        instruction=manner.instruction,
        emotion=emotion,
        dialect=manner.dialect,
        style=manner.style,
        language=manner.language,
        speed=manner.speed,
        seed=manner.seed,
        top_p=manner.top_p,
        top_k=manner.top_k,
        normalize=manner.normalize,
    )
