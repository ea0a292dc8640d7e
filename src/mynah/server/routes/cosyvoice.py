"""The calls of CosyVoice's own FastAPI server: form fields, GET or POST, bare 16-bit samples.

The reference client sends its form as the body of a GET. Without ``response_format`` the answer is
what that client expects: no content type, no header, samples at the model's own rate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from mynah.server.depends import RuntimeHere
from mynah.server.errors import Problem
from mynah.server.numbers import Seed, Speed
from mynah.server.official import Call, OfficialRequest, parameters_of
from mynah.server.openapi import AUDIO
from mynah.server.parameters import Encoding
from mynah.server.runtime import Runtime
from mynah.server.streaming import spoken_response

router = APIRouter(tags=["CosyVoice"])

_DEFAULT_MODEL = "default"
_NO_TYPE = ""
_PREFIX = "/inference_"


class Sft(BaseModel):
    """Speak with a saved voice. The fields from ``stream`` on are additions."""

    tts_text: str = Field(min_length=1)
    spk_id: str
    stream: bool = Field(default=False, description="Send audio before a sentence is over.")
    speed: Speed = 1.0
    seed: Seed | None = None
    language: str = ""
    tts_model_name: str = _DEFAULT_MODEL
    response_format: Literal["wav", "pcm", "flac", "mp3", "opus", "aac", "mulaw", "alaw"] | None = (
        None
    )


class Instruct(Sft):
    """Speak with a saved voice as an instruction says."""

    instruct_text: str = Field(min_length=1)


class CrossLingual(Sft):
    """Speak with the voice of a recording, or with a saved one, in any language."""

    spk_id: str = ""
    prompt_wav: UploadFile | None = Field(default=None, description="A recording, 1 to 30 s.")


class ZeroShot(CrossLingual):
    """Go on with a recording whose words are known, or with a saved voice."""

    prompt_text: str = ""


class Instruct2(CrossLingual):
    """Speak with the voice of a recording as an instruction says."""

    instruct_text: str = Field(min_length=1)


def render_official(problem: Problem, request_id: str) -> Response:
    """FastAPI's own form where a field is wrong, with our explanation beside it."""
    body: dict[str, Any] = {
        "detail": list(problem.fields) or problem.message,
        "error": problem.code,
        "message": problem.message,
        "solution": problem.solution,
        "request_id": request_id,
    }
    status = 422 if problem.fields else problem.status
    return JSONResponse(body, status, dict(problem.headers))


ERROR_FORMS = {_PREFIX: render_official}


def _both(path: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Serve GET as well as POST, with the same body."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        options: dict[str, Any] = {"responses": AUDIO, "response_class": Response}
        router.get(_PREFIX + path, **options)(function)
        router.post(_PREFIX + path, **options)(function)
        return function

    return register


@_both("sft")
async def sft(form: Annotated[Sft, Form()], request: Request, runtime: RuntimeHere) -> Response:
    """Speak with a saved voice."""
    return await _answer("sft", form, request, runtime)


@_both("zero_shot")
async def zero_shot(
    form: Annotated[ZeroShot, Form(media_type="multipart/form-data")],
    request: Request,
    runtime: RuntimeHere,
) -> Response:
    """Go on with a recording whose words are known."""
    return await _answer("zero_shot", form, request, runtime)


@_both("cross_lingual")
async def cross_lingual(
    form: Annotated[CrossLingual, Form(media_type="multipart/form-data")],
    request: Request,
    runtime: RuntimeHere,
) -> Response:
    """Speak with the voice of a recording in any language."""
    return await _answer("cross_lingual", form, request, runtime)


@_both("instruct")
async def instruct(
    form: Annotated[Instruct, Form()], request: Request, runtime: RuntimeHere
) -> Response:
    """Speak with a saved voice as an instruction says."""
    return await _answer("instruct", form, request, runtime)


@_both("instruct2")
async def instruct2(
    form: Annotated[Instruct2, Form(media_type="multipart/form-data")],
    request: Request,
    runtime: RuntimeHere,
) -> Response:
    """Speak with the voice of a recording as an instruction says."""
    return await _answer("instruct2", form, request, runtime)


async def _answer(call: Call, form: Sft, request: Request, runtime: Runtime) -> Response:
    prompt: UploadFile | None = getattr(form, "prompt_wav", None)
    transcript: str = getattr(form, "prompt_text", "")
    if not form.spk_id:
        if isinstance(form, CrossLingual) and prompt is None:
            raise _missing("prompt_wav")
        if isinstance(form, ZeroShot) and not transcript:
            raise _missing("prompt_text")
    named = form.tts_model_name
    model = None if named in ("", _DEFAULT_MODEL) else named
    official = OfficialRequest(
        call=call,
        tts_text=form.tts_text,
        spk_id=form.spk_id,
        prompt_text=transcript,
        prompt_audio=b"" if prompt is None else await prompt.read(),
        instruct_text=getattr(form, "instruct_text", ""),
        speed=form.speed,
        seed=form.seed,
        language=form.language,
        model=model,
    )
    tts = await runtime.tts(model)
    return await spoken_response(
        request,
        runtime,
        parameters_of(tts, official),
        Encoding(format=form.response_format or "pcm"),
        protocol="cosyvoice",
        whole=not form.stream,
        media_type=_NO_TYPE if form.response_format is None else None,
    )


def _missing(name: str) -> RequestValidationError:
    entry = {"type": "missing", "loc": ("body", name), "msg": "Field required", "input": None}
    return RequestValidationError([entry])
