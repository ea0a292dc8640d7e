"""Voices for OpenAI's clients: made of uploads, with recordings of the speaker's consent."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, FastAPI, File, Form, Query, Request, Response, UploadFile
from starlette.responses import JSONResponse

from mynah.pipeline.voices import VoiceInfo
from mynah.server.consents import Consent, Consents
from mynah.server.depends import RuntimeHere
from mynah.server.openai import hosted_or_own, language_of, render_openai
from mynah.server.runtime import Runtime
from mynah.server.voices import (
    NewVoice,
    check_recording,
    describe_voices,
    make_voice,
    remove_voice,
    usable_name,
)
from mynah.types import check_language

router = APIRouter(prefix="/v1/audio", tags=["OpenAI"])

Label = Annotated[str, Form(min_length=1, max_length=200)]


def setup(app: FastAPI, runtime: Runtime) -> None:
    """Open the folder of consents."""
    app.state.consents = Consents(runtime.settings.data_path / "consents")


@router.get("/voices")
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


@router.post("/voices")
async def create_voice(
    request: Request,
    runtime: RuntimeHere,
    name: Annotated[str, Form(min_length=1)],
    audio_sample: Annotated[UploadFile, File()],
    consent: Annotated[str, Form()] = "",
    ref_text: Annotated[str, Form()] = "",
    language: Annotated[str, Form()] = "",
    model: Annotated[str | None, Form()] = None,
) -> dict[str, Any]:
    """Make a voice of a recording; one of that name that was uploaded before is replaced.

    ``consent`` is the id of a consent recording, or a note of who agreed to what.
    """
    consents = _consents(request)
    if consents.is_id(consent):
        consent = (await runtime.in_voice_thread(lambda: consents.get(consent))).note()
    wish = NewVoice(
        name=usable_name(name),
        recording=await audio_sample.read(),
        transcript=ref_text,
        language=language_of(language) or "",
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


@router.delete("/voices/{name}")
async def delete_voice(name: str, request: Request, runtime: RuntimeHere) -> Response:
    """Delete a voice that was uploaded."""
    try:
        await remove_voice(runtime, name)
    except ValueError as error:
        problem = runtime.problem(error)
        answer = json.loads(bytes(render_openai(problem, "").body))
        return JSONResponse({**answer, "success": False}, problem.status)
    return JSONResponse(
        {
            "id": name,
            "object": "audio.voice",
            "deleted": True,
            "success": True,
            "message": f"voice {name} was deleted",
        }
    )


@router.post("/voice_consents")
async def create_consent(
    request: Request,
    runtime: RuntimeHere,
    name: Label,
    recording: Annotated[UploadFile, File()],
    language: Annotated[str, Form()],
) -> dict[str, Any]:
    """Keep a recording in which somebody agrees to be imitated."""
    consents, data = _consents(request), await recording.read()
    code = check_language(language)
    await check_recording(runtime, data)
    made = await runtime.in_voice_thread(lambda: consents.add(name, code, data))
    return _consent(made)


@router.get("/voice_consents")
async def list_consents(
    request: Request,
    runtime: RuntimeHere,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: str | None = None,
) -> dict[str, Any]:
    """List the consent recordings, the newest first, those after an id."""
    consents = _consents(request)
    found = await runtime.in_voice_thread(lambda: consents.list(after, limit + 1))
    shown = [_consent(consent) for consent in found[:limit]]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(found) > limit,
    }


@router.get("/voice_consents/{consent}")
async def show_consent(consent: str, request: Request, runtime: RuntimeHere) -> dict[str, Any]:
    """Describe a consent recording."""
    consents = _consents(request)
    return _consent(await runtime.in_voice_thread(lambda: consents.get(consent)))


@router.post("/voice_consents/{consent}")
async def rename_consent(
    consent: str,
    request: Request,
    runtime: RuntimeHere,
    name: Annotated[str, Body(embed=True, min_length=1, max_length=200)],
) -> dict[str, Any]:
    """Give a consent recording another label."""
    consents = _consents(request)
    return _consent(await runtime.in_voice_thread(lambda: consents.rename(consent, name)))


@router.delete("/voice_consents/{consent}")
async def delete_consent(consent: str, request: Request, runtime: RuntimeHere) -> dict[str, Any]:
    """Delete a consent recording; voices keep their note of it."""
    consents = _consents(request)
    await runtime.in_voice_thread(lambda: consents.remove(consent))
    return {"id": consent, "object": "audio.voice_consent", "deleted": True}


def _consents(request: Request) -> Consents:
    consents: Consents = request.app.state.consents
    return consents


def _consent(consent: Consent) -> dict[str, Any]:
    return {
        "object": "audio.voice_consent",
        "id": consent.id,
        "name": consent.name,
        "language": consent.language,
        "created_at": consent.created_at,
    }


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
