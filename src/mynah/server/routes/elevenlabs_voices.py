"""ElevenLabs' API for voices: list, describe, make of recordings, change, remove."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Form, Query, UploadFile
from pydantic import BaseModel, Field

from mynah.audio.io import encode_audio
from mynah.audio.resample import resample
from mynah.errors import InvalidRequestError
from mynah.pipeline.voices import VoiceInfo
from mynah.server.depends import RuntimeHere
from mynah.server.elevenlabs import render_elevenlabs
from mynah.server.runtime import Runtime
from mynah.server.uploads import decode_upload
from mynah.server.voice_notes import VoiceNote, VoiceNotes
from mynah.server.voices import (
    NewVoice,
    describe_voices,
    make_voice,
    remove_voice,
    show_voice,
    usable_name,
)
from mynah.types import Audio

api = APIRouter(tags=["ElevenLabs"])
_PREFIX = "/elevenlabs"
ERROR_FORMS = dict.fromkeys(("/v1/voices", "/v2/voices"), render_elevenlabs)

_LONGEST_S = 15.0
"""Of the recordings that make a voice, together; their clients often send minutes."""
_SETTINGS = {
    "stability": 0.5,
    "similarity_boost": 0.75,
    "style": 0.0,
    "use_speaker_boost": False,
    "speed": 1.0,
}


class VoiceForm(BaseModel):
    """A voice to be made or changed."""

    name: str = Field(min_length=1, max_length=200)
    description: str = ""
    labels: str = Field(default="", description="A JSON object of strings.")
    remove_background_noise: bool = False


class AddForm(VoiceForm):
    """A voice to be made."""

    files: list[UploadFile] = Field(min_length=1)


class EditForm(VoiceForm):
    """A voice to be changed; with new recordings it is made again."""

    files: list[UploadFile] = Field(default_factory=list)


class Search(BaseModel):
    """Which voices to list."""

    page_size: int = Field(default=10, ge=1, le=100)
    next_page_token: str | None = None
    search: str | None = None
    sort: Literal["name", "created_at_unix"] | None = None
    sort_direction: Literal["asc", "desc"] = "asc"
    voice_type: str | None = None
    category: str | None = None
    collection_id: str | None = None
    include_total_count: bool = True
    voice_ids: list[str] | None = None


@api.get("/v1/voices")
async def list_voices(runtime: RuntimeHere) -> dict[str, Any]:
    """List all voices."""
    return {"voices": await _all(runtime)}


@api.get("/v2/voices")
async def search_voices(query: Annotated[Search, Query()], runtime: RuntimeHere) -> dict[str, Any]:
    """List voices page by page."""
    found = [voice for voice in await _all(runtime) if _fits(voice, query)]
    if query.sort is not None:
        key = query.sort
        found.sort(key=lambda voice: voice[key] or 0 if key != "name" else voice[key].lower())
    if query.sort_direction == "desc":
        found.reverse()
    start = _start(query.next_page_token)
    end = start + query.page_size
    has_more = end < len(found)
    return {
        "voices": found[start:end],
        "has_more": has_more,
        "total_count": len(found),
        "next_page_token": _token(end) if has_more else None,
    }


@api.get("/v1/voices/settings/default")
async def default_settings() -> dict[str, Any]:
    """Describe the settings of a voice that has none of its own."""
    return _SETTINGS


@api.post("/v1/voices/add")
async def add_voice(
    form: Annotated[AddForm, Form(media_type="multipart/form-data")], runtime: RuntimeHere
) -> dict[str, Any]:
    """Make a voice of recordings and keep it."""
    note = VoiceNote(form.name, form.description, _labels(form.labels))
    recording = await _joined(runtime, form.files)
    taken = {info.name for info in await describe_voices(runtime)}
    name = _free(usable_name(form.name), taken)
    await make_voice(runtime, _wish(name, recording, note))
    await runtime.in_voice_thread(lambda: _notes(runtime).put(name, note))
    return {"voice_id": name, "requires_verification": False}


@api.get("/v1/voices/{voice_id}")
async def get_voice(voice_id: str, runtime: RuntimeHere) -> dict[str, Any]:
    """Describe one voice."""
    info = await show_voice(runtime, voice_id)
    notes = await runtime.in_voice_thread(_notes(runtime).all)
    return _voice(info, notes.get(info.name))


@api.get("/v1/voices/{voice_id}/settings")
async def voice_settings(voice_id: str, runtime: RuntimeHere) -> dict[str, Any]:
    """Describe a voice's settings."""
    await show_voice(runtime, voice_id)
    return _SETTINGS


