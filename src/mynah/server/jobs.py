"""Long texts and batches: spoken one after the other when there is time, and kept as files."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from mynah.audio import pcm
from mynah.audio.encoders import FORMATS
from mynah.errors import OverloadedError
from mynah.server.errors import ConflictError, DrainingError, NotFoundError
from mynah.server.job_store import Job, JobStore
from mynah.server.parameters import Encoding, SpeechParameters
from mynah.server.runtime import Runtime
from mynah.server.speech import encoded, find_voice, speak, speak_options
from mynah.server.spoken import check_length

_log = logging.getLogger("mynah.server")
_PIECE_MS = 1000
_SHOWN = 200


class Jobs:
    """The queue of a server, and the task that works it off."""

    def __init__(self, runtime: Runtime) -> None:
        """Open the queue; nothing runs before ``start``.

        Raises:
            ConflictError: if another server works through it.
        """
        self._runtime = runtime
        self._folder = runtime.settings.data_path / "jobs"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._store = JobStore(runtime.settings.data_path / "jobs.sqlite3")
        self._more = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._running: tuple[str, asyncio.Task[None]] | None = None
        self._progress: dict[str, float] = {}

    def start(self) -> None:
        """Begin to work, with what an earlier server left."""
        self._worker = asyncio.create_task(self._work())
        self._runtime.on_drain.append(self._interrupt)
        self._runtime.waiting_jobs = self._store.waiting

    async def stop(self) -> None:
        """Stop; what runs will be begun again by the next server."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self._runtime.waiting_jobs = None
        self._store.close()

    async def submit(
        self, requests: Sequence[tuple[SpeechParameters, Encoding]], owner: str
    ) -> list[Job]:
        """Check requests and queue them as one batch.

        Raises:
            SynthesisError: if one of them is wrong; then none is queued.
            OverloadedError: if too many jobs wait.
        """
        if self._runtime.is_draining:
            raise DrainingError("the server is about to stop", hint="try again in a moment")
        for parameters, encoding in requests:
            await self._check(parameters, encoding)
        waiting = await asyncio.to_thread(self._store.waiting)
        if waiting + len(requests) > self._runtime.settings.max_jobs:
            raise OverloadedError(
                f"{waiting} jobs wait already, the limit is {self._runtime.settings.max_jobs}",
                hint="try again when some are done",
                retry_after_s=60.0,
            )
        batch, now = secrets.token_hex(16), self._store.now()
        jobs = [
            Job(
                id=secrets.token_hex(16),
                owner=owner,
                batch=batch,
                state="queued",
                created=now + 1e-6 * index,  # the order within a batch
                ended=None,
                parameters=parameters.model_dump_json(),
                encoding=encoding.model_dump_json(),
                characters=len(parameters.text),
            )
            for index, (parameters, encoding) in enumerate(requests)
        ]
        await asyncio.to_thread(self._store.add, jobs)
        self._more.set()
        return jobs

    async def get(self, name: str, owner: str) -> Job:
        """Look a job up.

        Raises:
            NotFoundError: if the owner has none of that id.
        """
        job = await asyncio.to_thread(self._store.get, name)
        if job is None or job.owner != owner:
            raise NotFoundError("there is no such job", hint="see GET /jobs for those there are")
        return job

    async def of(self, owner: str, batch: str | None = None) -> list[Job]:
        """The newest jobs of an owner, or those of a batch in their order."""
        return await asyncio.to_thread(self._store.of, owner, batch, _SHOWN)

    def progress(self, job: Job) -> float:
        """Share of its text that was spoken, 0 to 1."""
        return 1.0 if job.state == "done" else self._progress.get(job.id, 0.0)

    async def cancel(self, name: str, owner: str) -> Job:
        """End a job now, whether it waits or runs. Harmless to repeat.

        Raises:
            NotFoundError: if the owner has none of that id.
        """
        await self.get(name, owner)
        await asyncio.to_thread(self._store.end, name, "cancelled")
        if self._running is not None and self._running[0] == name:
            self._running[1].cancel()
        return await self.get(name, owner)

    async def remove(self, name: str, owner: str) -> None:
        """Cancel a job and forget it and its audio."""
        job = await self.cancel(name, owner)
        await asyncio.to_thread(self._forget, job)

    async def result(self, name: str, owner: str) -> tuple[Path, Encoding]:
        """The finished audio of a job.

        Raises:
            NotFoundError: if the owner has none of that id.
            ConflictError: if it is not done.
        """
        job = await self.get(name, owner)
        if job.state != "done":
            raise ConflictError(
                f"the job is {job.state}",
                hint="wait until it is done" if not job.has_ended else "send it again",
            )
        encoding = Encoding.model_validate_json(job.encoding)
        return self._path(name, encoding), encoding

    async def _check(self, parameters: SpeechParameters, encoding: Encoding) -> None:
        runtime = self._runtime
        check_length(len(parameters.text), runtime.settings.max_job_characters)
        tts = await runtime.tts(parameters.model)
        encoding.open(tts.sample_rate)
        voice = await find_voice(runtime, tts, parameters)
        options = speak_options(tts, parameters)
        await runtime.in_voice_thread(lambda: tts.check(parameters.text, voice, **options))

    async def _work(self) -> None:
        while True:
            self._more.clear()
            await asyncio.to_thread(self._forget_old)
            job = None if self._runtime.is_draining else await asyncio.to_thread(self._store.take)
            if job is None:
                await self._more.wait()
                continue
            task = asyncio.create_task(self._run(job))
            self._running = (job.id, task)
            try:
                await asyncio.wait({task})
            finally:
                self._running = None
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                self._progress.pop(job.id, None)
                self._store.put_back(job.id)  # if it has not ended

    async def _run(self, job: Job) -> None:
        """Speak one job to its end, its failure, or its cancellation."""
        try:
            parameters = SpeechParameters.model_validate_json(job.parameters)
            encoding = Encoding.model_validate_json(job.encoding)
            await self._speak(job, parameters, encoding)
        except OverloadedError as error:
            await asyncio.sleep(error.retry_after_s)  # then it is taken again
        except Exception as error:  # noqa: BLE001 - kept for whoever asks
            problem = self._runtime.problem(error)
            _log.warning("job %s failed: %s", job.id, problem.code)
            await asyncio.to_thread(
                self._store.end,
                job.id,
                "failed",
                error=problem.code,
                message=problem.message,
                solution=problem.solution,
            )

    async def _speak(self, job: Job, parameters: SpeechParameters, encoding: Encoding) -> None:
        runtime = self._runtime
        path = self._path(job.id, encoding)
        part = path.with_suffix(".part")
        try:
            async with await speak(
                runtime,
                parameters,
                protocol="job",
                in_time=False,
                whole=True,
                is_job=True,
            ) as spoken:
                encoder = encoding.open(spoken.sample_rate)
                framed = encoding.model_copy(update={"frame_ms": _PIECE_MS})
                # Opened and closed here, not in a thread: a cancelled wait would lose the file.
                with part.open("wb") as file:
                    async for piece in encoded(runtime, spoken, encoder, framed):
                        await asyncio.to_thread(file.write, piece)
                        self._progress[job.id] = spoken.progress
                    if encoding.format == "wav":
                        _complete_header(file, encoder.sample_rate)
                audio_s, seed = spoken.audio_s, spoken.seed
            await asyncio.to_thread(part.replace, path)
            ended = await asyncio.to_thread(
                self._store.end, job.id, "done", audio_s=audio_s, seed=seed
            )
            if not ended:  # cancelled in the last moment
                path.unlink(missing_ok=True)
        finally:
            part.unlink(missing_ok=True)

    def _interrupt(self) -> None:
        """The server is about to stop: a job can wait for the next one."""
        if self._running is not None:
            self._running[1].cancel()

    def _path(self, name: str, encoding: Encoding) -> Path:
        return self._folder / f"{name}{FORMATS[encoding.format].suffix}"

    def _forget_old(self) -> None:
        moment = self._store.now() - self._runtime.settings.keep_jobs_s
        for name in self._store.ended_before(moment):
            job = self._store.get(name)
            if job is not None:
                self._forget(job)

    def _forget(self, job: Job) -> None:
        with suppress(OSError):
            path = self._path(job.id, Encoding.model_validate_json(job.encoding))
            path.unlink(missing_ok=True)
            path.with_suffix(".part").unlink(missing_ok=True)  # of a server that was killed
        self._store.remove(job.id)


def _complete_header(file: BinaryIO, sample_rate: int) -> None:
    """The length of a WAV file is known now."""
    count = (file.tell() - pcm.WAV_HEADER_BYTES) // pcm.BYTES_PER_SAMPLE
    file.seek(0)
    file.write(pcm.wav_header(sample_rate, count))
