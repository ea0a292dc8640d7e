"""Figures for Prometheus, and what listeners think of the speech."""

from __future__ import annotations

import logging
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection

from mynah.server.metrics import Metrics
from mynah.server.runtime import Runtime

router = APIRouter(tags=["operation"])
_log = logging.getLogger("mynah.server.ratings")

Tag = Literal[
    "wrong_words",
    "pronunciation",
    "robotic",
    "noise",
    "pauses",
    "speed",
    "volume",
    "unlike_voice",
    "cut_off",
    "gaps",
    "late",
]
"""What can be named besides a score. Not words of one's own: nothing that users write is kept."""


class RatingBody(BaseModel):
    """What a listener thinks of one request's speech."""

    model_config = ConfigDict(extra="forbid")

    request_id: str = Field(
        pattern=r"^[A-Za-z0-9._:-]{1,128}$", description="X-Request-ID of the answer."
    )
    score: int = Field(ge=1, le=5, description="1 = bad, 5 = excellent.")
    tags: list[Tag] = Field(default_factory=list, max_length=11)


class Rating(BaseModel):
    """A rating that was counted."""

    request_id: str
    score: int
    model: str | None
    """None = this server does not remember the request."""


def setup(app: FastAPI, runtime: Runtime) -> None:
    """Count from now on."""
    app.state.metrics = Metrics(runtime)


def get_metrics(connection: HTTPConnection) -> Metrics:
    """The server's metrics."""
    metrics: Metrics = connection.app.state.metrics
    return metrics


MetricsHere = Annotated[Metrics, Depends(get_metrics)]


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def show_metrics(metrics: MetricsHere) -> Response:
    """Figures in Prometheus' text format. Needs an API key if the server has any."""
    return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.post("/ratings", status_code=201)
async def rate(body: RatingBody, metrics: MetricsHere) -> Rating:
    """Rate the speech of one request, once. It is counted, and logged with the request's id."""
    model = metrics.rate(body.request_id, body.score, body.tags)
    _log.info(
        "request %s was rated %d",
        body.request_id,
        body.score,
        extra={"rated": body.request_id, "score": body.score, "tags": body.tags, "model": model},
    )
    return Rating(request_id=body.request_id, score=body.score, model=model or None)
