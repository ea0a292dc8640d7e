"""A model hub on 127.0.0.1: the addresses of Hugging Face and ModelScope, and faults on demand."""

from __future__ import annotations

import _socket
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

HOST = "127.0.0.1"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
_LARGE = 1000  # files from this size on are what the hubs call LFS
_REAL_CREATE, _REAL_LOOKUP = socket.create_connection, socket.getaddrinfo


@dataclass
class Fault:
    """What goes wrong with one request for a file."""

    status: int = 200
    break_after: int | None = None
    """Bytes after which the connection is cut."""
    corrupt: bool = False
    ignore_range: bool = False
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Hub:
    """What the server publishes and what it was asked."""

    repositories: dict[str, Path] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    """By file name, used up one by one."""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """(port's role, path, headers in small letters)"""
    url: str = ""
    cdn: str = ""
    redirect: bool = True
    """Whether large files live on another port."""
    token: str | None = None
    wrong_checksums: bool = False

    def asked_for(self, name: str) -> list[dict[str, str]]:
        return [headers for _, path, headers in self.requests if path.endswith(f"/{name}")]

    def files(self, repository: str) -> dict[str, Path]:
        root = self.repositories[repository]
        return {
            path.relative_to(root).as_posix(): path
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }


@contextmanager
def serving(**options: Any) -> Iterator[Hub]:
    """Run both ports while the block lasts."""
    hub = Hub(**options)
    servers = [_server(hub, role) for role in ("hub", "cdn")]
    hub.url, hub.cdn = (f"http://{HOST}:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()


def allow_loopback(patch: pytest.MonkeyPatch) -> None:
    """Open the network that tests are refused, for 127.0.0.1 only."""

    def connect(self: socket.socket, address: Any) -> None:
        assert address[0] == HOST, f"a test tried to reach {address}"
        _socket.socket.connect(self, address)

    def lookup(host: str, *args: Any, **kwargs: Any) -> Any:
        assert host == HOST, f"a test tried to find {host}"
        return _REAL_LOOKUP(host, *args, **kwargs)

    patch.setattr(socket.socket, "connect", connect)
    patch.setattr(socket, "getaddrinfo", lookup)
    patch.setattr(socket, "create_connection", _REAL_CREATE)


def point_at(hub: Hub, patch: pytest.MonkeyPatch) -> None:
    """Make the package use this server, without any account of the machine."""
    allow_loopback(patch)
    for name, value in environment(hub).items():
        patch.setenv(name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN", "HF_HUB_OFFLINE"):
        patch.delenv(name, raising=False)


def environment(hub: Hub) -> dict[str, str]:
    """Variables that point the package at this server."""
    return {
        "HF_ENDPOINT": hub.url,
        "MODELSCOPE_DOMAIN": hub.url,
        "MYNAH_GITHUB_ENDPOINT": hub.url,
        "HF_HOME": "/nowhere",
        "no_proxy": HOST,
    }


def _server(hub: Hub, role: str) -> ThreadingHTTPServer:
    class Handler(_Handler):
        pass

    Handler.hub, Handler.role = hub, role
    return ThreadingHTTPServer((HOST, 0), Handler)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    role: str
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path).strip("/")
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append((self.role, f"/{path}", headers))
        wanted = f"Bearer {self.hub.token}" if self.hub.token and self.role == "hub" else None
        if wanted and headers.get("authorization") != wanted:
            return self._status(401)
        for repository in self.hub.repositories:
            if path.startswith(f"api/models/{repository}/revision/"):
                return self._json({"sha": COMMIT})
            if path == f"api/models/{repository}/tree/{COMMIT}":
                return self._tree(repository, parse_qs(address.query))
            if path == f"api/v1/models/{repository}/repo/files":
                return self._modelscope(repository)
            for revision in (
                f"{repository}/resolve/{COMMIT}",
                f"models/{repository}/resolve/master",
            ):
                if path.startswith(f"{revision}/"):
                    return self._file(repository, path.removeprefix(f"{revision}/"))
            if path.startswith(f"cdn/{repository}/"):
                return self._send(
                    self.hub.files(repository)[path.removeprefix(f"cdn/{repository}/")]
                )
        return self._status(404)

    def _tree(self, repository: str, query: dict[str, list[str]]) -> None:
        entries: list[dict[str, Any]] = [{"type": "directory", "path": "x", "oid": "", "size": 0}]
        for name, path in self.hub.files(repository).items():
            data = path.read_bytes()
            git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            entry = {"type": "file", "path": name, "size": len(data), "oid": git}
            if len(data) >= _LARGE:
                entry["lfs"] = {"oid": self._sha256(data), "size": len(data), "pointerSize": 130}
            entries.append(entry)
        half = len(entries) // 2
        if "cursor" in query:
            return self._json(entries[half:])
        link = f'<{self.hub.url}/api/models/{repository}/tree/{COMMIT}?cursor=1>; rel="next"'
        return self._json(entries[:half], {"Link": link})

    def _modelscope(self, repository: str) -> None:
        files = [
            {
                "Path": name,
                "Name": path.name,
                "Type": "blob",
                "Size": path.stat().st_size,
                "Sha256": self._sha256(path.read_bytes()),
            }
            for name, path in self.hub.files(repository).items()
        ]
        self._json({"Code": 200, "Data": {"Files": [{"Path": "x", "Type": "tree"}, *files]}})

    def _sha256(self, data: bytes) -> str:
        return hashlib.sha256(b"other" if self.hub.wrong_checksums else data).hexdigest()

    def _file(self, repository: str, name: str) -> None:
        path = self.hub.files(repository).get(name)
        if path is None:
            return self._status(404)
        if self.hub.redirect and path.stat().st_size >= _LARGE:
            self.send_response(302)
            self.send_header("Location", f"{self.hub.cdn}/cdn/{repository}/{name}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return self._send(path)

    def _send(self, path: Path) -> None:
        queue = self.hub.faults.get(path.name, [])
        fault = queue.pop(0) if queue else Fault()
        if fault.status != 200:
            return self._status(fault.status, fault.headers)
        data = path.read_bytes()
        if fault.corrupt:
            data = bytes(byte ^ 1 for byte in data)
        start = 0
        wanted = self.headers.get("Range")
        if wanted and not fault.ignore_range:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                return self._status(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if fault.break_after is None:
            self.wfile.write(data[start:])
            return None
        self.wfile.write(data[start : start + fault.break_after])
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
        return None

    def _json(self, content: object, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _status(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()
