"""HTTP answers that are sent while they are made, and end when the client leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mynah.audio import pcm
from mynah.audio.encoders import StreamEncoder
from mynah.errors import CancelledError
from mynah.server.errors import Problem
from mynah.server.parameters import Encoding, Manner, SpeechParameters
from mynah.server.runtime import Runtime
from mynah.server.speech import encoded, speak
from mynah.server.spoken import SpokenStream

T = TypeVar("T")

_log = logging.getLogger("mynah.server")
NOT_BUFFERED = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Wait for ``work``, and cancel it if the client leaves first.

    Raises:
        CancelledError: if the client left.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(_departure(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise CancelledError("the client left before there was an answer")
    finally:
        await _cancelled(gone)
        await _cancelled(task)


class LiveResponse(Response):
    """Sends the pieces of an iterator; whatever happens, ``close`` is awaited in the end.

    What goes wrong after the first byte cannot change the status: ``last_words`` may put it into
    the stream, and the connection is closed without the end of the body, so that the client
    knows.
    """

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        close: Callable[[], Awaitable[None]],
        *,
        runtime: Runtime,
        media_type: str,
        headers: Mapping[str, str] | None = None,
        last_words: Callable[[Problem], bytes] | None = None,
    ) -> None:
        """Begin nothing yet; ``runtime`` counts what goes wrong, as no status tells it."""
        self._pieces, self._close = pieces, close
        self._stall_s, self._last_words = runtime.settings.stall_s, last_words
        self._problem = runtime.problem
        self.status_code = 200
        self.background = None
        self.body = b""
        self.media_type = media_type or None
        self.charset = "utf-8"
        self.init_headers({**NOT_BUFFERED, **(headers or {})})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, or until the client leaves."""
        writing = asyncio.create_task(self._write(send))
        gone = asyncio.create_task(_departure(receive))
        try:
            await asyncio.wait({writing, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancelled(gone)
            await _cancelled(writing)
            await self._close()

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        ending = b""
        try:
            async for piece in self._pieces:
                await self._send(send, piece, more=True)
        except TimeoutError:
            _log.info("a client stopped reading for %g s and was let go", self._stall_s)
            return
        except Exception as error:  # noqa: BLE001 - the client is told, or the connection ends
            problem = self._problem(error)
            _log.warning("a stream ended early: %s", problem.code)
            if self._last_words is None:
                return
            ending = self._last_words(problem)
        await self._send(send, ending, more=False)

    async def _send(self, send: Send, data: bytes, *, more: bool) -> None:
        async with asyncio.timeout(self._stall_s):
            await send({"type": "http.response.body", "body": data, "more_body": more})


async def spoken_response(
    request: Request,
    runtime: Runtime,
    parameters: SpeechParameters,
    encoding: Encoding,
    *,
    protocol: str,
    media_type: str | None = None,
    headers: Mapping[str, str] | None = None,
    whole: bool = False,
    in_time: bool = True,
) -> Response:
    """Speak, and send the audio while it is made.

    Everything that is wrong with the request is raised here, before a status is sent.

    Args:
        request: whose client may leave.
        runtime: of the server.
        parameters: what to say.
        encoding: what the client gets.
        protocol: for the statistics.
        media_type: instead of the format's own; "" = tell none.
        headers: besides those of ``audio_headers``.
        whole, in_time: see ``speak``.
    """
    spoken, encoder = await begin(
        request, runtime, parameters, encoding, protocol=protocol, whole=whole, in_time=in_time
    )
    return LiveResponse(
        encoded(runtime, spoken, encoder, encoding),
        spoken.aclose,
        runtime=runtime,
        media_type=encoding.content_type if media_type is None else media_type,
        headers={**audio_headers(spoken, encoder, parameters), **(headers or {})},
    )


async def whole_response(
    request: Request,
    runtime: Runtime,
    parameters: SpeechParameters,
    encoding: Encoding,
    *,
    protocol: str,
    media_type: str | None = None,
    headers: Mapping[str, str] | None = None,
    in_time: bool = False,
) -> Response:
    """Speak, and send the complete file; see ``spoken_response``."""
    audio, facts = await while_connected(
        request,
        whole_audio(runtime, parameters, encoding, protocol=protocol, in_time=in_time),
    )
    return Response(
        audio,
        media_type=media_type or encoding.content_type,
        headers={"Cache-Control": "no-store", **facts, **(headers or {})},
    )


async def whole_audio(
    runtime: Runtime,
    parameters: SpeechParameters,
    encoding: Encoding,
    *,
    protocol: str,
    in_time: bool = False,
) -> tuple[bytes, dict[str, str]]:
    """Return a complete file and its headers."""
    model = await runtime.tts(parameters.model)
    encoder = encoding.open(model.sample_rate)
    async with await speak(
        runtime, parameters, protocol=protocol, in_time=in_time, whole=True
    ) as spoken:
        pieces = [piece async for piece in encoded(runtime, spoken, encoder, encoding)]
        facts = audio_headers(spoken, encoder, parameters)
    return complete(b"".join(pieces), encoding, encoder), facts


def complete(data: bytes, encoding: Encoding, encoder: StreamEncoder) -> bytes:
    """A stream that has ended as a file: the header of WAV tells the true length."""
    if encoding.format != "wav":
        return data
    samples = data[pcm.WAV_HEADER_BYTES :]
    count = len(samples) // pcm.BYTES_PER_SAMPLE
    return pcm.wav_header(encoder.sample_rate, count) + samples


async def begin(
    request: Request,
    runtime: Runtime,
    parameters: SpeechParameters,
    encoding: Encoding,
    *,
    protocol: str,
    whole: bool = False,
    in_time: bool = True,
) -> tuple[SpokenStream, StreamEncoder]:
    """Start a speech and wait for its first audio; see ``spoken_response``."""

    async def start() -> tuple[SpokenStream, StreamEncoder]:
        model = await runtime.tts(parameters.model)
        encoder = encoding.open(model.sample_rate)  # a wrong format should cost nothing
        spoken = await speak(runtime, parameters, protocol=protocol, whole=whole, in_time=in_time)
        try:
            await spoken.first()
        except BaseException:
            await spoken.aclose()
            raise
        return spoken, encoder

    return await while_connected(request, start())


def audio_headers(
    spoken: SpokenStream, encoder: StreamEncoder, manner: Manner | None = None
) -> dict[str, str]:
    """What a client may want to know of the audio."""
    headers = {
        "X-Sample-Rate": str(encoder.sample_rate),
        "X-Channels": "1",
        "X-Seed": str(spoken.seed),
        "X-Voice": spoken.voice,
        "X-Model": spoken.model,
    }
    strength = None if manner is None else manner.strength_used
    return headers if strength is None else {**headers, "X-Emotion-Strength": f"{strength:g}"}


async def _departure(receive: Receive) -> None:
    """Wait until the client leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancelled(task: asyncio.Future[T]) -> None:
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
