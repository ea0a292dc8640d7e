"""DashScope's socket: tasks one after the other, text in pieces, audio back."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from fastapi import APIRouter, WebSocket

from mynah.server.dashscope import (
    CANCEL,
    CONTINUE,
    RUN,
    Message,
    Parameters,
    failure,
    out_of_turn,
    render_dashscope,
    task_id_of,
)
from mynah.server.depends import RuntimeHere
from mynah.server.errors import SlowRequestError
from mynah.server.parameters import validated
from mynah.server.runtime import Runtime
from mynah.server.sockets.dashscope_task import Task
from mynah.server.sockets.link import GoneError, Link, close_code

router = APIRouter()

_PATH = "/api-ws/v1/inference"
ERROR_FORMS = {_PATH: render_dashscope}
_EXAMPLE = (
    '{"header": {"action": "run-task", "task_id": "1"}, "payload": {"model": "cosyvoice-v3-flash"}}'
)
_REMEMBERED = 16


@router.websocket(_PATH)
@router.websocket(_PATH + "/")
async def inference(socket: WebSocket, runtime: RuntimeHere) -> None:
    """Speak one task after the other."""
    await socket.accept()
    link = Link(socket, runtime.settings, example=_EXAMPLE)
    connection = Connection(link, runtime)
    code, reason = 1000, ""
    try:
        async with asyncio.TaskGroup() as group:
            await connection.listen(group)
    except* GoneError:
        pass
    except* Exception as group:  # noqa: BLE001 - the client is told
        problem = runtime.problem(group)
        code, reason = close_code(problem), problem.message
        try:
            await link.send(failure(problem, connection.task_id))
        except GoneError:
            reason = ""
    await link.close(code, reason)


class Connection:
    """Reads what a client wants, and lets one ``Task`` speak at a time."""

    def __init__(self, link: Link, runtime: Runtime) -> None:
        """Wait for the first message."""
        self.task_id = ""
        """Of the message or task that failed, if one did."""
        self._link, self._runtime = link, runtime
        self._task: Task | None = None
        self._speaking: asyncio.Task[None] | None = None
        self._former: deque[str] = deque(maxlen=_REMEMBERED)
        """Ids of tasks that a new one took the place of."""

    async def listen(self, group: asyncio.TaskGroup) -> None:
        """Serve the client; tasks speak in ``group``. What goes wrong ends the connection.

        Raises:
            GoneError: when it left, or began nothing new for too long.
            SynthesisError: whatever is wrong with a message or a task.
        """
        while True:
            try:
                message = await self._link.receive(self._patience_s())
            except SlowRequestError as error:
                if self._task is None or self._task.is_over:
                    raise GoneError from error
                raise
            await self._handle(message, group)

    def _patience_s(self) -> float:
        """How long to wait for a message: an open text keeps a place in the engine."""
        settings, task = self._runtime.settings, self._task
        if task is None or task.is_over or task.is_ended:
            return settings.request_s
        return settings.body_s

    async def _handle(self, given: dict[str, Any], group: asyncio.TaskGroup) -> None:
        self.task_id = task_id_of(given) or self.task_id
        message = validated(Message, given)
        action, task_id = message.header.action, message.header.task_id
        if action == RUN:
            await self._run(message, group)
            return
        task = self._task
        if task is None or task.task_id != task_id:
            if task_id in self._former:  # it was on its way when the new task began
                self.task_id = task.task_id if task is not None else task_id
                return
            raise out_of_turn(action, task_id)
        if task.is_over:
            return
        content = message.payload.input
        if action == CONTINUE:
            task.add(content.text, flush=content.flush)
        elif content.directive == CANCEL:
            await self._stop()
            await task.send_finished()
        else:
            task.end()

    async def _run(self, message: Message, group: asyncio.TaskGroup) -> None:
        """Begin a task; one that still speaks is given up for it."""
        await self._stop()
        if self._task is not None:
            self._former.append(self._task.task_id)
            self._task = None
        header, payload = message.header, message.payload
        parameters = validated(Parameters, payload.parameters)
        task = Task(self._link, self._runtime, header.task_id, parameters)
        await task.open(payload.model)
        self._task = task
        if payload.input.text:
            task.add(payload.input.text)
        if header.streaming == "out":
            task.end()
        self._speaking = group.create_task(task.speak())

    async def _stop(self) -> None:
        if self._speaking is not None:
            self._speaking.cancel()
            await asyncio.wait([self._speaking])
            self._speaking = None
