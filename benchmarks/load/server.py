"""A server in a process of its own, for measurements; and what its figures say."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

_START_S = 120.0
_STOP_S = 90.0


@contextmanager
def running_server(*options: str, url: str | None = None) -> Iterator[str]:
    """Give the address of a fresh ``mynah serve``, or ``url`` as it is."""
    if url is not None:
        yield url.rstrip("/")
        return
    # Ended from outside, the server must not stay behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "mynah", "serve", "--port", str(port)]
        command += ["--data-dir", home, "--log-level", "warning", *options]
        process = subprocess.Popen(command, env={**os.environ, "MYNAH_HOME": home})
        try:
            _wait(address, process)
            yield address
        finally:
            process.terminate()
            process.wait(_STOP_S)


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    ends_at = time.monotonic() + _START_S
    while time.monotonic() < ends_at:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        try:
            if httpx.get(f"{address}/ready", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"the server was not ready within {_START_S:g} s")


def figures(url: str) -> dict[str, float]:
    """Sums over all labels of what ``/metrics`` shows."""
    found: dict[str, float] = {}
    text = httpx.get(f"{url}/metrics", trust_env=False, timeout=30).text
    for name, value in re.findall(r"(?m)^(\w+)(?:\{[^}]*\})? ([-+.\deE]+)$", text):
        found[name] = found.get(name, 0.0) + float(value)
    return found
