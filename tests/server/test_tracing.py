"""Spans of requests and speeches, with the real OpenTelemetry SDK and an exporter in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mynah.api import TTS
from mynah.errors import BackendUnavailableError
from mynah.server import app, tracing
from mynah.server.runtime import Runtime
from mynah.server.settings import ServerSettings
from tests.server.conftest import serve

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def exporter() -> Any:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    return InMemorySpanExporter()


def test_a_speech_is_a_child_of_its_request(
    exporter: Any, tiny_models: dict[str, TTS], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = tracing.tracer_of(provider)
    monkeypatch.setattr(app, "tracer_of", lambda: tracer)
    runtime = Runtime(ServerSettings(data_dir=tmp_path, tracing=True), loaded=tiny_models)
    for live in serve(runtime):
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "X-Request-ID": "call-7"}
        with live.client(headers=headers) as client:
            answer = client.post("/tts", json={"text": "Xylophone marmalade.", "stream": True})
            assert answer.status_code == 200
            client.get("/nowhere")
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"speech", "POST /tts", "GET -"}
    request, speech = spans["POST /tts"], spans["speech"]
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == CALLER
    assert speech.parent.span_id == request.context.span_id
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["mynah.request_id"] == "call-7"
    assert speech.attributes["mynah.outcome"] == "done"
    assert speech.attributes["mynah.first_audio_s"] > 0
    assert request.start_time <= speech.end_time <= request.end_time
    assert "marmalade" not in "".join(span.to_json() for span in spans.values())


def test_without_opentelemetry_the_cure_is_named() -> None:
    """In a process of its own, where it cannot be found."""
    code = (
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'opentelemetry' else find(name)\n"
        "from mynah.server import tracing\n"
        "try:\n"
        "    tracing.tracer_of()\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(BackendUnavailableError.__name__)
    assert "mynah-tts[otel]" in done.stdout
