"""Servers that live as long as the HTTP server does, on ports of their own: gRPC and Wyoming."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import APIRouter, FastAPI

from mynah.server.runtime import Runtime

router = APIRouter()
_log = logging.getLogger("mynah.server")


@asynccontextmanager
async def lifespan(app: FastAPI, runtime: Runtime) -> AsyncIterator[None]:
    """Listen where the settings say; ``app.state`` has ``grpc_port`` and ``wyoming_port`` then.

    Raises:
        InvalidRequestError: if a port is taken.
    """
    settings = runtime.settings
    async with AsyncExitStack() as stack:
        if settings.grpc_port is not None:
            from mynah.server.grpc_service import start_grpc

            grpc = await start_grpc(runtime, settings.host, settings.grpc_port)
            stack.push_async_callback(grpc.aclose)
            app.state.grpc_port = grpc.port
            _log.info("gRPC listens on port %d", grpc.port)
        if settings.wyoming_port is not None:
            from mynah.server.wyoming import start_wyoming

            wyoming = await start_wyoming(runtime, settings.host, settings.wyoming_port)
            stack.push_async_callback(wyoming.aclose)
            app.state.wyoming_port = wyoming.port
            _log.info("Wyoming listens on port %d", wyoming.port)
        yield
