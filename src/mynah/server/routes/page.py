"""The web page at ``/``: plain files of this package, nothing from anywhere else."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

from fastapi import APIRouter, Request, Response

from mynah.server.errors import NotFoundError

router = APIRouter(include_in_schema=False)
OPEN_PATHS = ("/", "/page/*")

_FOLDER = "page"
_INDEX = "index.html"
_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "media-src blob:",  # a recording is listened to before it is sent
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Kept by the browser, but asked for each time: a new version of the server shows at once.
    "Cache-Control": "no-cache",
}


@router.api_route("/", methods=["GET", "HEAD"])
async def index(request: Request) -> Response:
    """Serve the page."""
    return _answer(request, _INDEX)


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
async def part(request: Request, name: str) -> Response:
    """Serve one of the page's files.

    Raises:
        NotFoundError: if there is none of that name.
    """
    if name == _INDEX or name not in _files():
        raise NotFoundError("there is no such file", hint="the page is at /")
    return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    content, content_type, tag = _files()[name]
    headers = {**_HEADERS, "ETag": tag}
    known = [one.strip().removeprefix("W/") for one in _if_none_match(request)]
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=content_type)


def _if_none_match(request: Request) -> list[str]:
    return request.headers.get("if-none-match", "").split(",")


@cache
def _files() -> dict[str, tuple[bytes, str, str]]:
    """Every file of the page by its name: content, type, and tag of this content."""
    found = {}
    for file in resources.files("mynah.server").joinpath(_FOLDER).iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in _CONTENT_TYPES:
            content = file.read_bytes()
            tag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
            found[file.name] = (content, _CONTENT_TYPES[suffix], tag)
    return found
