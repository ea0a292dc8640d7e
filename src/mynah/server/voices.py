"""Voices for every protocol: made of an upload, described, removed."""

from __future__ import annotations

import asyncio
import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from mynah.api import TTS
from mynah.audio.quality import PromptReport, check_prompt
from mynah.errors import InvalidRequestError, UnknownVoiceError
from mynah.pipeline.voices import VoiceInfo
from mynah.server.runtime import Runtime
from mynah.server.uploads import decode_upload
from mynah.types import Voice, check_voice_name

_NOT_IN_NAMES = re.compile(r"[^\w-]+")
_LONGEST_NAME = 64
_LONGEST_NOTE = 2000


@dataclass(frozen=True)
class NewVoice:
    """What a client sends to have a voice made."""

    name: str
    recording: bytes
    transcript: str = ""
    language: str = ""
    licence: str = ""
    consent: str = ""
    """Who agreed to what."""
    model: str | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class MadeVoice:
    """A voice that is kept now, and what its recording is like."""

    info: VoiceInfo
    report: PromptReport


def usable_name(wish: str) -> str:
    """Turn what a person calls a voice into a name that it can have.

    Raises:
        InvalidRequestError: if nothing is left of it.
    """
    return check_voice_name(_NOT_IN_NAMES.sub("_", wish.strip()).strip("_-")[:_LONGEST_NAME])


async def make_voice(runtime: Runtime, wish: NewVoice) -> MadeVoice:
    """Check a recording, make a voice of it and keep it.

    Raises:
        TooLargeError, PromptAudioError: if the recording is unsuitable, with the measured value.
        InvalidRequestError: if the name is taken or impossible, or a note is too long.
        UnsupportedFeatureError: if the model cannot make voices.
    """
    check_voice_name(wish.name)
    for what in ("transcript", "licence", "consent"):
        if len(getattr(wish, what)) > _LONGEST_NOTE:
            raise InvalidRequestError(
                f"the {what} has more than {_LONGEST_NOTE} characters", hint="shorten it"
            )
    tts = await runtime.tts(wish.model)
    made = await runtime.in_voice_thread(lambda: _make(runtime, tts, wish))
    return made


async def check_recording(runtime: Runtime, recording: bytes) -> PromptReport:
    """Say whether a recording could become a voice, without making one.

    Raises:
        TooLargeError, PromptAudioError: if it could not, with the measured value.
    """
    settings = runtime.settings

    def check() -> PromptReport:
        audio = decode_upload(recording, settings.max_upload_bytes, settings.max_upload_s)
        return check_prompt(audio, name="the recording")

    return await runtime.in_voice_thread(check)


async def describe_voices(runtime: Runtime, model: str | None = None) -> list[VoiceInfo]:
    """Describe the voices that a model can use."""
    tts = await runtime.tts(model)
    found = await asyncio.to_thread(tts.voices.describe)
    return [info for info in found if not info.problem]


async def show_voice(runtime: Runtime, name: str, model: str | None = None) -> VoiceInfo:
    """Describe one voice.

    Raises:
        UnknownVoiceError: if there is none of that name.
    """
    tts = await runtime.tts(model)
    return await asyncio.to_thread(lambda: tts.voices.show(_safe(name)))


async def remove_voice(runtime: Runtime, name: str, model: str | None = None) -> None:
    """Delete one of the user's voices.

    Raises:
        UnknownVoiceError: if there is none of that name.
        InvalidRequestError: if it comes with the model.
    """
    tts = await runtime.tts(model)
    await asyncio.to_thread(lambda: tts.voices.remove(_safe(name)))


def facts(info: VoiceInfo) -> dict[str, Any]:
    """What clients may know of a voice: no path."""
    return {
        "name": info.name,
        "builtin": info.builtin,
        "model": info.model_id,
        "language": info.language,
        "transcript": info.transcript,
        "licence": info.licence,
        "consent": info.consent,
        "created": info.created,
        "has_recording": info.has_recording,
    }


def verdict(report: PromptReport) -> dict[str, float]:
    """The measured properties of a recording, rounded for people."""
    return {name: round(float(value), 4) for name, value in asdict(report).items()}


def _make(runtime: Runtime, tts: TTS, wish: NewVoice) -> MadeVoice:
    settings = runtime.settings
    audio = decode_upload(wish.recording, settings.max_upload_bytes, settings.max_upload_s)
    report = check_prompt(audio, name="the recording")
    _require_free(tts, wish)
    voice: Voice = tts.create_voice(
        audio,
        wish.transcript,
        name="recording",
        language=wish.language,
        licence=wish.licence,
        consent=wish.consent,
    )
    tts.voices.add(replace(voice, name=wish.name), overwrite=wish.overwrite)
    return MadeVoice(tts.voices.show(wish.name), report)


def _require_free(tts: TTS, wish: NewVoice) -> None:
    """Refuse a name that is taken before the work is done."""
    if not wish.overwrite and wish.name in tts.voices.names():
        raise InvalidRequestError(
            f"there already is a voice {wish.name!r}",
            hint="choose another name, or remove it first",
        )


def _safe(name: str) -> str:
    try:
        return check_voice_name(name)
    except InvalidRequestError as error:
        raise UnknownVoiceError(error.message, hint=error.hint) from error
