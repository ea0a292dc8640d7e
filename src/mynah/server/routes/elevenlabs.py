"""ElevenLabs' API for text to speech; its clients need only another base URL.

Also below ``/elevenlabs``, where ``GET /v1/models`` is surely meant in this form.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.routing import Match
from starlette.types import Scope

from mynah.audio.encoders import StreamEncoder
from mynah.server.depends import RuntimeHere
from mynah.server.elevenlabs import (
    DEFAULT_FORMAT,
    OUTPUT_FORMATS,
    Normalization,
    TheirSeed,
    VoiceSettings,
    alignment_in_seconds,
    encoding_of,
    error_body,
    model_of,
    render_elevenlabs,
    voice_of,
)
from mynah.server.errors import Problem
from mynah.server.frames import EncodedPieces
from mynah.server.openapi import AUDIO
from mynah.server.parameters import Encoding, SpeechParameters
from mynah.server.pieces import Piece, pieces_of
from mynah.server.runtime import Runtime
from mynah.server.speech import speak
from mynah.server.spoken import SpokenStream
from mynah.server.streaming import (
    LiveResponse,
    audio_headers,
    begin,
    spoken_response,
    while_connected,
    whole_response,
)

api = APIRouter(tags=["ElevenLabs"])
_PREFIX = "/elevenlabs"
_PATHS = ("/v1/text-to-speech", "/v1/user")
ERROR_FORMS = dict.fromkeys((*_PATHS, _PREFIX), render_elevenlabs)

_PROTOCOL = "elevenlabs"
_LANGUAGES = {
    "en": "English",
    "zh": "Chinese",
    "ja": "Japanese",
    "ko": "Korean",
    "yue": "Cantonese",
}
_SDK_HEADER, _SDK_NAME, _KEY_HEADER = b"x-fern-sdk-name", b"elevenlabs", b"xi-api-key"


class SpeechQuery(BaseModel):
    """What may stand in the address; unknown fields are ignored."""

    output_format: Literal[OUTPUT_FORMATS] = DEFAULT_FORMAT  # type: ignore[valid-type]
    optimize_streaming_latency: int | None = Field(default=None, ge=0, le=4)
    enable_logging: bool | None = None


class SpeechBody(BaseModel):
    """What to say; unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    text: str = Field(min_length=1)
    model_id: str | None = None
    language_code: str | None = Field(default=None, max_length=20)
    voice_settings: VoiceSettings | None = None
    seed: TheirSeed | None = None
    apply_text_normalization: Normalization = "auto"


Asked = Annotated[SpeechQuery, Query()]


