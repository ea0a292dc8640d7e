"""The description of the API, made to say what the server does."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from mynah.audio.encoders import FORMATS

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_TYPES = sorted({kind.content_type for kind in FORMATS.values()} | {"audio/opus"})
AUDIO: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The audio.",
        "content": dict.fromkeys(_TYPES, _BINARY),
        "headers": {
            name: {"description": text, "schema": {"type": kind}}
            for name, text, kind in (
                ("X-Sample-Rate", "Samples per second.", "integer"),
                ("X-Channels", "Always 1.", "integer"),
                ("X-Seed", "The same request with it gives the same samples.", "integer"),
                ("X-Voice", "Name of the voice.", "string"),
                ("X-Model", "Name of the model.", "string"),
                ("X-Emotion-Strength", "What was used, 0 or 1, where one was asked.", "number"),
            )
        },
    }
}
"""Responses of a route that speaks."""
AUDIO_OR_EVENTS: dict[int | str, dict[str, Any]] = {
    200: AUDIO[200] | {"content": AUDIO[200]["content"] | {"text/event-stream": {}}}
}
"""The same for a route that can send the audio as server-sent events."""

_ERROR = {
    "type": "object",
    "required": ["error", "message", "solution", "request_id"],
    "properties": {
        "error": {"type": "string", "description": "A code for programs."},
        "message": {"type": "string", "description": "What is wrong."},
        "solution": {"type": "string", "description": "What helps."},
        "request_id": {"type": "string"},
    },
}
_STATUSES = {
    "400": "The request is wrong.",
    "401": "An API key is needed.",
    "403": "This caller is not let in.",
    "404": "No such voice, model or job.",
    "408": "The request came too slowly.",
    "409": "Not possible in this state.",
    "413": "The request is too large.",
    "429": "Too many requests; see Retry-After.",
    "500": "The speech failed.",
    "501": "A part that is needed is not installed.",
    "503": "No capacity now; see Retry-After.",
    "504": "The request took too long.",
}
_METHODS = ("get", "post", "put", "patch", "delete")


def describe(app: FastAPI, own_errors: dict[str, str]) -> None:
    """Let ``app.openapi()`` tell the errors that there really are.

    Args:
        app: whose routes are complete.
        own_errors: path prefix -> name of the error form, where it is not the server's own.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            document.setdefault("components", {}).setdefault("schemas", {})["Error"] = _ERROR
            for path, operations in document["paths"].items():
                form = next((own_errors[p] for p in own_errors if path.startswith(p)), None)
                for method in _METHODS:
                    if method in operations:
                        _set_errors(operations[method], form)
            document["components"]["securitySchemes"] = {
                "key": {"type": "http", "scheme": "bearer"},
            }
            # Without keys on the server none is needed.
            document["security"] = [{}, {"key": []}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI documents it


def _set_errors(operation: dict[str, Any], form: str | None) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    schema: dict[str, Any] = {"$ref": "#/components/schemas/Error"}
    if form is not None:
        schema = {"type": "object", "description": f"An error in the form of {form}."}
    for status, text in _STATUSES.items():
        if status not in responses:
            responses[status] = {
                "description": text,
                "content": {"application/json": {"schema": schema}},
            }
    if form is not None:
        responses["422"] = {
            "description": "The request does not fit.",
            "content": {"application/json": {"schema": schema}},
        }
