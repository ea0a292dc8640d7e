"""One server process: it listens, it serves, and it finishes what it began before it ends."""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from mynah.errors import InvalidRequestError
from mynah.server.app import create_app
from mynah.server.runtime import Runtime

_CLOSING_S = 5
"""For answers that are almost sent, after the speeches are over."""
_BACKLOG = 1024
_SWITCH_S = 0.001
"""How long one Python thread may keep the others waiting: first audio is some forty short calls of
networks, each of which waits for the interpreter once. Python's own 5 ms are for throughput."""


def run_server(runtime: Runtime, announce: Callable[[str], None]) -> None:
    """Serve until the process is told to stop (SIGTERM, Ctrl-C), then drain.

    Args:
        runtime: whose settings say where to listen.
        announce: told the address once the server listens.

    Raises:
        InvalidRequestError: if it may not or cannot listen there, or cannot keep its data.
    """
    settings = runtime.settings
    settings.check_exposure()
    _check_folder(settings.data_path)
    listening = _listen(settings.host, settings.port)
    for option, port in (("grpc", settings.grpc_port), ("wyoming", settings.wyoming_port)):
        if port:  # what fails once the event loop runs can only be told with a traceback
            _listen(settings.host, port, f"--{option}-port").close()
    config = uvicorn.Config(
        create_app(runtime),
        log_config=None,  # ours are configured, and the access lines of uvicorn show queries
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=_CLOSING_S,
    )
    sys.setswitchinterval(_SWITCH_S)
    with listening:
        host, port = listening.getsockname()[:2]
        announce(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        DrainingServer(config, runtime).run(sockets=[listening])
    runtime.close()


class DrainingServer(uvicorn.Server):
    """Told to stop, it refuses new speeches and goes on until the running ones are over.

    A second signal ends it at once.
    """

    def __init__(self, config: uvicorn.Config, runtime: Runtime) -> None:
        """Serve nothing yet."""
        super().__init__(config)
        self._runtime = runtime
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve; see ``uvicorn.Server``."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Answer a signal. The process ends with status 0, as one that did what it was told."""
        if self._runtime.is_draining or self._loop is None:
            self.should_exit = self.force_exit = True
            return
        self._loop.call_soon_threadsafe(self._begin_draining)

    def _begin_draining(self) -> None:
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        await self._runtime.drained(self._runtime.settings.drain_s)
        self.should_exit = True


def _check_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InvalidRequestError(
            f"cannot write to the server's data folder {path}: {error.strerror}",
            hint="choose another with --data-dir",
        ) from error


def _listen(host: str, port: int, option: str = "--port") -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidRequestError(
            f"cannot listen on {host}, port {port}: {reason}",
            hint=f"choose another {option} or --host; 0 is any free port",
        ) from error
