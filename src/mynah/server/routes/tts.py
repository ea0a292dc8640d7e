"""The server's own endpoints: speak, see how a text would be read, and what the server can do."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from mynah.api import TTS
from mynah.audio.encoders import FORMATS
from mynah.server.depends import RuntimeHere
from mynah.server.numbers import (
    BitRate,
    FrameMs,
    SampleRate,
    Seed,
    Speed,
    Strength,
    TopK,
    TopP,
)
from mynah.server.openapi import AUDIO
from mynah.server.parameters import Encoding, Lexicon, SpeechParameters, Timeout
from mynah.server.runtime import Runtime
from mynah.server.speech import default_voice
from mynah.server.streaming import spoken_response, whole_response
from mynah.server.uploads import decode_base64
from mynah.text.languages import main_language
from mynah.text.lexicons import UserLexicon
from mynah.text.styles import catalogue
from mynah.types import MAX_SPEED, MIN_SPEED, MODES, Mode

router = APIRouter(tags=["speech"])

Format = Literal["wav", "pcm", "flac", "mp3", "opus", "aac", "mulaw", "alaw"]
_STREAM_FORM = ("mode", "speaker_id", "dialect")
"""Fields of the form that streams unless it is told not to."""
_BY_TYPE = {kind.content_type: name for name, kind in FORMATS.items()} | {
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/mp3": "mp3",
    "audio/opus": "opus",
    "audio/l16": "pcm",
    "audio/x-flac": "flac",
    "audio/aacp": "aac",
}
"""Content type -> format, with the other names of the same."""
_CHARACTERS_PER_S = {"zh": 4.5, "yue": 4.5, "ja": 7.0, "ko": 6.0}
_LATIN_CHARACTERS_PER_S = 15.0


class SpeakQuery(BaseModel):
    """A request to speak that fits into an address."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, examples=["Good morning."])
    model: str | None = None
    voice: str | None = Field(default=None, description="Name of a voice; see GET /voices.")
    language: str | None = Field(default=None, description="BCP 47 code; else found from the text.")
    speed: Speed = 1.0
    emotion: str | None = None
    emotion_strength: Strength = Field(
        default=1.0,
        description="The models know an emotion or do not: below 0.25 it is left out, from 0.25 on "
        "it is there as a whole. X-Emotion-Strength tells what was used.",
    )
    dialect: str | None = None
    style: str | None = None
    instruction: str | None = Field(default=None, description="How to speak, in words.")
    mode: Mode | None = Field(default=None, description="How the voice is used; else the best way.")
    seed: Seed | None = None
    normalize: bool = Field(default=True, description="Write numbers and symbols out in words.")
    split: bool = Field(default=True, description="Cut long texts into utterances.")
    top_p: TopP | None = None
    top_k: TopK | None = None
    timeout_s: Timeout | None = None
    in_time: bool | None = Field(
        default=None,
        description="Whether somebody listens while it is made: then it is refused if it cannot "
        "come without gaps, and goes first. Absent = true for streams, false for files.",
    )
    whole: bool = Field(
        default=False,
        description="Have a stream give exactly the samples of a file, also by CosyVoice 1; there "
        "the first of them come later.",
    )
    stream: bool | None = Field(
        default=None,
        description="true = send the audio while it is made; false = send a complete file; "
        "absent = false, but true with mode, speaker_id or dialect.",
    )
    response_format: Format | None = Field(
        default=None, description="Else by the Accept header; else pcm for streams, wav for files."
    )
    sample_rate: SampleRate | None = None
    bit_rate: BitRate | None = Field(default=None, description="In bit/s.")
    frame_ms: FrameMs | None = None


class SpeakBody(SpeakQuery):
    """A request to speak."""

    model_config = ConfigDict(strict=True)

    speaker_id: str | None = Field(default=None, description="The same as voice.")
    reference_audio: str | None = Field(
        default=None, description="A recording of the voice instead of its name, as base64."
    )
    reference_text: str | None = Field(default=None, description="The words of the recording.")
    lexicon: Lexicon | None = None


@router.post("/tts", responses=AUDIO, response_class=Response)
async def speak_body(body: SpeakBody, request: Request, runtime: RuntimeHere) -> Response:
    """Speak a text: a complete WAV file, or a stream of 16-bit PCM; see ``stream``."""
    return await _answer(request, runtime, parameters_of(body), body)


@router.get("/tts", responses=AUDIO, response_class=Response)
async def speak_query(
    query: Annotated[SpeakQuery, Query()], request: Request, runtime: RuntimeHere
) -> Response:
    """Do the same for what fits into an address, such as the source of an ``<audio>`` element."""
    parameters = _parameters(query, voice=query.voice or None)
    return await _answer(request, runtime, parameters, query)


