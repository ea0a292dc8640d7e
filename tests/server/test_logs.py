"""What a server writes down: ids and figures, never what a user wrote."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mynah.api import TTS
from mynah.server.logs import configure_logs, log_speeches
from mynah.server.runtime import Runtime
from mynah.server.settings import ServerSettings
from tests.server.conftest import serve

SECRET = "Xylophone marmalade"
_LOGGERS = ("asyncio", "mynah", "uvicorn", "uvicorn.error", "uvicorn.access")


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(one.handlers, one.level, one.propagate) for one in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_request_leaves_its_id_and_none_of_its_words(
    tiny_models: dict[str, TTS], tmp_path: Path
) -> None:
    stream = io.StringIO()
    configure_logs("json", "debug", stream)
    runtime = Runtime(ServerSettings(data_dir=tmp_path), loaded=tiny_models)
    log_speeches(runtime)
    headers = {"X-Request-ID": "call-7"}
    for live in serve(runtime):
        with live.client(headers=headers) as client:
            assert client.get("/tts", params={"text": SECRET}).status_code == 200
            assert client.get("/tts", params={"text": SECRET, "voice": SECRET}).status_code == 404
            assert client.get(f"/{SECRET}", params={"q": SECRET}).status_code == 404
            client.post("/ratings", json={"request_id": "call-7", "score": 2, "tags": ["noise"]})
    assert "marmalade" not in stream.getvalue()
    by_logger: dict[object, list[dict[str, object]]] = {}
    for line in lines(stream):
        by_logger.setdefault(line["logger"], []).append(line)
    access = by_logger["mynah.server.access"]
    assert [(line["route"], line["status"]) for line in access] == [
        ("/tts", 200),
        ("/tts", 404),
        ("-", 404),
        ("/ratings", 201),
    ]
    assert {line["request_id"] for line in access} == {"call-7"}
    spoken, refused = by_logger["mynah.server.speech"]
    assert (spoken["outcome"], spoken["request_id"], spoken["model"]) == ("done", "call-7", "tiny")
    assert spoken["characters"] == len(SECRET)
    assert refused["outcome"] == "unknown_voice"
    (rated,) = by_logger["mynah.server.ratings"]
    assert (rated["rated"], rated["score"], rated["tags"]) == ("call-7", 2, ["noise"])


@pytest.mark.parametrize("form", ["json", "text"])
def test_exceptions_are_told_without_their_message(form: str) -> None:
    stream = io.StringIO()
    configure_logs("json" if form == "json" else "text", "info", stream)
    log = logging.getLogger("uvicorn.error")
    try:
        raise ValueError(SECRET)
    except ValueError:
        log.exception("it broke")
    log.debug("not asked for")
    logging.getLogger("asyncio").warning("socket.send() raised exception.")
    logging.getLogger("uvicorn.access").info("GET /tts?text=%s", SECRET)
    written = stream.getvalue()
    assert written.count("\n") == 1
    assert "it broke" in written
    assert "ValueError" in written
    assert "test_logs.py" in written
    assert "marmalade" not in written


def test_unknown_fields_are_not_written() -> None:
    stream = io.StringIO()
    configure_logs("json", "info", stream)
    logging.getLogger("mynah.server").info("hello", extra={"text": SECRET, "model": "tiny"})
    (line,) = lines(stream)
    assert (line["message"], line["model"], line["level"]) == ("hello", "tiny", "info")
    assert "text" not in line
