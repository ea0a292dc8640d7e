"""CosyVoice's gRPC service, see ``cosyvoice.proto``; official clients need not change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import numpy as np

from mynah.audio import pcm
from mynah.errors import DeadlineError, InvalidRequestError
from mynah.server.grpc_messages import METHOD, SERVICE, Request, Response
from mynah.server.official import OfficialRequest, parameters_of, sound_file
from mynah.server.parameters import SpeechParameters
from mynah.server.runtime import Runtime
from mynah.server.speech import speak
from mynah.server.spoken import SpokenStream
from mynah.types import FloatArray, check_speed

DEFAULT_PORT = 50000
_CALLS = {
    "sft_request": "sft",
    "zero_shot_request": "zero_shot",
    "cross_lingual_request": "cross_lingual",
    "instruct_request": "instruct",
    "instruct2_request": "instruct2",
}
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_KEEPALIVE_MS = 20_000
_ENVELOPE_BYTES = 1 << 20  # a request beside its recording
_log = logging.getLogger("mynah.server")


class GrpcServer:
    """A server that listens.

    Attributes:
        port: where.
    """

    def __init__(self, server: Any, port: int) -> None:
        """Take over a started server."""
        self._server, self.port = server, port

    async def aclose(self, grace_s: float = 0.0) -> None:
        """Take no new call, let those that run have ``grace_s``, then cancel them."""
        await self._server.stop(grace_s)


async def start_grpc(
    runtime: Runtime,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    max_concurrent: int | None = None,
) -> GrpcServer:
    """Begin to serve in the running event loop.

    Args:
        runtime: of the server.
        host: where to listen; the rules of ``ServerSettings.check_exposure`` are the caller's.
        port: 0 = any free one.
        max_concurrent: calls at the same time, further ones are refused; None = as many speeches
            as the settings allow.

    Raises:
        InvalidRequestError: if nobody can listen there.
    """
    settings = runtime.settings
    server = grpc.aio.server(
        maximum_concurrent_rpcs=max_concurrent or settings.max_sessions,
        options=(
            ("grpc.max_receive_message_length", settings.max_upload_bytes + _ENVELOPE_BYTES),
            ("grpc.so_reuseport", 0),
            # Finds out about clients that vanished without a word.
            ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE_MS),
        ),
    )
    handler = grpc.unary_stream_rpc_method_handler(
        _Servicer(runtime).inference,
        request_deserializer=Request.FromString,
        response_serializer=Response.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),)
    )
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(shown)
    except RuntimeError as error:
        raise InvalidRequestError(
            f"nobody can listen at {shown}", hint="choose another port for gRPC"
        ) from error
    await server.start()
    return GrpcServer(server, bound)


class _Servicer:
    """Answers calls."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def inference(self, message: Any, context: Any) -> None:
        """Speak one request; cancelled by gRPC when the client leaves or its deadline passes."""
        try:
            self._runtime.door.admit(_key(context), _address(context))
            async with self._begun(message, context.time_remaining()) as spoken:
                await context.send_initial_metadata(_facts(spoken))
                async for samples in _pieces(spoken, by_sentence=_wants_sentences(message)):
                    await self._write(context, Response(tts_audio=pcm.to_bytes(samples)))
        except Exception as error:  # noqa: BLE001 - the client is told as much as it may know
            await _abort(self._runtime, context, error)

    @asynccontextmanager
    async def _begun(self, message: Any, left_s: float | None) -> AsyncIterator[SpokenStream]:
        runtime = self._runtime
        request = _request(message)
        parameters = parameters_of(await runtime.tts(request.model), request)
        parameters = _in_time(parameters, left_s)
        async with await speak(runtime, parameters, protocol="grpc") as spoken:
            await spoken.first()
            yield spoken

    async def _write(self, context: Any, response: Any) -> None:
        """Send; a client that stops reading is let go."""
        stall_s = self._runtime.settings.stall_s
        try:
            async with asyncio.timeout(stall_s):
                await context.write(response)
        except TimeoutError:
            _log.info("a client stopped reading for %g s and was let go", stall_s)
            raise


