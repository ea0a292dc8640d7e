"""Long texts and batches: queued, spoken when there is time, fetched when done."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, FastAPI, Path, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from mynah.server.depends import RuntimeHere
from mynah.server.errors import ConflictError
from mynah.server.job_store import Job, State
from mynah.server.jobs import Jobs
from mynah.server.openapi import AUDIO
from mynah.server.routes.tts import SpeakBody, encoding_of, parameters_of
from mynah.server.runtime import Runtime
from mynah.server.security import key_of

router = APIRouter(tags=["jobs"])

_log = logging.getLogger("mynah.server")
_MAX_BATCH = 100
JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


class Batch(BaseModel):
    """Several texts; none is queued if one of them is wrong."""

    model_config = ConfigDict(extra="forbid")

    items: list[SpeakBody] = Field(min_length=1, max_length=_MAX_BATCH)


class JobFacts(BaseModel):
    """State of a job."""

    id: str
    batch: str
    """Shared by the jobs that came together."""
    state: State
    progress: float
    """Share of the text that was spoken, 0 to 1."""
    created: datetime
    ended: datetime | None
    characters: int
    audio_s: float
    seed: int | None
    error: str | None
    message: str | None
    solution: str | None


class JobList(BaseModel):
    """Jobs, the newest first."""

    jobs: list[JobFacts]


@asynccontextmanager
async def lifespan(app: FastAPI, runtime: Runtime) -> AsyncIterator[None]:
    """Work the queue off as long as the server lives."""
    app.state.jobs = None
    try:
        _open(app, runtime)
    except ConflictError as error:
        _log.warning("no jobs are taken: %s", error)
    try:
        yield
    finally:
        if app.state.jobs is not None:
            await app.state.jobs.stop()


@router.post("/jobs", status_code=202)
async def submit(body: SpeakBody, request: Request, runtime: RuntimeHere) -> JobFacts:
    """Queue a text of any length; ``stream`` and ``frame_ms`` mean nothing here."""
    return (await _submit(request, runtime, [body]))[0]


@router.post("/batches", status_code=202)
async def submit_batch(body: Batch, request: Request, runtime: RuntimeHere) -> JobList:
    """Queue several texts."""
    return JobList(jobs=await _submit(request, runtime, body.items))


@router.get("/jobs")
async def list_jobs(request: Request, batch: str | None = None) -> JobList:
    """List your newest jobs, or those of one batch in its order."""
    jobs = _jobs(request)
    return JobList(jobs=[_facts(jobs, job) for job in await jobs.of(_owner(request), batch)])


@router.get("/jobs/{job}")
async def show_job(job: JobId, request: Request) -> JobFacts:
    """Tell how far a job is."""
    jobs = _jobs(request)
    return _facts(jobs, await jobs.get(job, _owner(request)))


@router.get("/jobs/{job}/audio", responses=AUDIO, response_class=Response)
async def fetch_audio(job: JobId, request: Request) -> FileResponse:
    """Fetch the audio of a job that is done."""
    path, encoding = await _jobs(request).result(job, _owner(request))
    return FileResponse(path, media_type=encoding.content_type, filename=f"speech{path.suffix}")


@router.post("/jobs/{job}/cancel")
async def cancel_job(job: JobId, request: Request) -> JobFacts:
    """End a job now."""
    jobs = _jobs(request)
    return _facts(jobs, await jobs.cancel(job, _owner(request)))


@router.delete("/jobs/{job}", status_code=204)
async def remove_job(job: JobId, request: Request) -> None:
    """End a job and forget it and its audio."""
    await _jobs(request).remove(job, _owner(request))


async def _submit(request: Request, runtime: Runtime, bodies: list[SpeakBody]) -> list[JobFacts]:
    jobs = _jobs(request)
    wanted = [(parameters_of(body), encoding_of(body)) for body in bodies]
    return [_facts(jobs, job) for job in await jobs.submit(wanted, _owner(request))]


def _jobs(request: Request) -> Jobs:
    app: FastAPI = request.app
    if app.state.jobs is None:  # the server that had them may have ended
        _open(app, app.state.runtime)
    jobs: Jobs = app.state.jobs
    return jobs


def _open(app: FastAPI, runtime: Runtime) -> None:
    jobs = Jobs(runtime)
    jobs.start()
    app.state.jobs = jobs


def _owner(request: Request) -> str:
    """Jobs belong to the key that they came with, where the server asks for one."""
    key = key_of(request.headers)
    if key is None or not request.app.state.runtime.settings.api_keys:
        return ""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _facts(jobs: Jobs, job: Job) -> JobFacts:
    return JobFacts(
        id=job.id,
        batch=job.batch,
        state=job.state,
        progress=round(jobs.progress(job), 4),
        created=datetime.fromtimestamp(job.created, UTC),
        ended=None if job.ended is None else datetime.fromtimestamp(job.ended, UTC),
        characters=job.characters,
        audio_s=round(job.audio_s, 3),
        seed=job.seed,
        error=job.error or None,
        message=job.message or None,
        solution=job.solution or None,
    )
