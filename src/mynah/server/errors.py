"""From exceptions to statuses and bodies: one table, and one body for the server's own protocol.

Other protocols have bodies of their own; their routers register a renderer for their paths.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from mynah import errors
from mynah.errors import SynthesisError

_log = logging.getLogger("mynah.server")


class RefusedError(SynthesisError):
    """The server does not take a request, whatever it says."""

    code = "refused"


class UnauthorizedError(RefusedError):
    """No API key, or a wrong one."""

    code = "unauthorized"


class ForbiddenError(RefusedError):
    """A caller that is not let in, such as a web page of another origin."""

    code = "forbidden"


class RateLimitedError(RefusedError):
    """Too many requests from one client; try again after ``retry_after_s`` seconds."""

    code = "rate_limited"

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class TooLargeError(RefusedError):
    """A request or upload has too many bytes."""

    code = "too_large"


class SlowRequestError(RefusedError):
    """A request did not arrive in time."""

    code = "request_timeout"


class NotFoundError(RefusedError):
    """Nothing of that name here."""

    code = "not_found"


class ConflictError(RefusedError):
    """Something is not in the state that the request needs."""

    code = "conflict"


class DrainingError(errors.OverloadedError):
    """The server is about to stop and takes no new work."""

    code = "draining"


STATUS: Mapping[type[SynthesisError], int] = {
    SynthesisError: 500,
    errors.InvalidRequestError: 400,
    errors.PromptAudioError: 400,
    errors.MarkupError: 400,
    errors.UnknownVoiceError: 404,
    errors.UnsupportedFeatureError: 400,
    errors.ModelError: 500,
    errors.ModelNotFoundError: 404,
    errors.ModelFormatError: 500,
    errors.ConversionError: 500,
    errors.ModelDownloadError: 502,
    errors.OfflineError: 503,
    errors.BackendError: 500,
    errors.BackendUnavailableError: 501,
    errors.GenerationError: 500,
    errors.GenerationLimitError: 500,
    errors.OutOfMemoryError: 503,
    errors.OutputError: 500,
    errors.OverloadedError: 503,
    errors.DeadlineError: 504,
    errors.CancelledError: 499,
    RefusedError: 400,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    RateLimitedError: 429,
    TooLargeError: 413,
    SlowRequestError: 408,
    NotFoundError: 404,
    ConflictError: 409,
    DrainingError: 503,
}
"""Status of every error class; a test fails when one is added without."""

_NO_OBJECT = ("model_attributes_type", "model_type", "dict_type")
"""Pydantic's types of error for what is no object; without the header a body is text."""
_PLAIN = {404: NotFoundError.code, 405: "method_not_allowed", 413: TooLargeError.code}


@dataclass(frozen=True)
class Problem:
    """An error as a client is told about it, in any protocol."""

    status: int
    code: str
    message: str
    solution: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    fields: Sequence[Mapping[str, Any]] = ()
    """Where a request did not fit its schema: ``loc``, ``msg`` and ``type`` of each place."""


Renderer: TypeAlias = Callable[[Problem, str], Response]
"""Makes a protocol's error response of a problem and the request id."""


def status_of(kind: type[SynthesisError]) -> int:
    """Status of an error class, or of the nearest class above it that is in the table."""
    return next(STATUS[base] for base in kind.__mro__ if base in STATUS)


def problem_of(error: BaseException) -> Problem:
    """Describe any exception; what is unexpected is logged and told to nobody.

    Of a group of exceptions the first one counts.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, HTTPException) and isinstance(error.__cause__, SynthesisError):
        error = error.__cause__  # raised while a body was read
    if isinstance(error, SynthesisError):
        retry_after_s = getattr(error, "retry_after_s", None)
        headers = {} if retry_after_s is None else {"Retry-After": str(math.ceil(retry_after_s))}
        if isinstance(error, TooLargeError | SlowRequestError):
            headers["Connection"] = "close"  # the rest of the body will not be read
        if isinstance(error, UnauthorizedError):
            headers["WWW-Authenticate"] = "Bearer"
        return Problem(
            status_of(type(error)),
            error.code,
            error.message,
            error.hint or _no_cure(error),
            headers,
        )
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        code = _PLAIN.get(error.status_code, "http_error")
        return Problem(
            error.status_code,
            code,
            str(error.detail),
            "see /openapi.json",
            dict(error.headers or {}),
        )
    if isinstance(error, MemoryError):
        return Problem(
            503,
            errors.OutOfMemoryError.code,
            "there was not enough memory for this request",
            "try again later, or send a shorter text",
            {"Retry-After": "10"},
        )
    # Only the kind and the place: a message may hold what the user wrote.
    _log.error("unexpected %s at %s", type(error).__name__, _place(error))
    return Problem(500, "internal", "something went wrong in the server", "try again")


def render(problem: Problem, request_id: str) -> Response:
    """The body of the server's own protocol."""
    body = {
        "error": problem.code,
        "message": problem.message,
        "solution": problem.solution,
        "request_id": request_id,
    }
    return JSONResponse(body, problem.status, dict(problem.headers))


def _invalid(error: RequestValidationError) -> Problem:
    fields = [
        {"loc": list(entry["loc"]), "msg": entry["msg"], "type": entry["type"]}
        for entry in error.errors()
    ]
    first = fields[0] if fields else {"loc": [], "msg": "it does not fit"}
    if first["loc"] == ["body"] and first.get("type") in _NO_OBJECT:
        return Problem(
            400,
            errors.InvalidRequestError.code,
            "the body is no JSON object",
            "send an object, with the header Content-Type: application/json",
            fields=fields,
        )
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    return Problem(
        400,
        errors.InvalidRequestError.code,
        f"{where}: {first['msg']}",
        "see /openapi.json for what each field takes",
        fields=fields,
    )


def _no_cure(error: SynthesisError) -> str:
    return "try again" if STATUS[type(error)] >= 500 else "change the request"


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "an unknown place"
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
