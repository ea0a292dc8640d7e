"""What OpenAI's clients send and expect: parameters, names, errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

from mynah.api import TTS
from mynah.errors import UnsupportedFeatureError
from mynah.server.errors import Problem
from mynah.server.hosted import own_model, own_voice
from mynah.server.numbers import Seed, Speed, Strength, TopK, TopP
from mynah.server.parameters import Encoding, Lexicon, SpeechParameters, Timeout
from mynah.server.runtime import Runtime
from mynah.server.uploads import decode_base64
from mynah.types import Mode

PCM_RATE = 24_000
"""What clients take ``pcm`` for, whatever the model."""
FIRST_MODELS = ("tts-1", "tts-1-hd")
"""Known to take neither instructions nor events."""
_HOSTED_MODEL = re.compile(r"tts-1(-hd)?(-\d+)?|gpt-4o-mini-tts(-[\d-]+)?")
_PLAIN_FIELD = re.compile(r"\w{1,40}", re.ASCII)
_LANGUAGES = {
    "english": "en", "chinese": "zh", "mandarin": "zh", "cantonese": "yue",
    "japanese": "ja", "korean": "ko",
}  # fmt: skip


class VoiceReference(BaseModel):
    """A voice by its id."""

    id: str


class SpeechFields(BaseModel):
    """Everything but the text. Fields that are not known are ignored and named in a header."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    voice: str | VoiceReference | None = None
    instructions: str | None = None
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: Speed = Field(default=1.0, strict=True)
    stream_format: Literal["audio", "sse"] = "audio"
    language: str | None = Field(default=None, description="Code or name; Auto = from the text.")
    seed: Seed | None = Field(default=None, strict=True)
    ref_audio: str | None = Field(default=None, description="A recording, base64 or data URL.")
    ref_text: str | None = None
    x_vector_only_mode: bool = Field(
        default=False,
        strict=True,
        description="Take the sound of the recording only, not its manner: sft.",
    )
    mode: Mode | None = None
    emotion: str | None = None
    emotion_strength: Strength = Field(default=1.0, strict=True)
    dialect: str | None = None
    style: str | None = None
    normalize: bool = Field(default=True, strict=True)
    top_p: TopP | None = Field(default=None, strict=True)
    top_k: TopK | None = Field(default=None, strict=True)
    lexicon: Lexicon | None = None
    timeout_s: Timeout | None = Field(default=None, strict=True)


class SpeechBody(SpeechFields):
    """A request to speak."""

    input: str = Field(min_length=1, examples=["Good morning."])


def render_openai(problem: Problem, request_id: str) -> Response:
    """An error as OpenAI's clients expect it: all four keys, whatever happened."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = "server_error" if problem.status >= 500 else "invalid_request_error"
    param = next((str(f["loc"][-1]) for f in problem.fields if f["loc"]), None)
    return JSONResponse(
        {"error": error_of(problem, kinds.get(problem.status, kind), param)},
        problem.status,
        dict(problem.headers),
    )


async def parameters_of(runtime: Runtime, body: SpeechBody) -> SpeechParameters:
    """What a body asks to be said.

    Raises:
        ModelNotFoundError: if there is no such model.
        PromptAudioError, UnsupportedFeatureError: if its recording is not base64.
    """
    model = hosted_or_own(runtime, body.model)
    tts = await runtime.tts(model)
    reference = None if not body.ref_audio else _reference(body.ref_audio)
    instruction = None if body.model in FIRST_MODELS else body.instructions or None
    return SpeechParameters(
        text=body.input,
        model=model,
        voice=None if reference else voice_named(runtime, tts, body.voice),
        reference_audio=reference,
        reference_text=body.ref_text or "" if reference else "",
        mode="sft" if body.x_vector_only_mode and body.mode is None else body.mode,
        instruction=instruction,
        emotion=body.emotion or None,
        emotion_strength=body.emotion_strength,
        dialect=body.dialect or None,
        style=body.style or None,
        language=language_of(body.language),
        speed=body.speed,
        seed=body.seed,
        normalize=body.normalize,
        top_p=body.top_p,
        top_k=body.top_k,
        lexicon=body.lexicon,
        timeout_s=body.timeout_s,
    )


def encoding_of(body: SpeechBody, frame_ms: int | None = None) -> Encoding:
    """What a body asks to get."""
    return Encoding(
        format=body.response_format,
        sample_rate=PCM_RATE if body.response_format == "pcm" else None,
        frame_ms=frame_ms,
    )


def usage_of(num_characters: int, audio_s: float, token_rate: int) -> Mapping[str, int]:
    """The counts that are expected with an answer: characters in, speech tokens out."""
    num_tokens = round(audio_s * token_rate)
    return {
        "input_tokens": num_characters,
        "output_tokens": num_tokens,
        "total_tokens": num_characters + num_tokens,
    }


def hosted_or_own(runtime: Runtime, name: str | None) -> str:
    """Name of our model that a client means; see ``own_model``."""
    return own_model(runtime, name, _HOSTED_MODEL)


def voice_named(runtime: Runtime, tts: TTS, voice: str | VoiceReference | None) -> str | None:
    """The voice that a client means; built-in names of its SDK may be aliases, never a fallback."""
    name = voice.id if isinstance(voice, VoiceReference) else voice
    return own_voice(runtime, tts, name) if name else None


def error_of(problem: Problem, kind: str, param: str | None) -> dict[str, Any]:
    """The inner part of an error body."""
    message = f"{problem.message} ({problem.solution})" if problem.solution else problem.message
    return {"message": message, "type": kind, "param": param, "code": problem.code}


def language_of(language: str | None) -> str | None:
    """A code for the code or name that a client sends; None = from the text."""
    if not language or language.lower() == "auto":
        return None
    return _LANGUAGES.get(language.lower(), language)


def ignored_fields(body: SpeechFields) -> dict[str, str]:
    """A header that names what was not understood."""
    names = sorted(name for name in body.model_extra or {} if _PLAIN_FIELD.fullmatch(name))
    return {"X-Ignored-Fields": ", ".join(names[:20])} if names else {}


def _reference(text: str) -> bytes:
    if text.split(":", 1)[0].lower() in ("http", "https", "file", "ftp"):
        raise UnsupportedFeatureError(
            "this server fetches no addresses for ref_audio",
            hint="send the recording itself, as base64 or a data URL",
        )
    return decode_base64(text)
