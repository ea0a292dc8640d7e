"""The only place that opens connections: HTTP GET with proxies, safe redirects and retries.

Credentials never leave the host they were meant for, and nothing is opened offline.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from mynah import __version__
from mynah.errors import ModelDownloadError, OfflineError

OFFLINE_VARIABLES = ("MYNAH_OFFLINE", "HF_HUB_OFFLINE")
TIMEOUT_S = 30.0
"""Without a byte; a slow connection may take as long as it needs."""
ATTEMPTS = 6
_LONGEST_PAUSE_S = 30.0
_CREDENTIALS = ("authorization", "cookie")
_PASSING = (408, 425, 429, 500, 502, 503, 504)

T = TypeVar("T")
Pause = Callable[[float], None]


class PassingError(Exception):
    """Something that may work the next time.

    ``after_s`` is what the server asked for; ``progressed`` tells that a part did arrive.
    """

    def __init__(
        self, reason: str, after_s: float | None = None, *, progressed: bool = False
    ) -> None:
        super().__init__(reason)
        self.after_s = after_s
        self.progressed = progressed


def is_offline() -> bool:
    """Whether the environment forbids the network (``MYNAH_OFFLINE``, ``HF_HUB_OFFLINE``)."""
    return any(
        os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on")
        for name in OFFLINE_VARIABLES
    )


@dataclass(frozen=True)
class Client:
    """Opens URLs; ``headers`` (credentials) go to the host that they are for and nowhere else."""

    headers: Mapping[str, str] = field(default_factory=dict)
    pause: Pause = time.sleep
    """Waits so many seconds between attempts."""

    @contextmanager
    def open(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[Response]:
        """Open a URL once, following redirects.

        Raises:
            OfflineError: if the network is forbidden.
            ModelDownloadError: for an answer that will not change: no access, no such file.
            PassingError: for what may work the next time.
        """
        if is_offline():
            raise OfflineError(
                f"the network is forbidden by {' or '.join(OFFLINE_VARIABLES)}, "
                f"and {url} is needed",
                hint="unset the variable, or copy the model folder from another machine",
            )
        request = self._request(url, headers or {})
        try:
            with _opener().open(request, timeout=TIMEOUT_S) as answer:
                yield Response(url, answer)
        except urllib.error.HTTPError as error:
            with error:
                raise _http_error(url, error) from error
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", None) or error
            if "CERTIFICATE_VERIFY" in str(reason):
                raise ModelDownloadError(
                    f"cannot open {url}: {reason}",
                    hint="check the address, the proxy settings and the system's certificates",
                ) from error
            raise PassingError(f"{type(error).__name__}: {reason}") from error

    def _request(self, url: str, headers: Mapping[str, str]) -> urllib.request.Request:
        base = {"User-Agent": f"mynah/{__version__}", "Accept-Encoding": "identity"}
        try:
            if urlsplit(url).scheme not in ("http", "https"):
                raise ValueError("neither http nor https")
            return urllib.request.Request(url, headers={**base, **self.headers, **headers})
        except ValueError as error:
            raise ModelDownloadError(
                f"{url} is no address: {error}", hint="check HF_ENDPOINT or MODELSCOPE_DOMAIN"
            ) from error

    def json(self, url: str) -> tuple[Any, Mapping[str, str]]:
        """Fetch JSON, trying again after passing errors; returns it with the answer's headers.

        Raises:
            OfflineError: if the network is forbidden.
            ModelDownloadError: if it cannot be had, or is no JSON.
        """

        def fetch() -> tuple[Any, Mapping[str, str]]:
            with self.open(url) as answer:
                data = answer.stream.read()
                return json.loads(data), answer.headers

        try:
            return self.retry(url, fetch)
        except ValueError as error:
            raise ModelDownloadError(
                f"the answer of {url} is no JSON",
                hint="is there a login page or a proxy in between? check the endpoint",
            ) from error

    def retry(self, what: str, attempt: Callable[[], T]) -> T:
        """Call ``attempt`` until it works, with growing pauses; progress starts the count anew.

        Raises:
            ModelDownloadError: after the last attempt.
        """
        count = 0
        while True:
            try:
                return attempt()
            except PassingError as error:
                count = 0 if error.progressed else count + 1
                if count == ATTEMPTS:
                    raise ModelDownloadError(
                        f"cannot download {what}: {error}",
                        hint="check the connection and run the command again: it goes on "
                        "where it stopped",
                    ) from error
                wait = 2.0**count if error.after_s is None else error.after_s
                self.pause(min(wait, _LONGEST_PAUSE_S))


@dataclass(frozen=True)
class Response:
    """An open answer."""

    url: str
    stream: IO[bytes]

    @property
    def status(self) -> int:
        """HTTP status."""
        return int(getattr(self.stream, "status", 200))

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers; looked up without regard to case."""
        headers: Mapping[str, str] = getattr(self.stream, "headers", {})
        return headers


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Drops credentials when a redirect leaves the host (or its encryption)."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        old, target = urlsplit(req.full_url), urlsplit(newurl)
        if new is not None and (old.scheme, old.netloc) != (target.scheme, target.netloc):
            for name in list(new.headers):
                if name.lower() in _CREDENTIALS:
                    del new.headers[name]
        return new


def _opener() -> urllib.request.OpenerDirector:
    """Only HTTP and HTTPS, through the environment's proxies."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _SafeRedirects(),
    ):
        opener.add_handler(handler)
    return opener


def _http_error(url: str, error: urllib.error.HTTPError) -> Exception:
    if error.code in _PASSING:
        reason = f"the server answered {error.code} {error.reason}"
        return PassingError(reason, _retry_after(error.headers.get("Retry-After")))
    if error.code == 416:
        return RangeRefusedError(url)
    hints = {
        401: "log in: set HF_TOKEN or MODELSCOPE_API_TOKEN to a token with access",
        403: "the token has no access: accept the model's terms on its page, or use another token",
        404: "check the name, the revision and the endpoint",
    }
    hint = hints.get(error.code, "check the endpoint, or try the other source")
    return ModelDownloadError(f"{url} answered {error.code} {error.reason}", hint=hint)


class RangeRefusedError(Exception):
    """The server has no such part of the file."""


def _retry_after(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = email.utils.parsedate_to_datetime(value).timestamp()
    except ValueError:
        return None
    return max(0.0, moment - time.time())
