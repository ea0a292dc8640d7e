"""Whether the server lives, and whether it can serve."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from mynah import __version__
from mynah.server.depends import RuntimeHere
from mynah.server.runtime import Runtime

router = APIRouter(tags=["health"])
OPEN_PATHS = ("/health", "/live", "/ready")


class Health(BaseModel):
    """State of the server."""

    status: Literal["ok", "loading", "draining", "failed"]
    version: str
    model: str | None
    """The default model."""
    models_loaded: list[str]
    active: int
    """Speeches that are running."""
    problem: str | None = None


@router.get("/live")
async def live() -> dict[str, str]:
    """Answer as long as the process works; restart it if there is no answer."""
    return {"status": "ok"}


@router.get("/ready", responses={503: {"model": Health}})
async def ready(runtime: RuntimeHere, response: Response) -> Health:
    """Whether requests should be sent here: 503 while the model loads, and before the end."""
    health = _health(runtime)
    if health.status != "ok":
        response.status_code = 503
    return health


@router.get("/health", responses={503: {"model": Health}})
async def health(runtime: RuntimeHere, response: Response) -> Health:
    """Describe the server; 503 if the model cannot be loaded."""
    health = _health(runtime)
    if health.status == "failed":
        response.status_code = 503
    return health


def _health(runtime: Runtime) -> Health:
    names = runtime.model_names()
    loaded = [name for name in names if runtime.loaded(name) is not None]
    is_loaded = bool(names) and names[0] in loaded
    state: Literal["ok", "loading", "draining", "failed"] = "ok" if is_loaded else "loading"
    if runtime.is_draining:
        state = "draining"
    elif runtime.load_error is not None and not is_loaded:
        state = "failed"
    return Health(
        status=state,
        version=__version__,
        model=names[0] if names else None,
        models_loaded=loaded,
        active=runtime.active,
        problem=None if runtime.load_error is None or is_loaded else runtime.load_error.code,
    )
