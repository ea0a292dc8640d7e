"""OpenAI's speech endpoint, its lists of models, and a batch of speeches in one answer."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from mynah.server.depends import RuntimeHere
from mynah.server.errors import Problem
from mynah.server.openai import (
    FIRST_MODELS,
    SpeechBody,
    SpeechFields,
    encoding_of,
    error_of,
    hosted_or_own,
    ignored_fields,
    parameters_of,
    render_openai,
    usage_of,
)
from mynah.server.openapi import AUDIO_OR_EVENTS
from mynah.server.runtime import Runtime
from mynah.server.speech import encoded, speak
from mynah.server.spoken import SpokenStream, check_length
from mynah.server.streaming import (
    LiveResponse,
    audio_headers,
    begin,
    complete,
    spoken_response,
    while_connected,
)

router = APIRouter(prefix="/v1", tags=["OpenAI"])

ERROR_FORMS = {"/v1/audio": render_openai, "/v1/models": render_openai}
_EVENT_FRAME_MS = 100
_STARTED = int(time.time())
_MAX_BATCH = 32
_BATCH_AT_ONCE = 2
"""Speeches of one batch side by side: nobody listens yet, and others may."""


class BatchBody(SpeechFields):
    """Several requests to speak: what an item does not say is as it is for all."""

    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "wav"
    items: list[SpeechBody] = Field(min_length=1, max_length=_MAX_BATCH)


class BatchResult(BaseModel):
    """What became of one item."""

    index: int
    status: Literal["success", "error"]
    audio_data: str | None = None
    """Base64."""
    media_type: str | None = None
    usage: dict[str, int] | None = None
    error: str | None = None


class BatchAnswer(BaseModel):
    """What became of all, in their order."""

    id: str
    results: list[BatchResult]
    total: int
    succeeded: int
    failed: int


@router.post("/audio/speech", responses=AUDIO_OR_EVENTS, response_class=Response)
async def speech(body: SpeechBody, request: Request, runtime: RuntimeHere) -> Response:
    """Speak a text and send the audio while it is made, as bytes or as events."""
    parameters = await parameters_of(runtime, body)
    streams_events = body.stream_format == "sse" and body.model not in FIRST_MODELS
    encoding = encoding_of(body, _EVENT_FRAME_MS if streams_events else None)
    headers = ignored_fields(body)
    if not streams_events:
        return await spoken_response(
            request, runtime, parameters, encoding, protocol="openai", headers=headers
        )
    tts = await runtime.tts(parameters.model)
    spoken, encoder = await begin(request, runtime, parameters, encoding, protocol="openai")
    pieces = encoded(runtime, spoken, encoder, encoding)
    return LiveResponse(
        _events(pieces, spoken, len(body.input), tts.config.token_rate),
        spoken.aclose,
        runtime=runtime,
        media_type="text/event-stream",
        headers={**audio_headers(spoken, encoder, parameters), **headers},
        last_words=_error_event,
    )


@router.post("/audio/speech/batch", response_model_exclude_none=True)
async def speech_batch(body: BatchBody, request: Request, runtime: RuntimeHere) -> BatchAnswer:
    """Speak several texts into one answer; one that is wrong does not stop the others."""
    check_length(sum(len(item.input) for item in body.items), runtime.settings.max_text_characters)
    shared = body.model_dump(exclude_unset=True, exclude={"items"})
    shared.setdefault("response_format", body.response_format)
    wishes = [
        SpeechBody.model_validate({**shared, **item.model_dump(exclude_unset=True)})
        for item in body.items
    ]
    free = asyncio.Semaphore(_BATCH_AT_ONCE)

    async def one(index: int, wish: SpeechBody) -> BatchResult:
        async with free:
            try:
                return await _spoken_item(runtime, index, wish)
            except Exception as error:  # noqa: BLE001 - told in its place
                problem = runtime.problem(error)
                message = str(error_of(problem, "", None)["message"])
                return BatchResult(index=index, status="error", error=message)

    async def every() -> list[BatchResult]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(n, wish)) for n, wish in enumerate(wishes)]
        return [task.result() for task in tasks]

    results = await while_connected(request, every())
    succeeded = sum(result.status == "success" for result in results)
    return BatchAnswer(
        id=f"speech-batch-{secrets.token_hex(12)}",
        results=results,
        total=len(results),
        succeeded=succeeded,
        failed=len(results) - succeeded,
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


async def _spoken_item(runtime: Runtime, index: int, wish: SpeechBody) -> BatchResult:
    parameters, encoding = await parameters_of(runtime, wish), encoding_of(wish)
    tts = await runtime.tts(parameters.model)
    encoder = encoding.open(tts.sample_rate)
    async with await speak(
        runtime, parameters, protocol="openai", in_time=False, whole=True
    ) as spoken:
        pieces = [piece async for piece in encoded(runtime, spoken, encoder, encoding)]
        usage = usage_of(len(wish.input), spoken.audio_s, tts.config.token_rate)
    audio = complete(b"".join(pieces), encoding, encoder)
    return BatchResult(
        index=index,
        status="success",
        audio_data=base64.b64encode(audio).decode(),
        media_type=encoding.content_type,
        usage=dict(usage),
    )


async def _events(
    pieces: AsyncIterator[bytes], spoken: SpokenStream, num_characters: int, token_rate: int
) -> AsyncIterator[bytes]:
    async for piece in pieces:
        audio = base64.b64encode(piece).decode()
        yield _event({"type": "speech.audio.delta", "audio": audio})
    usage = usage_of(num_characters, spoken.audio_s, token_rate)
    yield _event({"type": "speech.audio.done", "usage": usage})


def _event(content: dict[str, Any]) -> bytes:
    return f"event: {content['type']}\ndata: {json.dumps(content)}\n\n".encode()


def _error_event(problem: Problem) -> bytes:
    error = error_of(problem, "server_error", None)
    return _event({"type": "speech.audio.error", "error": error})


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _STARTED, "owned_by": "mynah"}