class NormalizeBody(BaseModel):
    """A text to be read without being spoken."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(min_length=1, examples=["It costs $5."])
    model: str | None = None
    language: str | None = None
    speed: Speed = 1.0
    split: bool = True
    lexicon: Lexicon | None = None


class ReadUtterance(BaseModel):
    """What is spoken in one go."""

    text: str
    """As it stands in the request; the utterances join to the whole text."""
    spoken: str
    """In words."""
    pause_s: float
    """Silence after it."""


class Reading(BaseModel):
    """How a text would be read."""

    language: str
    spoken: str
    utterances: list[ReadUtterance]
    characters: int
    estimated_s: float
    """Rough length of the speech."""


@router.post("/normalize")
async def normalize(body: NormalizeBody, runtime: RuntimeHere) -> Reading:
    """Show how a text would be read, without speaking it."""
    tts = await runtime.tts(body.model)
    return await runtime.in_voice_thread(lambda: _read(tts, body))


@router.get("/capabilities")
async def capabilities(runtime: RuntimeHere) -> dict[str, Any]:
    """Tell what the server can do: models, modes, languages, styles, tags, formats and limits."""
    settings = runtime.settings
    return {
        "default_model": runtime.default_model,
        "models": [model_facts(runtime, name) for name in runtime.model_names()],
        "formats": {
            name: {
                "content_type": kind.content_type,
                "sample_rates": kind.rates,
                "bit_rates": kind.bit_rates,
            }
            for name, kind in FORMATS.items()
        },
        "limits": {
            "text_characters": settings.max_text_characters,
            "job_characters": settings.max_job_characters,
            "upload_bytes": settings.max_upload_bytes,
            "upload_s": settings.max_upload_s,
            "sessions": settings.max_sessions,
            "speed": [MIN_SPEED, MAX_SPEED],
        },
        "frame_ms": settings.frame_ms,
    }


def model_facts(runtime: Runtime, name: str) -> dict[str, Any]:
    """What a client may know of a model; little before it is loaded."""
    tts = runtime.loaded(name)
    if tts is None:
        return {"name": name, "loaded": False}
    config = tts.config
    styles = None if config.instruct is None else config.instruct.styles
    known = {} if styles is None else catalogue(styles)
    modes = [
        mode
        for mode in MODES
        if not (mode == "instruct" and config.instruct is None)
        and not (mode == "zero_shot" and not config.lm.reads_prompt_speech)
    ]
    return {
        "name": name,
        "loaded": True,
        "family": config.family,
        "sample_rate": config.sample_rate,
        "languages": list(config.languages),
        "modes": modes,
        "instructions": config.instruct is not None,
        "emotions": list(known.get("emotion", ())),
        "emotion_strength": "on_off" if known.get("emotion") else None,
        "dialects": list(known.get("dialect", ())),
        "styles": list(known.get("style", ())),
        "tags": list(tts.reader.tags),
        "default_voice": _default_voice(tts),
    }


def parameters_of(body: SpeakBody) -> SpeechParameters:
    """What a body asks to be said.

    Raises:
        PromptAudioError: if its recording is not base64.
    """
    reference = decode_base64(body.reference_audio) if body.reference_audio else None
    return _parameters(
        body,
        voice=body.voice or body.speaker_id or None,
        reference_audio=reference,
        reference_text=body.reference_text or "" if reference else "",
        lexicon=body.lexicon,
    )


def encoding_of(query: SpeakQuery, otherwise: str = "wav") -> Encoding:
    """The format that a request asks for; ``otherwise`` = where it names none."""
    return Encoding(
        format=query.response_format or otherwise,
        sample_rate=query.sample_rate,
        bit_rate=query.bit_rate,
        frame_ms=query.frame_ms,
    )


def _default_voice(tts: TTS) -> str | None:
    try:
        return default_voice(tts)
    except ValueError:
        return None


def _parameters(query: SpeakQuery, **more: Any) -> SpeechParameters:
    return SpeechParameters(
        text=query.text,
        model=query.model,
        language=query.language or None,
        speed=query.speed,
        emotion=query.emotion or None,
        emotion_strength=query.emotion_strength,
        dialect=query.dialect or None,
        style=query.style or None,
        instruction=query.instruction or None,
        mode=query.mode,
        seed=query.seed,
        normalize=query.normalize,
        split=query.split,
        top_p=query.top_p,
        top_k=query.top_k,
        timeout_s=query.timeout_s,
        **more,
    )


async def _answer(
    request: Request, runtime: Runtime, parameters: SpeechParameters, query: SpeakQuery
) -> Response:
    streams = query.stream
    if streams is None:
        streams = any(getattr(query, name, None) is not None for name in _STREAM_FORM)
    encoding = encoding_of(query, _accepted(request) or ("pcm" if streams else "wav"))
    in_time = streams if query.in_time is None else query.in_time
    if not streams:
        return await whole_response(
            request, runtime, parameters, encoding, protocol="http", in_time=in_time
        )
    return await spoken_response(
        request,
        runtime,
        parameters,
        encoding,
        protocol="http",
        whole=query.whole,
        in_time=in_time,
    )


def _accepted(request: Request) -> str | None:
    """The format that the Accept header names first, if it names one that there is."""
    for part in request.headers.get("accept", "").split(","):
        name, _, parameters = part.partition(";")
        if "q=0" in parameters.replace(" ", "") and "q=0." not in parameters.replace(" ", ""):
            continue
        if (found := _BY_TYPE.get(name.strip().lower())) is not None:
            return found
    return None


def _read(tts: TTS, body: NormalizeBody) -> Reading:
    reader = tts.reader.with_lexicon(UserLexicon(body.lexicon))
    reader.check(body.text, body.language)
    utterances = [
        ReadUtterance(
            text=utterance.text,
            spoken=reader.in_words(utterance.text, body.language),
            pause_s=utterance.pause_s,
        )
        for utterance in reader.utterances(body.text, body.language, split=body.split)
    ]
    language = body.language or main_language(body.text)
    spoken = " ".join(utterance.spoken for utterance in utterances if utterance.spoken)
    per_s = _CHARACTERS_PER_S.get(language.split("-")[0].lower(), _LATIN_CHARACTERS_PER_S)
    pauses_s = sum(utterance.pause_s for utterance in utterances[:-1])
    return Reading(
        language=language,
        spoken=spoken,
        utterances=utterances,
        characters=len(body.text),
        estimated_s=round((len(spoken) / per_s + pauses_s) / body.speed, 2),
    )
