"""OpenTelemetry spans for requests and speeches, where the extra ``otel`` is installed.

A span tells what the log line of its request tells, and no more: no text, no names from paths.
"""

from __future__ import annotations

import importlib.util
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mynah.errors import BackendUnavailableError
from mynah.server.context import REQUEST_ID_HEADER
from mynah.server.runtime import Runtime, SpeechRecord

_NAME = "mynah.server"


def tracer_of(provider: Any = None) -> Any:
    """Return a tracer of OpenTelemetry.

    If nobody has set a provider for this process (``opentelemetry-instrument`` does), one is set
    that sends spans by OTLP over HTTP, as the standard ``OTEL_*`` variables say.

    Args:
        provider: instead of the process'.

    Raises:
        BackendUnavailableError: if OpenTelemetry is not installed.
    """
    if importlib.util.find_spec("opentelemetry") is None:
        raise _missing()
    from opentelemetry import trace

    if provider is None and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise _missing() from error
        made = TracerProvider(resource=Resource.create({"service.name": "mynah"}))
        made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(made)
    return trace.get_tracer(_NAME, tracer_provider=provider)


class Tracing:
    """ASGI middleware: a span for each request and socket, a child of the caller's."""

    def __init__(self, app: ASGIApp, tracer: Any, runtime: Runtime) -> None:
        """Wrap an app; speeches of ``runtime`` become children of their requests."""
        self._app, self._tracer = app, tracer
        runtime.listeners.append(self._on_speech)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or socket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        from opentelemetry import propagate
        from opentelemetry.trace import SpanKind, Status, StatusCode

        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in (b"traceparent", b"tracestate")
        }
        method = scope.get("method", "WEBSOCKET")
        with self._tracer.start_as_current_span(
            method,
            context=propagate.extract(carrier),
            kind=SpanKind.SERVER,
            record_exception=False,  # its message may hold what a user wrote
        ) as span:

            async def note(message: Message) -> None:
                if message["type"].endswith("http.response.start"):
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(Status(StatusCode.ERROR))
                    _note_id(span, message)
                await send(message)

            try:
                await self._app(scope, receive, note)
            finally:
                route = getattr(scope.get("route"), "path", "-")
                span.update_name(f"{method} {route}")
                span.set_attribute("http.request.method", method)
                span.set_attribute("http.route", route)

    def _on_speech(self, record: SpeechRecord) -> None:
        """Add the speech, which is over, to the current request's trace."""
        now = time.time_ns()
        span = self._tracer.start_span("speech", start_time=now - int(record.total_s * 1e9))
        for name in ("protocol", "model", "outcome", "characters", "audio_s", "underruns"):
            span.set_attribute(f"mynah.{name}", getattr(record, name))
        if record.first_audio_s is not None:
            span.set_attribute("mynah.first_audio_s", record.first_audio_s)
        span.end(end_time=now)


def _note_id(span: Any, message: Message) -> None:
    wanted = REQUEST_ID_HEADER.lower().encode("ascii")
    for name, value in message.get("headers", ()):
        if name.lower() == wanted:
            span.set_attribute("mynah.request_id", value.decode("ascii"))


def _missing() -> BackendUnavailableError:
    return BackendUnavailableError(
        "OpenTelemetry is not installed", hint="pip install 'mynah-tts[otel]'"
    )