class _TheirClient(APIRoute):
    """Matches only requests of their clients; others share the address."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        headers = dict(scope.get("headers", ()))
        theirs = _KEY_HEADER in headers or headers.get(_SDK_HEADER) == _SDK_NAME
        return super().matches(scope) if theirs else (Match.NONE, {})


@api.post("/v1/text-to-speech/{voice_id}", responses=AUDIO, response_class=Response)
async def convert(
    voice_id: str, body: SpeechBody, query: Asked, request: Request, runtime: RuntimeHere
) -> Response:
    """Speak a text, and send the complete file."""
    parameters = await _parameters(runtime, voice_id, body)
    encoding = encoding_of(query.output_format)
    return await whole_response(
        request, runtime, parameters, encoding, protocol=_PROTOCOL, headers=_id(request)
    )


@api.post(
    "/v1/text-to-speech/{voice_id}/stream",
    responses=AUDIO,
    response_class=Response,
)
async def stream(
    voice_id: str, body: SpeechBody, query: Asked, request: Request, runtime: RuntimeHere
) -> Response:
    """Speak a text, and send the audio while it is made."""
    parameters = await _parameters(runtime, voice_id, body)
    encoding = encoding_of(query.output_format)
    return await spoken_response(
        request, runtime, parameters, encoding, protocol=_PROTOCOL, headers=_id(request)
    )


@api.post("/v1/text-to-speech/{voice_id}/with-timestamps")
async def convert_with_timestamps(
    voice_id: str, body: SpeechBody, query: Asked, request: Request, runtime: RuntimeHere
) -> dict[str, Any]:
    """Speak a text, and send the file with estimated times of its characters."""
    parameters = await _parameters(runtime, voice_id, body)
    encoding = encoding_of(query.output_format)
    return await while_connected(request, _timed(runtime, parameters, encoding))


@api.post(
    "/v1/text-to-speech/{voice_id}/stream/with-timestamps",
    response_class=Response,
    responses={200: {"content": {"application/json": {}}}},
)
async def stream_with_timestamps(
    voice_id: str, body: SpeechBody, query: Asked, request: Request, runtime: RuntimeHere
) -> Response:
    """Do the same while the audio is made: a JSON object on each line."""
    parameters = await _parameters(runtime, voice_id, body)
    encoding = encoding_of(query.output_format)
    spoken, encoder = await begin(request, runtime, parameters, encoding, protocol=_PROTOCOL)
    name = str(request.state.request_id)

    def last_words(problem: Problem) -> bytes:
        return _line(error_body(problem, name))

    return LiveResponse(
        _timed_lines(runtime, spoken, encoder, encoding),
        spoken.aclose,
        runtime=runtime,
        media_type="application/json",
        headers={**audio_headers(spoken, encoder), **_id(request)},
        last_words=last_words,
    )


async def list_models(runtime: RuntimeHere) -> list[dict[str, Any]]:
    """List the models on offer, as their clients know them."""
    most = runtime.settings.max_text_characters
    found = []
    for name in runtime.model_names():
        loaded = runtime.loaded(name)
        languages = [] if loaded is None else loaded.config.languages
        found.append(
            {
                "model_id": name,
                "name": name,
                "can_be_finetuned": False,
                "can_do_text_to_speech": True,
                "can_do_voice_conversion": False,
                "can_use_style": False,
                "can_use_speaker_boost": False,
                "serves_pro_voices": False,
                "requires_alpha_access": False,
                "token_cost_factor": 0.0,
                "maximum_text_length_per_request": most,
                "max_characters_request_free_user": most,
                "max_characters_request_subscribed_user": most,
                "languages": [
                    {"language_id": code, "name": _LANGUAGES.get(code, code)} for code in languages
                ],
            }
        )
    return found


@api.get("/v1/user/subscription")
async def subscription(runtime: RuntimeHere) -> dict[str, Any]:
    """Answer clients that ask whether they may still speak."""
    return {
        "tier": "local",
        "status": "active",
        "character_count": 0,
        "character_limit": 2**31 - 1,
        "can_use_instant_voice_cloning": True,
    }


async def _parameters(runtime: Runtime, voice_id: str, body: SpeechBody) -> SpeechParameters:
    model = model_of(runtime, body.model_id)
    speed = body.voice_settings.speed if body.voice_settings is not None else None
    return SpeechParameters(
        text=body.text,
        model=model,
        voice=await voice_of(runtime, model, voice_id),
        language=body.language_code or None,
        speed=1.0 if speed is None else speed,
        seed=body.seed,
        normalize=body.apply_text_normalization != "off",
    )


def _id(request: Request) -> dict[str, str]:
    return {"request-id": str(request.state.request_id)}


async def _timed(
    runtime: Runtime, parameters: SpeechParameters, encoding: Encoding
) -> dict[str, Any]:
    tts = await runtime.tts(parameters.model)
    encoder = encoding.open(tts.sample_rate)
    out = EncodedPieces(runtime, encoder, encoding.format, encoding.frame_ms)
    data: list[bytes] = []
    said: list[Piece] = []
    speaking = speak(runtime, parameters, protocol=_PROTOCOL, in_time=False, whole=True)
    async with await speaking as spoken:
        async for piece in pieces_of(spoken):
            data += await out.encode(piece.samples)
            said.append(piece)
    data += await out.finish()
    return _timestamps(b"".join(data), alignment_in_seconds(said))


async def _timed_lines(
    runtime: Runtime, spoken: SpokenStream, encoder: StreamEncoder, encoding: Encoding
) -> AsyncIterator[bytes]:
    out = EncodedPieces(runtime, encoder, encoding.format, encoding.frame_ms)
    async for piece in pieces_of(spoken):
        data = b"".join(await out.encode(piece.samples))
        alignment = alignment_in_seconds([piece])
        if data or alignment is not None:
            yield _line(_timestamps(data, alignment))
    if data := b"".join(await out.finish()):
        yield _line(_timestamps(data, None))


def _timestamps(data: bytes, alignment: dict[str, list[Any]] | None) -> dict[str, Any]:
    return {
        "audio_base64": base64.b64encode(data).decode(),
        "alignment": alignment,
        "normalized_alignment": alignment,
    }


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


router = APIRouter()
router.include_router(api)
router.include_router(api, prefix=_PREFIX, include_in_schema=False)
# On the address that OpenAI's clients use for the same.
router.add_api_route(
    "/v1/models", list_models, route_class_override=_TheirClient, include_in_schema=False
)
router.add_api_route(f"{_PREFIX}/v1/models", list_models, include_in_schema=False)
