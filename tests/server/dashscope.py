"""A client of DashScope's socket that sends messages as its documents show them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed

from tests.server.conftest import LiveServer
from tests.server.sockets import Socket, dialled

PATH = "/api-ws/v1/inference"
LONG = "This goes on for quite a while, with many words in it. " * 60
PCM = {"format": "pcm", "sample_rate": 24000}


class Client:
    """One connection, and what came on it."""

    def __init__(self, ws: Socket) -> None:
        self.ws = ws
        self.task_id = ""
        self.events: list[dict[str, Any]] = []
        self.audio: list[bytes] = []

    def send(self, action: str, task_id: str | None = None, **payload: Any) -> None:
        header = {"action": action, "task_id": task_id or self.task_id, "streaming": "duplex"}
        self.ws.send(header=header, payload={"input": {}, **payload})

    def run(self, model: str = "cosyvoice-v3-flash", **parameters: Any) -> str:
        """Send run-task as the documents show it."""
        self.task_id = str(uuid.uuid4())
        values = {"text_type": "PlainText", "voice": "fake", **parameters}
        self.send(
            "run-task",
            task_group="audio",
            task="tts",
            function="SpeechSynthesizer",
            model=model,
            parameters=values,
        )
        return self.task_id

    def text(self, text: str) -> None:
        self.send("continue-task", input={"text": text})

    def take(self) -> dict[str, Any] | bytes:
        message = self.ws.next()
        if isinstance(message, bytes):
            self.audio.append(message)
        else:
            self.events.append(message)
        return message

    def until(self, kind: str) -> dict[str, Any]:
        while True:
            message = self.take()
            if isinstance(message, dict) and message["header"]["event"] in (kind, "task-failed"):
                assert message["header"]["event"] == kind, message
                return message

    def until_audio(self) -> None:
        while not isinstance(self.take(), bytes):
            pass

    def speak(self, *parts: str, **parameters: Any) -> bytes:
        """A whole task; returns its audio."""
        first = len(self.audio)
        self.run(**parameters)
        self.until("task-started")
        for part in parts:
            self.text(part)
        self.send("finish-task")
        self.until("task-finished")
        return b"".join(self.audio[first:])

    def outputs(self, kind: str) -> list[dict[str, Any]]:
        found = [event["payload"].get("output", {}) for event in self.events]
        return [output for output in found if output.get("type") == kind]

    def close_code(self) -> int:
        try:
            while True:
                self.take()
        except ConnectionClosed as error:
            return 0 if error.rcvd is None else error.rcvd.code


@contextmanager
def client_of(server: LiveServer, path: str = PATH, **options: Any) -> Iterator[Client]:
    with dialled(server, path, **options) as ws:
        yield Client(ws)
