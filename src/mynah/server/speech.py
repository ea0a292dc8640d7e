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

from mynah.api import TTS
from mynah.api.options import SpeakOptions
from mynah.audio.encoders import StreamEncoder
from mynah.engine.deadline import Deadline
from mynah.engine.stream import SpeechStream
from mynah.errors import CancelledError, InvalidRequestError, SynthesisError, UnknownVoiceError
from mynah.server.frames import EncodedPieces
from mynah.server.parameters import NEUTRAL, Encoding, Manner, SpeechParameters
from mynah.server.runtime import Runtime, SpeechRecord
from mynah.server.spoken import SpokenStream, TextStream, check_length
from mynah.server.uploads import decode_upload
from mynah.types import Voice, check_voice_name

S = TypeVar("S", bound=SpokenStream)


async def speak(
    runtime: Runtime,
    parameters: SpeechParameters,
    *,
    protocol: str = "http",
    in_time: bool = True,
    whole: bool = False,
    is_job: bool = False,
) -> SpokenStream:
    """Begin to speak a text.

    Args:
        runtime: of the server.
        parameters: what, and how.
        protocol: who asks, for the statistics.
        in_time: whether somebody listens while it is made; others get what time is left.
        whole: whether the samples must be those of ``TTS.synthesize``, whatever the model: the
            chunks may come later.
        is_job: whether the limits of jobs count, instead of those of a request.

    Raises:
        SynthesisError: if the request is wrong or cannot be served now; ``SpokenStream.first``
            and iterating raise what is found later.
    """
    settings, began_at = runtime.settings, time.monotonic()
    limit = settings.max_job_characters if is_job else settings.max_text_characters
    check_length(len(parameters.text), limit)
    return await _open(
        runtime,
        parameters,
        lambda tts, voice, options: tts.stream(
            parameters.text, voice, in_time=in_time, whole=whole, **options
        ),
        SpokenStream,
        protocol=protocol,
        characters=len(parameters.text),
        in_time=in_time,
        split=parameters.split,
        deadline=time_limit(None if is_job else settings.request_s, parameters.timeout_s, began_at),
    )


async def open_text_stream(
    runtime: Runtime,
    manner: Manner,
    *,
    protocol: str = "socket",
    in_time: bool = True,
    deadline: Deadline | None = None,
) -> TextStream:
    """Begin to speak a text that will be fed; see ``speak`` and ``TextStream``.

    ``deadline`` is on the clock of ``time_limit``; None = the server's limit from now on.
    """
    return await _open(
        runtime,
        manner,
        lambda tts, voice, options: tts.open_stream(voice, in_time=in_time, **options),
        TextStream,
        protocol=protocol,
        characters=0,
        in_time=in_time,
        deadline=deadline or time_limit(runtime.settings.request_s, None, time.monotonic()),
    )


def time_limit(
    request_s: float | None, timeout_s: float | None, began_at: float
) -> Deadline | None:
    """When a request has to be over that began at ``began_at``, on the monotonic clock.

    Args:
        request_s: what the server allows; None = any time.
        timeout_s: what the client does; None = likewise.
        began_at: in seconds.
    """
    limits = [limit for limit in (request_s, timeout_s) if limit is not None]
    return Deadline.after(min(limits), lambda: began_at) if limits else None


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
    in_time: bool,
    deadline: Deadline | None,
    split: bool = True,
) -> S:
    asked_at = time.monotonic()
    model, is_counted, is_held = "", False, False
    try:
        runtime.begin()
        is_counted = True
        model = runtime.default_model if manner.model is None else manner.model
        tts = await runtime.tts(model)
        runtime.models.hold(model)
        is_held = True
        voice = await find_voice(runtime, tts, manner)
        options = speak_options(tts, manner)
        options["split"] = split
        stream = await _begun(runtime, lambda: begin(tts, voice, options))
    except BaseException as error:
        if is_held:
            runtime.models.release(model)
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
        deadline=deadline,
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


def speak_options(tts: TTS, manner: Manner) -> SpeakOptions:
    """What ``TTS`` takes for a manner, but for the voice.

    Raises:
        InvalidRequestError: if there is a strength of no emotion.
    """
    emotion = manner.emotion
    if emotion is None and manner.emotion_strength != 1.0:
        raise InvalidRequestError(
            "there is an emotion_strength, but no emotion", hint="send both, or neither"
        )
    if not manner.strength_used:
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
        lexicon=manner.lexicon,
    )