async def _abort(runtime: Runtime, context: Any, error: Exception) -> None:
    if isinstance(error, TimeoutError):
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the client stopped reading")
    problem = runtime.problem(error)
    code = _CODES.get(problem.status, grpc.StatusCode.INTERNAL)
    if problem.code == "overloaded":
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
    trailer = [("mynah-error", problem.code)]
    retry_after = problem.headers.get("Retry-After")
    if retry_after is not None:
        trailer.append(("retry-after", retry_after))
    details = f"{problem.message} ({problem.solution})" if problem.solution else problem.message
    await context.abort(code, details, tuple(trailer))


def _request(message: Any) -> OfficialRequest:
    """Read a message.

    Raises:
        InvalidRequestError: if it asks for nothing, or a number is out of range.
    """
    kind = message.WhichOneof("RequestPayload")
    if kind is None:
        raise InvalidRequestError(
            "the request has no payload", hint=f"set one of {', '.join(_CALLS)}"
        )
    payload, options = getattr(message, kind), message.options
    return OfficialRequest(
        call=_CALLS[kind],  # type: ignore[arg-type]  # the table holds nothing else
        tts_text=payload.tts_text,
        spk_id=getattr(payload, "spk_id", ""),
        prompt_text=getattr(payload, "prompt_text", ""),
        prompt_audio=sound_file(getattr(payload, "prompt_audio", b"")),
        instruct_text=getattr(payload, "instruct_text", ""),
        speed=check_speed(options.speed) if options.HasField("speed") else 1.0,
        seed=options.seed if options.HasField("seed") else None,
        language=options.language,
        model=options.model or None,
        lexicon={entry.word: entry.said for entry in options.lexicon} or None,
        timeout_s=options.timeout_s if options.HasField("timeout_s") else None,
    )


def _in_time(parameters: SpeechParameters, left_s: float | None) -> SpeechParameters:
    """Let the deadline of the call count, too; ``left_s`` = None: it has none.

    Raises:
        DeadlineError: if it is too late already.
    """
    if left_s is None or (parameters.timeout_s is not None and parameters.timeout_s < left_s):
        return parameters
    if left_s <= 0:
        raise DeadlineError("the deadline of the call has passed", hint="allow more time")
    return parameters.model_copy(update={"timeout_s": left_s})


def _wants_sentences(message: Any) -> bool:
    return message.options.HasField("stream") and not message.options.stream


async def _pieces(spoken: SpokenStream, *, by_sentence: bool) -> AsyncIterator[FloatArray]:
    """Samples of every chunk, or of every utterance; nothing empty."""
    held: list[FloatArray] = []
    utterance = 0
    async for chunk in spoken:
        if not len(chunk.audio):
            continue
        if not by_sentence:
            yield chunk.audio.samples
            continue
        if held and chunk.utterance != utterance:
            yield np.concatenate(held)
            held = []
        utterance = chunk.utterance
        held.append(chunk.audio.samples)
    if held:
        yield np.concatenate(held)


def _key(context: Any) -> str | None:
    """The API key in the call's metadata, as over HTTP."""
    metadata = dict(context.invocation_metadata() or ())
    scheme, _, key = metadata.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else metadata.get("x-api-key")


def _address(context: Any) -> str:
    """Of the client, without its port: ``ipv4:127.0.0.1:50123``, ``ipv6:%5B::1%5D:50123``."""
    return str(context.peer()).rpartition(":")[0]


def _facts(spoken: SpokenStream) -> tuple[tuple[str, str], ...]:
    facts = [("mynah-sample-rate", str(spoken.sample_rate)), ("mynah-seed", str(spoken.seed))]
    if spoken.voice.isascii():  # metadata can hold nothing else
        facts.append(("mynah-voice", spoken.voice))
    return tuple(facts)
