"""What routes ask for."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from mynah.server.runtime import Runtime


def get_runtime(connection: HTTPConnection) -> Runtime:
    """The server's runtime, for requests and sockets."""
    runtime: Runtime = connection.app.state.runtime
    return runtime


RuntimeHere = Annotated[Runtime, Depends(get_runtime)]
