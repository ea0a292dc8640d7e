"""The voices of the server: list, describe, make, remove."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, UploadFile
from pydantic import BaseModel, Field

from mynah.server import voices
from mynah.server.depends import RuntimeHere
from mynah.server.voices import NewVoice, facts, verdict

router = APIRouter(prefix="/voices", tags=["voices"])


class VoiceFacts(BaseModel):
    """What is known of a voice."""

    name: str
    builtin: bool
    """Whether it comes with the model; others can be removed."""
    model: str
    """The model that it was made with."""
    language: str
    transcript: str
    licence: str
    consent: str
    """Who agreed to what."""
    created: str
    has_recording: bool
    """Whether other models can use it, too."""


class VoiceList(BaseModel):
    """All voices that a model can use."""

    default: str | None
    voices: list[VoiceFacts]


class RecordingReport(BaseModel):
    """What the checks measured."""

    duration_s: float
    sound_s: float
    sample_rate: float
    peak: float
    level_db: float
    snr_db: float
    clipped_share: float


class NewVoiceAnswer(VoiceFacts):
    """A voice that was made, and what its recording is like."""

    report: RecordingReport


class RecordingForm(BaseModel):
    """A recording to be checked."""

    recording: UploadFile = Field(description="1 to 30 s of one person, at 16 kHz or more.")


class VoiceForm(RecordingForm):
    """A voice to be made."""

    name: str = Field(min_length=1, max_length=64)
    transcript: str = Field(default="", description="The words of the recording.")
    language: str = ""
    licence: str = ""
    consent: str = Field(default="", description="Who agreed to what: kept with the voice.")
    model: str | None = None
    overwrite: bool = False


@router.get("")
async def list_voices(runtime: RuntimeHere, model: str | None = None) -> VoiceList:
    """List the voices that a model can use."""
    found = await voices.describe_voices(runtime, model)
    tts = await runtime.tts(model)
    names = [info.name for info in found]
    default = tts.config.default_voice
    return VoiceList(
        default=default if default in names else next(iter(names), None),
        voices=[VoiceFacts(**facts(info)) for info in found],
    )


@router.post("", status_code=201)
async def create_voice(
    form: Annotated[VoiceForm, Form(media_type="multipart/form-data")], runtime: RuntimeHere
) -> NewVoiceAnswer:
    """Make a voice of a recording and keep it.

    Use only recordings of people who agreed to be imitated, and say so in ``consent``.
    """
    wish = NewVoice(
        name=form.name,
        recording=await form.recording.read(),
        transcript=form.transcript,
        language=form.language,
        licence=form.licence,
        consent=form.consent,
        model=form.model or None,
        overwrite=form.overwrite,
    )
    made = await voices.make_voice(runtime, wish)
    report = RecordingReport(**verdict(made.report))
    return NewVoiceAnswer(**facts(made.info), report=report)


@router.post("/check")
async def check_recording(
    form: Annotated[RecordingForm, Form(media_type="multipart/form-data")], runtime: RuntimeHere
) -> RecordingReport:
    """Measure a recording without making a voice; an error says why it could not become one."""
    report = await voices.check_recording(runtime, await form.recording.read())
    return RecordingReport(**verdict(report))


@router.get("/{name}")
async def show_voice(name: str, runtime: RuntimeHere, model: str | None = None) -> VoiceFacts:
    """Describe one voice."""
    return VoiceFacts(**facts(await voices.show_voice(runtime, name, model)))


@router.delete("/{name}", status_code=204)
async def remove_voice(name: str, runtime: RuntimeHere, model: str | None = None) -> None:
    """Remove a voice that was made here."""
    await voices.remove_voice(runtime, name, model)
