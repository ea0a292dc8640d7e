"""ElevenLabs' sockets: text in pieces, audio back; one text, or several contexts side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, WebSocket
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from mynah.errors import InvalidRequestError
from mynah.server.depends import RuntimeHere
from mynah.server.elevenlabs import (
    DEFAULT_FORMAT,
    Normalization,
    TheirSeed,
    VoiceSettings,
    encoding_of,
    model_of,
    voice_of,
)
from mynah.server.errors import Problem
from mynah.server.numbers import SaysRange
from mynah.server.parameters import Manner, validated
from mynah.server.runtime import Runtime
from mynah.server.security import address_of, key_of
from mynah.server.sockets.elevenlabs_context import Context
from mynah.server.sockets.link import GoneError, Link, close_code, first_done
from mynah.server.sockets.schedule import DEFAULT_SCHEDULE
from mynah.server.speech import find_voice

_ONE, _MANY = "stream-input", "multi-stream-input"
_PATH, _PREFIX = "/v1/text-to-speech/{voice_id}", "/elevenlabs"
OPEN_PATHS = tuple(
    f"{prefix}/v1/text-to-speech/*/{end}" for prefix in ("", _PREFIX) for end in (_ONE, _MANY)
)
"""The key may come in the first message, so it is checked here."""

_EXAMPLE = '{"text": "Hello "}'
_MOST_CONTEXTS = 5
_DEFAULT_CONTEXT = "default"
_BEARER = "bearer "


class Asked(BaseModel):
    """What stands in the address; unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model_id: str | None = None
    language_code: str | None = Field(default=None, max_length=20)
    output_format: str = DEFAULT_FORMAT
    inactivity_timeout: Annotated[float, Field(gt=0, le=180), SaysRange()] = 20.0
    auto_mode: bool = False
    apply_text_normalization: Normalization = "auto"
    seed: TheirSeed | None = None


class Generation(BaseModel):
    """When speaking begins."""

    model_config = ConfigDict(extra="ignore")

    chunk_length_schedule: list[Annotated[int, Field(ge=1, le=2000)]] | None = None


class Message(BaseModel):
    """Anything that a client sends; both spellings of a name are understood."""

    model_config = ConfigDict(extra="ignore")

    text: str | None = Field(default=None, repr=False)
    voice_settings: VoiceSettings | None = None
    generation_config: Generation | None = None
    try_trigger_generation: bool | None = None
    flush: bool | None = None
    key: str | None = Field(
        default=None, repr=False, validation_alias=AliasChoices("xi-api-key", "xi_api_key")
    )
    authorization: str | None = Field(default=None, repr=False)
    context_id: str | None = Field(
        default=None, max_length=200, validation_alias=AliasChoices("context_id", "contextId")
    )
    close_context: bool = Field(
        default=False, validation_alias=AliasChoices("close_context", "closeContext")
    )
    close_socket: bool = Field(
        default=False, validation_alias=AliasChoices("close_socket", "closeSocket")
    )


api = APIRouter()


@api.websocket(f"{_PATH}/{_ONE}")
async def stream_input(socket: WebSocket, voice_id: str, runtime: RuntimeHere) -> None:
    """Speak one text that comes in pieces."""
    await _serve(_Single, socket, voice_id, runtime)


@api.websocket(f"{_PATH}/{_MANY}")
async def multi_stream_input(socket: WebSocket, voice_id: str, runtime: RuntimeHere) -> None:
    """Speak several texts side by side."""
    await _serve(_Several, socket, voice_id, runtime)


router = APIRouter()
router.include_router(api)
router.include_router(api, prefix=_PREFIX)


class _Session:
    """What both kinds of socket share."""

    def __init__(self, link: Link, socket: WebSocket, runtime: Runtime) -> None:
        self._link, self._runtime = link, runtime
        self._asked = validated(Asked, dict(socket.query_params))
        self._encoding = encoding_of(self._asked.output_format)
        self._key = key_of(socket.headers)
        self._address = address_of(socket.scope)
        self._first: Message | None = None
        self._manner = Manner()

    async def run(self, voice_id: str) -> None:
        """Serve the socket to its end."""
        raise NotImplementedError

    async def _next(self) -> Message:
        """Wait for a message; the first one decides who speaks, and whether at all."""
        asked = self._asked
        message = validated(Message, await self._link.receive(asked.inactivity_timeout))
        if self._first is None:
            key = self._key or message.key or _bare(message.authorization)
            self._runtime.door.admit(key, self._address)
            self._first = message
        return message

    async def _begin(self, voice_id: str) -> Message:
        """Take the first message, and check what can be checked before there is text."""
        asked, runtime = self._asked, self._runtime
        message = await self._next()
        model = model_of(runtime, asked.model_id)
        self._manner = Manner(
            model=model,
            voice=await voice_of(runtime, model, voice_id),
            language=asked.language_code or None,
            speed=_speed(message),
            seed=asked.seed,
            normalize=asked.apply_text_normalization != "off",
        )
        await find_voice(runtime, await runtime.tts(model), self._manner)
        return message

    def _context(self, message: Message, name: str | None = None) -> Context:
        first = self._first or message
        settings = message.voice_settings or first.voice_settings
        generation = message.generation_config or first.generation_config
        schedule = None if generation is None else generation.chunk_length_schedule
        speed = settings.speed if settings is not None and settings.speed is not None else 1.0
        return Context(
            self._link,
            self._runtime,
            self._manner.model_copy(update={"speed": speed}),
            self._encoding,
            schedule=schedule or DEFAULT_SCHEDULE,
            auto=self._asked.auto_mode,
            name=name,
        )