@api.post("/v1/voices/{voice_id}/edit")
async def edit_voice(
    voice_id: str,
    form: Annotated[EditForm, Form(media_type="multipart/form-data")],
    runtime: RuntimeHere,
) -> dict[str, Any]:
    """Change what is said about a voice, or make it again of new recordings; its id stays."""
    note = VoiceNote(form.name, form.description, _labels(form.labels))
    info = await show_voice(runtime, voice_id)
    if info.builtin:
        raise InvalidRequestError(
            f"the voice {info.name!r} comes with the model and cannot be changed",
            hint="add a voice of your own",
        )
    if form.files:
        recording = await _joined(runtime, form.files)
        await make_voice(runtime, _wish(info.name, recording, note, overwrite=True))
    await runtime.in_voice_thread(lambda: _notes(runtime).put(info.name, note))
    return {"status": "ok"}


@api.delete("/v1/voices/{voice_id}")
async def delete_voice(voice_id: str, runtime: RuntimeHere) -> dict[str, Any]:
    """Remove a voice that was made here."""
    await remove_voice(runtime, voice_id)
    await runtime.in_voice_thread(lambda: _notes(runtime).put(voice_id, None))
    return {"status": "ok"}


def _notes(runtime: Runtime) -> VoiceNotes:
    return VoiceNotes(runtime.settings.data_path / "voices.json")


def _wish(name: str, recording: bytes, note: VoiceNote, *, overwrite: bool = False) -> NewVoice:
    return NewVoice(
        name=name,
        recording=recording,
        language=note.labels.get("language", ""),
        overwrite=overwrite,
    )


async def _all(runtime: Runtime) -> list[dict[str, Any]]:
    found = await describe_voices(runtime)
    notes = await runtime.in_voice_thread(_notes(runtime).all)
    return [_voice(info, notes.get(info.name)) for info in found]


def _voice(info: VoiceInfo, note: VoiceNote | None) -> dict[str, Any]:
    labels = {"language": info.language} if info.language else {}
    return {
        "voice_id": info.name,
        "name": info.name if note is None else note.name,
        "category": "premade" if info.builtin else "cloned",
        "labels": labels if note is None else {**labels, **note.labels},
        "description": None if note is None else note.description or None,
        "preview_url": None,
        "samples": None,
        "settings": _SETTINGS,
        "available_for_tiers": [],
        "high_quality_base_model_ids": [],
        "created_at_unix": _unix(info.created),
        "is_owner": not info.builtin,
    }


def _unix(day: str) -> int | None:
    try:
        return int(datetime.fromisoformat(day + "T00:00:00+00:00").timestamp())
    except ValueError:
        return None


def _fits(voice: dict[str, Any], query: Search) -> bool:
    texts = [voice["name"], voice["description"] or "", *voice["labels"].values()]
    wanted = (query.search or "").lower()
    is_found = any(wanted in text.lower() for text in texts)
    of_kind = query.category in (None, voice["category"])
    if query.voice_type in ("personal", "community", "default", "workspace", "non-default"):
        is_ours = query.voice_type in ("personal", "workspace", "non-default")
        of_kind = of_kind and voice["is_owner"] is is_ours
    is_named = query.voice_ids is None or voice["voice_id"] in query.voice_ids
    return is_found and of_kind and is_named


def _token(start: int) -> str:
    return base64.urlsafe_b64encode(str(start).encode()).decode()


def _start(token: str | None) -> int:
    if not token:
        return 0
    try:
        return max(int(base64.urlsafe_b64decode(token.encode()).decode()), 0)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError(
            "next_page_token is none of ours", hint="send the one of the page before"
        ) from error


def _labels(text: str) -> dict[str, str]:
    if text in ("", "null"):  # their SDK sends the latter for none
        return {}
    try:
        labels = json.loads(text)
    except (ValueError, RecursionError):
        labels = None
    if not isinstance(labels, dict) or not all(isinstance(one, str) for one in labels.values()):
        raise InvalidRequestError(
            "labels are no JSON object of strings", hint='send for example {"accent": "british"}'
        )
    return labels


def _free(name: str, taken: set[str]) -> str:
    """The name, or with a number behind it if another voice has it."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name[:58]}_{number}"
    return free


async def _joined(runtime: Runtime, files: list[UploadFile]) -> bytes:
    """One recording of several, no longer than is useful."""
    uploads = [await file.read() for file in files]
    settings = runtime.settings

    def join() -> bytes:
        parts = [
            decode_upload(data, settings.max_upload_bytes, settings.max_upload_s)
            for data in uploads
        ]
        rate = parts[0].sample_rate
        samples = np.concatenate([resample(one.samples, one.sample_rate, rate) for one in parts])
        return encode_audio(Audio(samples[: int(_LONGEST_S * rate)], rate), "wav")

    return await runtime.in_voice_thread(join)


router = APIRouter()
router.include_router(api)
router.include_router(api, prefix=_PREFIX, include_in_schema=False)
