"""What ElevenLabs' HTTP and socket protocols have in common: formats, settings, alignments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from mynah.errors import UnsupportedFeatureError
from mynah.server.errors import Problem
from mynah.server.hosted import own_model, own_voice
from mynah.server.numbers import SaysRange, Speed
from mynah.server.parameters import Encoding
from mynah.server.pieces import Piece, characters
from mynah.server.runtime import Runtime

DEFAULT_FORMAT = "mp3_44100_128"
_RATES = (8000, 16000, 22050, 24000, 32000, 44100, 48000)
OUTPUT_FORMATS = (
    "mp3_22050_32",
    "mp3_24000_48",
    *(f"mp3_44100_{kbps}" for kbps in (32, 64, 96, 128, 192)),
    *(f"pcm_{rate}" for rate in _RATES),
    *(f"wav_{rate}" for rate in _RATES),
    *(f"opus_48000_{kbps}" for kbps in (32, 64, 96, 128, 192)),
    "ulaw_8000",
    "alaw_8000",
)
"""Values of ``output_format``: codec, rate, and kilobits per second."""

_CODECS = {"ulaw": "mulaw"}
_HOSTED_MODEL = re.compile(r"eleven_\w+")
_STATUS = {
    "unknown_voice": "voice_not_found",
    "unauthorized": "invalid_api_key",
    "overloaded": "system_busy",
    "draining": "system_busy",
    "rate_limited": "too_many_requests",
}
"""Their words for our codes; the other codes stay as they are."""


class VoiceSettings(BaseModel):
    """Only the speed means something here; the rest is accepted."""

    model_config = ConfigDict(extra="ignore")

    stability: float | None = None
    similarity_boost: float | None = None
    style: float | None = None
    use_speaker_boost: bool | None = None
    speed: Speed | None = None


TheirSeed: TypeAlias = Annotated[int, Field(ge=0, le=4_294_967_295), SaysRange()]
Normalization = Literal["auto", "on", "off"]


def encoding_of(output_format: str) -> Encoding:
    """Read a value of ``output_format``.

    Raises:
        UnsupportedFeatureError: if there is none such.
    """
    if output_format not in OUTPUT_FORMATS:
        raise UnsupportedFeatureError(
            f"there is no output_format {output_format[:40]!r}",
            hint=f"choose one of {', '.join(OUTPUT_FORMATS)}",
        )
    codec, rate, *kbps = output_format.split("_")
    return Encoding(
        format=_CODECS.get(codec, codec),
        sample_rate=int(rate),
        bit_rate=1000 * int(kbps[0]) if kbps else None,
    )


def model_of(runtime: Runtime, name: str | None) -> str:
    """Name of our model that a client means; see ``own_model``."""
    return own_model(runtime, name, _HOSTED_MODEL)


async def voice_of(runtime: Runtime, model: str, voice_id: str) -> str | None:
    """Name of the voice that a client means: ours, or an alias that the operator set."""
    if voice_id not in runtime.settings.voice_aliases:
        return voice_id
    tts = await runtime.tts(model)
    return await runtime.in_speaking_thread(lambda: own_voice(runtime, tts, voice_id))


def render_elevenlabs(problem: Problem, request_id: str) -> Response:
    """Their form of an error, with our explanation beside it."""
    status = 422 if problem.fields else problem.status
    return JSONResponse(error_body(problem, request_id), status, dict(problem.headers))


def error_body(problem: Problem, request_id: str) -> dict[str, Any]:
    """``detail`` is a list of places where the request is wrong, or a status and a message."""
    if problem.fields:
        return {"detail": list(problem.fields)}
    return {
        "detail": {
            "status": _STATUS.get(problem.code, problem.code),
            "message": problem.message,
            "code": problem.code,
            "solution": problem.solution,
            "request_id": request_id,
        }
    }


def alignment_in_seconds(pieces: Sequence[Piece]) -> dict[str, list[Any]] | None:
    """Estimated places of all characters in the whole audio; None = there are none."""
    spoken = [character for piece in pieces for character in characters(piece)]
    if not spoken:
        return None
    return {
        "characters": [character.text for character in spoken],
        "character_start_times_seconds": [round(one.start_s, 3) for one in spoken],
        "character_end_times_seconds": [round(one.end_s, 3) for one in spoken],
    }


def alignment_in_ms(piece: Piece) -> dict[str, list[Any]] | None:
    """Estimated places of a piece's characters in its own audio; None = there are none."""
    spoken = characters(piece)
    if not spoken:
        return None
    starts = [round(1000 * (one.start_s - piece.start_s)) for one in spoken]
    ends = [*starts[1:], round(1000 * piece.duration_s)]
    lengths = [end - start for start, end in zip(starts, ends, strict=True)]
    return {
        "chars": [one.text for one in spoken],
        "charStartTimesMs": starts,
        "charDurationsMs": lengths,
        "charsDurationsMs": lengths,  # as older documents and clients spell it
    }
