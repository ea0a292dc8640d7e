"""Who may use the server: API keys, the origins of web pages, and the names it is called by."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from mynah.server.errors import ForbiddenError, UnauthorizedError
from mynah.server.settings import ServerSettings

_BEARER = "bearer "
KEY_HEADERS = ("xi-api-key", "x-api-key")


def key_of(headers: Headers) -> str | None:
    """The API key that a request carries, in whichever header."""
    authorization = headers.get("authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    return next((headers[name] for name in KEY_HEADERS if name in headers), None)


class Doorkeeper:
    """Checks requests against the settings."""

    def __init__(self, settings: ServerSettings) -> None:
        """Keep digests of the keys only."""
        self._digests = [_digest(key.get_secret_value()) for key in settings.api_keys]
        self._origins = set(settings.cors_origins)
        self._hosts = {host.lower() for host in settings.allowed_hosts}
        # Only there can a page that calls itself by another name do harm: elsewhere a key is
        # asked for, or the operator opened the server to everybody.
        self._checks_host = not (self._digests or settings.is_public or "*" in self._hosts)

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
