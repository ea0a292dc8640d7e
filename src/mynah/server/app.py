"""The whole HTTP app: routers, errors, and the layers around them."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from mynah import __version__
from mynah.errors import SynthesisError
from mynah.server.context import ERROR_CODE, IS_SOCKET, REQUEST_ID_HEADER, RequestContext
from mynah.server.errors import Renderer, problem_of, render
from mynah.server.openapi import describe
from mynah.server.runtime import Runtime
from mynah.server.tracing import Tracing, tracer_of

ROUTERS = (
    "mynah.server.routes.health",
    "mynah.server.routes.tts",
    "mynah.server.routes.metrics",
    "mynah.server.routes.page",
    "mynah.server.routes.elevenlabs",  # before OpenAI's, with which it shares an address
    "mynah.server.routes.elevenlabs_voices",
    "mynah.server.routes.openai",
    "mynah.server.routes.openai_voices",
    "mynah.server.routes.cosyvoice",
    "mynah.server.sockets.own",
    "mynah.server.sockets.elevenlabs",
    "mynah.server.sockets.dashscope",
    "mynah.server.listeners",
    "mynah.server.routes.voices",
    "mynah.server.routes.jobs",
)
"""Modules with a ``router``, in order of precedence. They may also have

* ``OPEN_PATHS``: paths that need no API key (or check it themselves); ``*`` at the end = all below;
* ``ERROR_FORMS``: path prefix -> renderer, for protocols with error bodies of their own;
* ``setup(app, runtime)``: called once;
* ``lifespan(app, runtime)``: an asynchronous context manager around the server's life.
"""

_EXPOSED = (
    "X-Sample-Rate", "X-Channels", "X-Seed", "X-Voice", "X-Model", "X-Emotion-Strength",
    "Retry-After", REQUEST_ID_HEADER,
)  # fmt: skip
_DESCRIPTION = "Streaming text to speech on this machine."


def create_app(runtime: Runtime) -> FastAPI:
    """Make the app of a runtime; loading the default model begins when it starts."""
    modules = [importlib.import_module(name) for name in ROUTERS]
    app = FastAPI(
        title="mynah",
        version=__version__,
        description=_DESCRIPTION,
        # The interactive pages fetch their scripts from elsewhere; this server fetches nothing.
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan(runtime, modules),
    )
    app.state.runtime = runtime
    forms: dict[str, Renderer] = {}
    open_paths: list[str] = []
    for module in modules:
        app.include_router(module.router)
        forms |= getattr(module, "ERROR_FORMS", {})
        open_paths += getattr(module, "OPEN_PATHS", ())
        if hasattr(module, "setup"):
            module.setup(app, runtime)
    renderer_of = _chooser(forms)
    describe(app, {prefix: prefix for prefix in forms})

    async def fail(request: Request, error: Exception) -> Response:
        if hasattr(request.state, IS_SOCKET):
            raise error  # ``RequestContext`` closes it
        problem = problem_of(error)
        if problem.status == 405:  # each route knows its own method only
            problem = replace(problem, headers={"Allow": _allowed(app, request.url.path)})
        setattr(request.state, ERROR_CODE, problem.code)
        return renderer_of(request.url.path)(problem, request.state.request_id)

    for kind in (SynthesisError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, fail)
    app.add_middleware(
        RequestContext,
        settings=runtime.settings,
        door=runtime.door,
        open_paths=open_paths,
        renderer_of=renderer_of,
        report=runtime.report_request,
    )
    if runtime.settings.tracing:
        app.add_middleware(Tracing, tracer=tracer_of(), runtime=runtime)
    if runtime.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(runtime.settings.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=list(_EXPOSED),
        )
    return app


def _lifespan(
    runtime: Runtime, modules: list[Any]
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def live(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(runtime.preload())
        entered: list[AbstractAsyncContextManager[None]] = []
        try:
            for module in modules:
                if hasattr(module, "lifespan"):
                    manager = module.lifespan(app, runtime)
                    await manager.__aenter__()
                    entered.append(manager)
            yield
        finally:
            runtime.is_draining = True
            for manager in reversed(entered):
                await manager.__aexit__(None, None, None)
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)

    return live


def _allowed(app: FastAPI, path: str) -> str:
    """The methods of all routes of a path, as the description of the API lists them."""
    described = app.openapi()["paths"]
    # a path that is described by itself is not an example of another one
    matching = (
        [path]
        if path in described
        else [template for template in described if compile_path(template)[0].match(path)]
    )
    found = {method.upper() for template in matching for method in described[template]}
    return ", ".join(sorted(found))


def _chooser(forms: dict[str, Renderer]) -> Callable[[str], Renderer]:
    prefixes = sorted(forms, key=len, reverse=True)

    def choose(path: str) -> Renderer:
        return next((forms[prefix] for prefix in prefixes if path.startswith(prefix)), render)

    return choose
