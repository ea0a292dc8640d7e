"""The outermost layer of every request: its id, its log line, the door, and errors of last resort.

Plain ASGI, so that streams pass through piece by piece and a client that leaves is noticed.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mynah.server.errors import Problem, Renderer, problem_of
from mynah.server.limits import limited
from mynah.server.runtime import RequestRecord
from mynah.server.security import Doorkeeper, address_of, key_of
from mynah.server.settings import ServerSettings
from mynah.server.sockets.link import close_code

REQUEST_ID_HEADER = "X-Request-ID"
request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that is being served."""
ERROR_CODE = "error_code"
"""Key in a request's state: the code of the error that was answered."""
IS_SOCKET = "is_socket"
"""Key in a request's state: there if it became a socket, so that no response can answer it."""

_access = logging.getLogger("mynah.server.access")
_LONGEST_REASON = 120
_GIVEN_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class RequestContext:
    """ASGI middleware around everything."""

    def __init__(
        self,
        app: ASGIApp,
        settings: ServerSettings,
        door: Doorkeeper,
        open_paths: Collection[str],
        renderer_of: Callable[[str], Renderer],
        report: Callable[[RequestRecord], None],
    ) -> None:
        """Wrap an app.

        Args:
            app: what serves the requests that are let in.
            settings: of the operator.
            door: lets them in.
            open_paths: need no key and count in no limit; with ``*`` at the end, all below; a
                ``*`` inside stands for anything.
            renderer_of: gives the form of errors for a path.
            report: told about every request that is over.
        """
        self._app, self._settings = app, settings
        self._renderer_of, self._report = renderer_of, report
        self._open = frozenset(path for path in open_paths if "*" not in path)
        self._open_between = [path.split("*") for path in open_paths if "*" in path[:-1]]
        self._open_below = tuple(path[:-1] for path in open_paths if path.endswith("*"))
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or socket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID_HEADER, "")
        name = given if _GIVEN_ID.fullmatch(given) else secrets.token_hex(16)
        token = request_id.set(name)
        scope.setdefault("state", {})["request_id"] = name
        began_at, status, is_closed = time.monotonic(), 0, False

        async def send_with_id(message: Message) -> None:
            nonlocal status, is_closed
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = name
            elif message["type"] == "websocket.accept":
                status, scope["state"][IS_SOCKET] = 101, True
            elif message["type"] == "websocket.close":
                status, is_closed = status or 403, True
            await send(message)

        try:
            receive = self._let_in(scope, headers, receive)
            await self._app(scope, receive, send_with_id)
        except Exception as error:  # noqa: BLE001 - the last place before the server's own log
            problem = problem_of(error)
            scope["state"][ERROR_CODE] = problem.code
            if not status:
                await self._refuse(problem, name, scope, receive, send_with_id)
            elif scope["type"] == "websocket":
                status = problem.status
                if not is_closed:
                    await self._hang_up(problem, name, send)
        finally:
            record = _record(scope, status, time.monotonic() - began_at)
            _log_access(name, record)
            self._report(record)
            request_id.reset(token)

    def _let_in(self, scope: Scope, headers: Headers, receive: Receive) -> Receive:
        settings, path = self._settings, str(scope["path"])
        self._door.check_page(headers)
        if not self._is_open(path):
            self._door.admit(key_of(headers), address_of(scope))
        if scope["type"] == "websocket":
            return receive
        return limited(
            receive, headers.get("content-length"), settings.max_body_bytes, settings.body_s
        )

    def _is_open(self, path: str) -> bool:
        return (
            path in self._open
            or (bool(self._open_below) and path.startswith(self._open_below))
            or any(path.startswith(head) and path.endswith(end) for head, end in self._open_between)
        )

    async def _refuse(
        self, problem: Problem, name: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if scope["type"] == "websocket" and (
            "websocket.http.response" not in scope.get("extensions", {})
        ):
            await send(
                {
                    "type": "websocket.close",
                    "code": 1008,
                    "reason": problem.message[:_LONGEST_REASON],
                }
            )
            return
        response = self._renderer_of(scope["path"])(problem, name)
        # The rest of a body that is not read must not be taken for the next request.
        response.headers["Connection"] = "close"
        await response(scope, receive, send)

    async def _hang_up(self, problem: Problem, name: str, send: Send) -> None:
        """Close a socket, so that its client learns more than that the connection was lost."""
        reason = f"{problem.code}, request {name}"[:_LONGEST_REASON]  # no message: it may quote
        with suppress(TimeoutError, OSError, RuntimeError):  # the client may have left
            async with asyncio.timeout(self._settings.stall_s):
                await send(
                    {"type": "websocket.close", "code": close_code(problem), "reason": reason}
                )


def _record(scope: Scope, status: int, took_s: float) -> RequestRecord:
    return RequestRecord(
        method=scope.get("method", "WEBSOCKET"),
        route=getattr(scope.get("route"), "path", "-"),
        status=status,
        code=scope["state"].get(ERROR_CODE, ""),
        took_s=took_s,
    )


def _log_access(name: str, record: RequestRecord) -> None:
    """One line without anything that a user wrote: no query, no names out of the path."""
    fields = {
        "request_id": name,
        "method": record.method,
        "route": record.route,
        "status": record.status,
        "took_ms": round(1000 * record.took_s, 1),
    }
    _access.info(
        "%(method)s %(route)s %(status)s %(took_ms)s ms %(request_id)s", fields, extra=fields
    )
