"""``WS /ws``: text in as it is written, audio out as it is made. See docs/reference/websocket.md.

One request at a time, any number one after the other. A client may cut in at any moment.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, WebSocket
from pydantic import BaseModel, ConfigDict, Field

from mynah.errors import InvalidRequestError
from mynah.server.depends import RuntimeHere
from mynah.server.errors import ConflictError, SlowRequestError, TooLargeError
from mynah.server.numbers import SaysRange
from mynah.server.parameters import Manner, validated
from mynah.server.runtime import Runtime
from mynah.server.sockets.link import POLICY, TOO_BIG, GoneError, Link
from mynah.server.sockets.turn import Options, Turn, error_event
from mynah.server.speech import find_voice
from mynah.server.uploads import decode_base64

router = APIRouter()

_EXAMPLE = '{"type": "ping"}'
_SEED_BITS = 31
_NEW_VOICE = {"reference_audio": None, "reference_text": ""}


_Seconds: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False), SaysRange()]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str


class _Text(_Message):
    text: str = Field(repr=False)


class _Cancel(_Message):
    played_s: _Seconds | None = None


class _Network(_Message):
    kbps: Annotated[float, Field(gt=0, le=1e6), SaysRange()]


class _Ping(_Message):
    id: str | int | None = None


@router.websocket("/ws")
async def talk(socket: WebSocket, runtime: RuntimeHere) -> None:
    """Speak to one client until it leaves."""
    await socket.accept()
    link = Link(socket, runtime.settings, example=_EXAMPLE)
    try:
        async with asyncio.TaskGroup() as group:
            session = str(socket.state.request_id)
            await Conversation(link, runtime, group, session).listen()
    except* GoneError:
        await link.close()


class Conversation:
    """Reads what a client wants, and lets one ``Turn`` speak at a time."""

    def __init__(
        self, link: Link, runtime: Runtime, group: asyncio.TaskGroup, session: str
    ) -> None:
        """Wait for the first message; turns are tasks of ``group``."""
        self._link, self._runtime, self._group = link, runtime, group
        self._session = session
        self._turn: Turn | None = None
        self._speaking: asyncio.Task[None] | None = None
        self._kbps: float | None = None
        """What the client said last that its connection carries."""
        self._on: dict[str, Callable[[dict[str, Any]], Awaitable[None]]] = {
            "start": self._start,
            "text": self._text,
            "flush": self._flush,
            "settings": self._settings,
            "network": self._network,
            "cancel": self._cancel,
            "end": self._end,
            "ping": self._ping,
        }

    async def listen(self) -> None:
        """Serve the client.

        Raises:
            GoneError: when it left.
        """
        while True:
            try:
                message = await self._link.receive(self._patience_s())
                await self._handle(message)
            except SlowRequestError as error:
                if not await self._give_up(error):
                    await self._link.close(POLICY, "nothing came for too long")
                    raise GoneError from error
            except TooLargeError as error:
                await self._complain(error)
                await self._link.close(TOO_BIG, error.message)
                raise GoneError from error
            except GoneError:
                raise
            except Exception as error:  # noqa: BLE001 - the client is told
                await self._complain(error)

    def _patience_s(self) -> float:
        """How long to wait for a message: an open text keeps a place in the engine."""
        settings, turn = self._runtime.settings, self._turn
        if turn is None or turn.is_over or turn.is_ended:
            return settings.request_s
        return settings.body_s

    async def _handle(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        action = self._on.get(kind) if isinstance(kind, str) else None
        if action is None:
            raise InvalidRequestError(
                f"there is no message of the type {str(kind)[:40]!r}",
                hint=f"send one of {', '.join(self._on)}",
            )
        await action(message)

    async def _start(self, message: dict[str, Any]) -> None:
        if self._turn is not None and not self._turn.is_over:
            raise ConflictError(
                "a request is being spoken", hint="wait for done, or send cancel before start"
            )
        given = dict(message)
        del given["type"]
        if given.get("reference_audio") is not None:
            given["reference_audio"] = decode_base64(_string(given, "reference_audio"))
        manner = validated(Manner, {key: given.pop(key) for key in _known(given)})
        if manner.seed is None:
            manner = manner.model_copy(update={"seed": secrets.randbits(_SEED_BITS)})
        options = validated(Options, given)
        self._turn = Turn(self._link, self._runtime, manner, options, self._session)
        if self._kbps is not None:
            self._turn.bit_rate.report(self._kbps)
        self._speaking = self._group.create_task(self._turn.run())

    async def _text(self, message: dict[str, Any]) -> None:
        text = validated(_Text, message).text
        if (turn := self._open_turn("text")) is not None:
            turn.speech.feed(text)

    async def _flush(self, message: dict[str, Any]) -> None:
        validated(_Message, message)
        if (turn := self._open_turn("flush")) is not None:
            turn.speech.flush()

    async def _end(self, message: dict[str, Any]) -> None:
        validated(_Message, message)
        if (turn := self._open_turn("end")) is not None:
            turn.speech.end()

    async def _settings(self, message: dict[str, Any]) -> None:
        turn = self._open_turn("settings")
        if turn is None:
            return
        changes = dict(message)
        del changes["type"]
        if "reference_audio" in changes or "reference_text" in changes:
            raise InvalidRequestError(
                "a recording cannot be sent in settings",
                hint="make a voice of it first, or begin a new request",
            )
        if changes.get("voice") is not None:
            changes |= _NEW_VOICE
        manner = validated(Manner, {**turn.speech.manner.model_dump(), **changes})
        tts = await self._runtime.tts(manner.model)
        voice = await find_voice(self._runtime, tts, manner)
        turn.speech.change(manner)
        await self._link.send({"type": "settings", "id": turn.options.id, "voice": voice.name})

    async def _network(self, message: dict[str, Any]) -> None:
        self._kbps = validated(_Network, message).kbps
        if self._turn is not None:
            self._turn.bit_rate.report(self._kbps)

    async def _cancel(self, message: dict[str, Any]) -> None:
        played_s = validated(_Cancel, message).played_s
        turn = self._open_turn("cancel", even_ended=True)
        if turn is None:
            return
        await self._stop()
        await self._link.send(turn.cancelled(played_s))

    async def _ping(self, message: dict[str, Any]) -> None:
        await self._link.send({"type": "pong", "id": validated(_Ping, message).id})

    def _open_turn(self, what: str, *, even_ended: bool = False) -> Turn | None:
        """The turn that a message is for; None = it failed, and the client knows or will soon.

        Raises:
            ConflictError: if there is none.
        """
        turn = self._turn
        if turn is not None and turn.has_failed:
            return None
        if turn is None or turn.is_over:
            raise ConflictError(
                f"{what} came while no request is open", hint="send start before it"
            )
        if turn.is_ended and not even_ended:
            raise ConflictError(
                f"{what} came after end", hint="wait for done, or send cancel, then start"
            )
        return turn

    async def _stop(self) -> None:
        if self._speaking is not None:
            self._speaking.cancel()
            await asyncio.wait([self._speaking])
        if self._turn is not None:
            self._turn.is_over = True  # a task that never began cannot say so itself

    async def _give_up(self, error: SlowRequestError) -> bool:
        """End a turn whose text does not come; False = there is none."""
        turn = self._turn
        if turn is None or turn.is_over:
            return False
        await self._stop()
        await turn.fail(error)
        return True

    async def _complain(self, error: Exception) -> None:
        turn = self._turn
        name = turn.options.id if turn is not None and not turn.is_over else None
        await self._link.send(error_event(self._runtime.problem(error), name))


def _known(given: dict[str, Any]) -> list[str]:
    return [key for key in given if key in Manner.model_fields]


def _string(given: dict[str, Any], key: str) -> str:
    value = given[key]
    if not isinstance(value, str):
        raise InvalidRequestError(f"{key} is no string", hint="send the file as base64")
    return value
