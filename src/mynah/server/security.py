"""Who may use the server: API keys, the origins of web pages, and the names it is called by."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from mynah.server.errors import ForbiddenError, UnauthorizedError
from mynah.server.limits import TokenBuckets
from mynah.server.settings import ServerSettings

_BEARER = "bearer "
KEY_HEADERS = ("xi-api-key", "x-api-key")


def key_of(headers: Headers) -> str | None:
    """The API key that a request carries, in whichever header."""
    authorization = headers.get("authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    return next((headers[name] for name in KEY_HEADERS if name in headers), None)


def address_of(scope: Scope) -> str:
    """Where a request comes from."""
    return str((scope.get("client") or ("unknown", 0))[0])


class Doorkeeper:
    """Checks requests of all protocols against the settings; one for a server."""

    def __init__(self, settings: ServerSettings) -> None:
        """Keep digests of the keys only."""
        self._digests = [_digest(key.get_secret_value()) for key in settings.api_keys]
        per_minute = settings.requests_per_minute
        self._buckets = None if per_minute is None else TokenBuckets(per_minute, settings.burst)
        self._origins = set(settings.cors_origins)
        self._hosts = {host.lower() for host in settings.allowed_hosts}
        # Only there can a page that calls itself by another name do harm: elsewhere a key is
        # asked for, or the operator opened the server to everybody.
        self._checks_host = not (self._digests or settings.is_public or "*" in self._hosts)

    def admit(self, key: str | None, address: str) -> None:
        """Let in one request of whoever has a key, as often as is allowed.

        Args:
            key: that came with it.
            address: of the client, whose limit it is where there are no keys, or a wrong one.

        Raises:
            UnauthorizedError: without a key, or with a wrong one.
            RateLimitedError: if there were too many.
        """
        try:
            self.check_key(key)
        except UnauthorizedError:
            if key and self._buckets is not None:  # nobody may guess keys faster than use one
                self._buckets.take(f"guess {address}")
            raise
        self._count(f"key {key}" if self._digests else address)

    def admit_keyless(self, address: str) -> None:
        """Let in one request of a protocol that knows no keys, as often as is allowed.

        Raises:
            RateLimitedError: if there were too many.
        """
        self._count(address)

    def _count(self, client: str) -> None:
        if self._buckets is not None:
            self._buckets.take(client)

    def check_key(self, key: str | None) -> None:
        """Let in whoever has a key, or everybody where there are none.

        Raises:
            UnauthorizedError: otherwise.
        """
        if not self._digests:
            return
        if key is None:
            raise UnauthorizedError(
                "an API key is needed",
                hint="send it as `Authorization: Bearer KEY`, or as xi-api-key or X-API-Key",
            )
        digest = _digest(key)
        # All of them, so that the time tells nothing about which one is near.
        found = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(found):
            raise UnauthorizedError("the API key is wrong", hint="ask the server's operator")

    def check_page(self, headers: Headers) -> None:
        """Keep web pages out that the operator does not know.

        Raises:
            ForbiddenError: for a foreign ``Origin``, or a foreign ``Host`` where there is no key.
        """
        host = headers.get("host", "").lower()
        if self._checks_host and not self._is_ours(host):
            raise ForbiddenError(
                f"the server is not called {host[:80]!r}",
                hint="call it by 127.0.0.1, or add the name to MYNAH_SERVER_ALLOWED_HOSTS",
            )
        origin = headers.get("origin")
        if origin is None or origin in self._origins or "*" in self._origins:
            return
        if urlsplit(origin).netloc.lower() != host:
            raise ForbiddenError(
                f"pages of {origin[:80]!r} may not use this server",
                hint="add the origin to MYNAH_SERVER_CORS_ORIGINS",
            )

    def _is_ours(self, host: str) -> bool:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost" or name.endswith(".localhost") or name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
