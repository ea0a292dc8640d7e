"""One WebSocket with its limits: messages in, messages out, and nobody who waits for ever."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from mynah.errors import InvalidRequestError
from mynah.server.errors import Problem, SlowRequestError, TooLargeError
from mynah.server.settings import ServerSettings

POLICY, INTERNAL, TOO_BIG, TRY_LATER = 1008, 1011, 1009, 1013
"""Codes with which a socket is closed."""
_CODES = {429: TRY_LATER, 503: TRY_LATER, 500: INTERNAL}

_log = logging.getLogger("mynah.server")


class GoneError(Exception):
    """The client left, or stopped reading."""


class Link:
    """A socket that was accepted; any task may send, one receives."""

    def __init__(self, socket: WebSocket, settings: ServerSettings, *, example: str) -> None:
        """Use a socket under the server's limits; ``example`` is a message of its protocol."""
        self._socket, self._example = socket, example
        self._stall_s = settings.stall_s
        self._max_characters = settings.max_body_bytes
        self._sending = asyncio.Lock()

    async def receive(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait for a message that is a JSON object.

        Raises:
            GoneError: if the client left.
            SlowRequestError: if nothing came within ``timeout_s``.
            TooLargeError: if it is larger than a request may be.
            InvalidRequestError: if it is something else.
        """
        try:
            async with asyncio.timeout(timeout_s):
                message = await self._socket.receive()
        except TimeoutError as error:
            raise SlowRequestError(
                f"no message came for {timeout_s:g} s", hint="send text, or a message now and then"
            ) from error
        except (WebSocketDisconnect, RuntimeError) as error:
            raise GoneError from error
        if message["type"] == "websocket.disconnect":
            raise GoneError
        text = message.get("text")
        if text is None:
            raise InvalidRequestError(
                "a binary message was not expected", hint="send JSON as a text message"
            )
        if len(text) > self._max_characters:
            raise TooLargeError(
                f"a message is longer than {self._max_characters} characters",
                hint="send a shorter recording, or text in smaller pieces",
            )
        return _parsed(text, self._example)

    async def send(self, message: Mapping[str, Any] | bytes) -> float:
        """Send JSON or audio; return for how long the client's reading held it up, in seconds.

        Raises:
            GoneError: if the client left, or stops reading for too long.
        """
        began_at = time.monotonic()
        try:
            async with self._sending, asyncio.timeout(self._stall_s):
                if isinstance(message, bytes):
                    await self._socket.send_bytes(message)
                else:
                    await self._socket.send_text(_written(message))
        except TimeoutError as error:
            _log.info("a client stopped reading for %g s and was let go", self._stall_s)
            raise GoneError from error
        except (WebSocketDisconnect, RuntimeError) as error:  # it left, or was closed before
            raise GoneError from error
        return time.monotonic() - began_at

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the socket, if it is still open."""
        if self._socket.application_state is not WebSocketState.CONNECTED:
            return
        try:
            async with asyncio.timeout(self._stall_s):
                await self._socket.close(code, reason.encode()[:120].decode(errors="ignore"))
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            return


def _written(message: Mapping[str, Any]) -> str:
    """JSON; half a character, which a client may have sent to be given back, is a ``?``."""
    text = json.dumps(message, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()


def _parsed(text: str, example: str) -> dict[str, Any]:
    hint = f"send an object such as {example}"
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError("a message is not valid JSON", hint=hint) from error
    if not isinstance(message, dict):
        raise InvalidRequestError(
            f"a message is a JSON {type(message).__name__}, expected an object", hint=hint
        )
    return message


def close_code(problem: Problem) -> int:
    """The code that says best why a socket is closed."""
    return _CODES.get(problem.status, POLICY)


async def first_done(*tasks: asyncio.Task[Any]) -> None:
    """Wait for the first task to end, cancel the others, and raise what it raised."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        if not task.cancelled():
            task.result()
