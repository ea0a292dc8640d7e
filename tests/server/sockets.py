"""A client of the server's sockets, and a server with the fake model behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.sync.client import ClientConnection, connect

from mynah.api import TTS
from mynah.server.runtime import Runtime
from mynah.server.settings import ServerSettings
from tests.server.conftest import LiveServer, serve

WAIT_S = 60.0


@contextmanager
def served(tts: TTS, **settings: Any) -> Iterator[LiveServer]:
    """A server with its own settings."""
    chosen = ServerSettings(**{"models": ("fake",), **settings})
    generator = serve(Runtime(chosen, loaded={"fake": tts}))
    yield next(generator)
    generator.close()


class Socket:
    """A connection that is told what to expect."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []
        self.audio: list[bytes] = []

    def send(self, **message: Any) -> None:
        self.connection.send(json.dumps(message))

    def next(self) -> dict[str, Any] | bytes:
        message = self.connection.recv(WAIT_S)
        return message if isinstance(message, bytes) else json.loads(message)

    def until(self, *kinds: str) -> dict[str, Any]:
        """Take messages up to an event of one of these types."""
        while True:
            message = self.next()
            if isinstance(message, bytes):
                self.audio.append(message)
                continue
            self.events.append(message)
            if message["type"] in kinds:
                return message
            assert message["type"] != "error", message

    def until_audio(self) -> bytes:
        while not isinstance(message := self.next(), bytes):
            self.events.append(message)
        self.audio.append(message)
        return message

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]


@contextmanager
def dialled(server: LiveServer, path: str = "/ws", **options: Any) -> Iterator[Socket]:
    url = server.url.replace("http", "ws") + path
    with connect(url, open_timeout=WAIT_S, proxy=None, max_size=None, **options) as connection:
        yield Socket(connection)