class _Single(_Session):
    """One text, then the end."""

    async def run(self, voice_id: str) -> None:
        message = await self._begin(voice_id)
        context = self._context(message)
        reading = asyncio.create_task(self._read(context, message))
        await first_done(asyncio.create_task(context.speak()), reading)

    async def _read(self, context: Context, message: Message) -> None:
        while message.text != "":
            _add(context, message)
            message = await self._next()
        context.end()
        while True:  # only to learn that the client left
            await self._link.receive()


class _Several(_Session):
    """Contexts by their ids."""

    def __init__(self, link: Link, socket: WebSocket, runtime: Runtime) -> None:
        super().__init__(link, socket, runtime)
        self._contexts: dict[str, tuple[Context, asyncio.Task[None]]] = {}

    async def run(self, voice_id: str) -> None:
        message = await self._begin(voice_id)
        async with asyncio.TaskGroup() as group:
            while not message.close_socket:
                await self._take(message, group)
                message = await self._next()
            for context, _ in self._contexts.values():
                context.end()

    async def _take(self, message: Message, group: asyncio.TaskGroup) -> None:
        name = message.context_id or _DEFAULT_CONTEXT
        for known, (_, task) in list(self._contexts.items()):
            if task.done():
                del self._contexts[known]
        open_one = self._contexts.get(name)
        if message.close_context:
            if open_one is not None:
                del self._contexts[name]
                await self._close(*open_one)
            return
        if open_one is not None:
            context = open_one[0]
        else:
            if message.text is None or message.text == "":  # keeps alive what is not there
                return
            if len(self._contexts) >= _MOST_CONTEXTS:
                raise InvalidRequestError(
                    f"more than {_MOST_CONTEXTS} contexts are open", hint="close one of them"
                )
            context = self._context(message, name)
            self._contexts[name] = context, group.create_task(self._speak(context))
        try:
            _add(context, message)
        except InvalidRequestError as error:
            await self._link.send(_error(self._runtime.problem(error), name))

    async def _close(self, context: Context, task: asyncio.Task[None]) -> None:
        """End a context: its flushed text is finished, unless the listener hears it already.

        Clients close a context right after its last flush, and to cut in.
        """
        if context.is_waiting_to_be_heard:
            context.end(drop=True)
            return
        task.cancel()
        await asyncio.wait([task])
        await context.send_final()

    async def _speak(self, context: Context) -> None:
        try:
            await context.speak()
        except GoneError:
            raise
        except Exception as error:  # noqa: BLE001 - the client is told; other contexts go on
            await self._link.send(_error(self._runtime.problem(error), context.name))


async def _serve(kind: type[_Session], socket: WebSocket, voice_id: str, runtime: Runtime) -> None:
    await socket.accept()
    link = Link(socket, runtime.settings, example=_EXAMPLE)
    code, reason = 1000, ""
    try:
        await kind(link, socket, runtime).run(voice_id)
    except* GoneError:
        pass
    except* Exception as group:  # noqa: BLE001 - the client is told
        problem = runtime.problem(group)
        code, reason = close_code(problem), problem.message
        try:
            await link.send({**_error(problem, None), "code": code})
        except GoneError:
            reason = ""
    await link.close(code, reason)


def _add(context: Context, message: Message) -> None:
    context.add(
        message.text or "",
        trigger=bool(message.try_trigger_generation),
        flush=bool(message.flush),
    )


def _speed(message: Message) -> float:
    settings = message.voice_settings
    return settings.speed if settings is not None and settings.speed is not None else 1.0


def _bare(authorization: str | None) -> str | None:
    if authorization is not None and authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    return authorization


def _error(problem: Problem, name: str | None) -> Mapping[str, Any]:
    message = {
        "message": f"{problem.message} ({problem.solution})",
        "error": problem.code,
        "code": problem.status,
    }
    return message if name is None else {**message, "contextId": name}
