"""OpenAI's speech endpoint, and the lists that its clients ask self-hosted servers for."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

from mynah.api import TTS
from mynah.errors import ModelNotFoundError, UnsupportedFeatureError
from mynah.pipeline.voices import VoiceInfo
from mynah.server.depends import RuntimeHere
from mynah.server.errors import Problem, problem_of
from mynah.server.openapi import AUDIO_OR_EVENTS
from mynah.server.runtime import Runtime
from mynah.server.speech import Encoding, SpeechParameters, encoded
from mynah.server.spoken import SpokenStream
from mynah.server.streaming import LiveResponse, audio_headers, begin, spoken_response
from mynah.server.uploads import decode_base64
from mynah.server.voices import (
    NewVoice,
    describe_voices,
    make_voice,
    remove_voice,
    usable_name,
)
from mynah.types import MAX_SPEED, MIN_SPEED

router = APIRouter(prefix="/v1", tags=["OpenAI"])

PCM_RATE = 24_000
"""What clients take ``pcm`` for, whatever the model."""
_FIRST_MODELS = ("tts-1", "tts-1-hd")
"""Known to take neither instructions nor events."""
_HOSTED_MODEL = re.compile(r"tts-1(-hd)?(-\d+)?|gpt-4o-mini-tts(-[\d-]+)?")
_PLAIN_FIELD = re.compile(r"\w{1,40}", re.ASCII)
_EVENT_FRAME_MS = 100
_LANGUAGES = {
    "english": "en", "chinese": "zh", "mandarin": "zh", "cantonese": "yue",
    "japanese": "ja", "korean": "ko",
}  # fmt: skip
_STARTED = int(time.time())


class VoiceReference(BaseModel):
    """A voice by its id."""

    id: str


class SpeechBody(BaseModel):
    """A request to speak. Fields that are not known are ignored and named in a header."""

    model_config = ConfigDict(extra="allow")

    input: str = Field(min_length=1, examples=["Good morning."])
    model: str | None = None
    voice: str | VoiceReference | None = None
    instructions: str | None = None
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: float = Field(default=1.0, ge=MIN_SPEED, le=MAX_SPEED, strict=True)
    stream_format: Literal["audio", "sse"] = "audio"
    language: str | None = Field(default=None, description="Code or name; Auto = from the text.")
    seed: int | None = Field(default=None, ge=0, le=(1 << 63) - 1, strict=True)
    ref_audio: str | None = Field(default=None, description="A recording, base64 or data URL.")
    ref_text: str | None = None


def render_openai(problem: Problem, request_id: str) -> Response:
    """An error as OpenAI's clients expect it: all four keys, whatever happened."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = "server_error" if problem.status >= 500 else "invalid_request_error"
    param = next((str(f["loc"][-1]) for f in problem.fields if f["loc"]), None)
    return JSONResponse(
        {"error": _error(problem, kinds.get(problem.status, kind), param)},
        problem.status,
        dict(problem.headers),
    )


ERROR_FORMS = {"/v1/audio": render_openai, "/v1/models": render_openai}


@router.post("/audio/speech", responses=AUDIO_OR_EVENTS, response_class=Response)
async def speech(body: SpeechBody, request: Request, runtime: RuntimeHere) -> Response:
    """Speak a text and send the audio while it is made, as bytes or as events."""
    model = hosted_or_own(runtime, body.model)
    tts = await runtime.tts(model)
    is_first = body.model in _FIRST_MODELS
    reference = None if not body.ref_audio else _reference(body.ref_audio)
    parameters = SpeechParameters(
        text=body.input,
        model=model,
        voice=None if reference else voice_named(runtime, tts, body.voice),
        reference_audio=reference,
        reference_text=body.ref_text or "" if reference else "",
        instruction=None if is_first else body.instructions or None,
        language=_language(body.language),
        speed=body.speed,
        seed=body.seed,
    )
    streams_events = body.stream_format == "sse" and not is_first
    encoding = Encoding(
        format=body.response_format,
        sample_rate=PCM_RATE if body.response_format == "pcm" else None,
        frame_ms=_EVENT_FRAME_MS if streams_events else None,
    )
    headers = _ignored(body)
    if not streams_events:
        return await spoken_response(
            request, runtime, parameters, encoding, protocol="openai", headers=headers
        )
    spoken, encoder = await begin(request, runtime, parameters, encoding, protocol="openai")
    pieces = encoded(runtime, spoken, encoder, encoding)
    return LiveResponse(
        _events(pieces, spoken, len(body.input), tts.config.token_rate),
        spoken.aclose,
        media_type="text/event-stream",
        headers={**audio_headers(spoken, encoder), **headers},
        stall_s=runtime.settings.stall_s,
        last_words=_error_event,
    )


@router.get("/models")
async def list_models(runtime: RuntimeHere) -> dict[str, Any]:
    """List the models."""
    return {"object": "list", "data": [_model(name) for name in runtime.model_names()]}


@router.get("/models/{name:path}")
async def show_model(name: str, runtime: RuntimeHere) -> dict[str, Any]:
    """Describe a model; the names of OpenAI's models stand for the default one."""
    hosted_or_own(runtime, name)
    return _model(name)


@router.get("/audio/models")
async def list_speech_models(runtime: RuntimeHere) -> dict[str, Any]:
    """List the models as Open WebUI asks for them."""
    found = [{"id": name, "name": name} for name in runtime.model_names()]
    return {"models": found, "object": "list", "data": found}


