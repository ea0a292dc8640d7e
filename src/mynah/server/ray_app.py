"""The same app over many machines: a Ray Serve deployment (extra ``ray``).

``serve run mynah.server.ray_app:build min_replicas=2``, or a configuration file whose
``import_path`` is that; see deploy/ray. The server's own settings come from the environment of the
replicas. A stream or a socket stays with the replica that took it until it is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mynah.errors import BackendUnavailableError
from mynah.server.app import create_app
from mynah.server.logs import configure_logs, log_speeches
from mynah.server.runtime import Runtime
from mynah.server.settings import ServerSettings

try:
    from ray import serve
except ImportError as error:
    raise BackendUnavailableError(
        "Ray Serve is not installed", hint="pip install 'mynah-tts[ray]'"
    ) from error

NAME = "mynah"
REPLICA_HEADER = "X-Replica"
_CHECK_S = 5.0
_HEALTH_S = 30.0


class RayArgs(BaseModel):
    """How many replicas there are, and what each of them gets."""

    model_config = ConfigDict(extra="forbid")

    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=4, ge=1)
    speeches_per_replica: float = Field(default=4.0, gt=0)
    """Requests and sockets in progress that a replica should have; more or fewer replicas are
    started to keep to it. About 0.6 of ``mynah_engine_capacity``."""
    cpus: float = Field(default=2.0, gt=0)
    gpus: float = Field(default=0.0, ge=0)


class Replica:
    """What Ray Serve manages; requests go to the app past it."""

    app: FastAPI

    async def check_health(self) -> None:
        """Tell Ray to replace a replica that cannot speak.

        Raises:
            SynthesisError: if its model cannot be loaded.
        """
        runtime: Runtime = self.app.state.runtime
        if runtime.load_error is not None:
            raise runtime.load_error


def build(args: RayArgs) -> Any:
    """Make the Ray Serve application.

    Raises:
        InvalidRequestError: if no API key is set and it was not allowed to do without.
    """
    # Ray's proxy listens, and Ray decides where: as for any address that others can reach.
    settings = ServerSettings.load(host="0.0.0.0")
    settings.check_exposure()
    deployment = serve.deployment(
        serve.ingress(app_builder())(Replica),
        name=NAME,
        # Replicas refuse by themselves what they cannot serve in time; Ray must not let it wait.
        max_ongoing_requests=4 * settings.max_sessions,
        ray_actor_options={"num_cpus": args.cpus, "num_gpus": args.gpus},
        autoscaling_config={
            "min_replicas": args.min_replicas,
            "max_replicas": max(args.max_replicas, args.min_replicas),
            "target_ongoing_requests": args.speeches_per_replica,
            "upscale_delay_s": 5.0,
            "downscale_delay_s": 300.0,
        },
        health_check_period_s=_CHECK_S,
        health_check_timeout_s=_HEALTH_S,
        # A replica that is taken down finishes what it speaks.
        graceful_shutdown_timeout_s=settings.drain_s,
    )
    return deployment.bind()


def app_builder() -> Callable[[], FastAPI]:
    """Return the function that makes a replica's app, in that replica."""

    def make() -> FastAPI:
        settings = ServerSettings.load(host="0.0.0.0")
        replica = serve.get_replica_context().replica_id.unique_id
        # Each replica keeps jobs of its own: two must not work through one queue.
        settings = settings.model_copy(update={"data_dir": settings.data_path / replica})
        configure_logs(settings.log_format, settings.log_level)
        runtime = Runtime(settings)
        log_speeches(runtime)
        runtime.load()  # Ray sends requests when this is done
        app = create_app(runtime)
        app.add_middleware(_Named, name=replica)
        return app

    return make


class _Named:
    """Says in every answer which replica gave it."""

    def __init__(self, app: ASGIApp, name: str) -> None:
        self._app, self._name = app, name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def named(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                MutableHeaders(scope=message)[REPLICA_HEADER] = self._name
            await send(message)

        await self._app(scope, receive, named)