@router.get("/audio/voices")
async def list_voices(runtime: RuntimeHere, model: str | None = None) -> dict[str, Any]:
    """List the voices in the shapes that clients of several servers read."""
    found = await describe_voices(runtime, hosted_or_own(runtime, model))
    listed = [{"id": info.name, "name": info.name, "language": info.language} for info in found]
    return {
        "object": "list",
        "data": listed,
        "voices": listed,
        "uploaded_voices": [_uploaded(info) for info in found if not info.builtin],
    }


@router.post("/audio/voices")
async def create_voice(
    runtime: RuntimeHere,
    name: Annotated[str, Form(min_length=1)],
    audio_sample: Annotated[UploadFile, File()],
    consent: Annotated[str, Form()] = "",
    ref_text: Annotated[str, Form()] = "",
    language: Annotated[str, Form()] = "",
    model: Annotated[str | None, Form()] = None,
) -> dict[str, Any]:
    """Make a voice of a recording; one of that name that was uploaded before is replaced."""
    wish = NewVoice(
        name=usable_name(name),
        recording=await audio_sample.read(),
        transcript=ref_text,
        language=_language(language) or "",
        consent=consent,
        model=hosted_or_own(runtime, model),
        overwrite=True,
    )
    made = await make_voice(runtime, wish)
    return {
        "object": "audio.voice",
        "id": made.info.name,
        "name": name,
        "created_at": int(time.time()),
        "success": True,
        "voice": _uploaded(made.info),
    }


@router.delete("/audio/voices/{name}")
async def delete_voice(name: str, request: Request, runtime: RuntimeHere) -> Response:
    """Delete a voice that was uploaded."""
    try:
        await remove_voice(runtime, name)
    except ValueError as error:
        answer = json.loads(bytes(render_openai(problem_of(error), "").body))
        return JSONResponse({**answer, "success": False}, problem_of(error).status)
    return JSONResponse(
        {
            "id": name,
            "object": "audio.voice",
            "deleted": True,
            "success": True,
            "message": f"voice {name} was deleted",
        }
    )


def hosted_or_own(runtime: Runtime, name: str | None) -> str:
    """Name of our model that a client means; OpenAI's names stand for the default one.

    Raises:
        ModelNotFoundError: if there is none of that name.
    """
    names = runtime.model_names()
    if name in names:
        return str(name)
    if not name or _HOSTED_MODEL.fullmatch(name):
        return runtime.default_model
    raise ModelNotFoundError(
        f"there is no model {name[:80]!r} here", hint=f"choose one of {', '.join(names)}"
    )


def voice_named(runtime: Runtime, tts: TTS, voice: str | VoiceReference | None) -> str | None:
    """The voice that a client means; built-in names of its SDK may be aliases, never a fallback."""
    name = voice.id if isinstance(voice, VoiceReference) else voice
    if not name:
        return None
    if name in runtime.settings.voice_aliases and name not in tts.voices.names():
        return runtime.settings.voice_aliases[name] or None
    return name


async def _events(
    pieces: AsyncIterator[bytes], spoken: SpokenStream, num_characters: int, token_rate: int
) -> AsyncIterator[bytes]:
    async for piece in pieces:
        audio = base64.b64encode(piece).decode()
        yield _event({"type": "speech.audio.delta", "audio": audio})
    num_tokens = round(spoken.audio_s * token_rate)
    usage = {
        "input_tokens": num_characters,
        "output_tokens": num_tokens,
        "total_tokens": num_characters + num_tokens,
    }
    yield _event({"type": "speech.audio.done", "usage": usage})


def _event(content: dict[str, Any]) -> bytes:
    return f"event: {content['type']}\ndata: {json.dumps(content)}\n\n".encode()


def _error_event(problem: Problem) -> bytes:
    error = _error(problem, "server_error", None)
    return _event({"type": "speech.audio.error", "error": error})


def _error(problem: Problem, kind: str, param: str | None) -> dict[str, Any]:
    message = f"{problem.message} ({problem.solution})" if problem.solution else problem.message
    return {"message": message, "type": kind, "param": param, "code": problem.code}


def _reference(text: str) -> bytes:
    if text.split(":", 1)[0].lower() in ("http", "https", "file", "ftp"):
        raise UnsupportedFeatureError(
            "this server fetches no addresses for ref_audio",
            hint="send the recording itself, as base64 or a data URL",
        )
    return decode_base64(text)


def _language(language: str | None) -> str | None:
    if not language or language.lower() == "auto":
        return None
    return _LANGUAGES.get(language.lower(), language)


def _ignored(body: SpeechBody) -> dict[str, str]:
    names = sorted(name for name in body.model_extra or {} if _PLAIN_FIELD.fullmatch(name))
    return {"X-Ignored-Fields": ", ".join(names[:20])} if names else {}


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _STARTED, "owned_by": "mynah"}


def _uploaded(info: VoiceInfo) -> dict[str, Any]:
    created = 0
    if info.created:
        created = int(datetime.fromisoformat(info.created).replace(tzinfo=UTC).timestamp())
    return {
        "name": info.name,
        "consent": info.consent,
        "created_at": created,
        "file_size": info.path.stat().st_size if info.path.exists() else 0,
        "mime_type": "audio/flac" if info.has_recording else "application/octet-stream",
        "ref_text": info.transcript,
        "language": info.language,
    }
