"""Logs of a server: one line each, as text or JSON, with request ids and without users' words."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import IO, Any, Literal

from mynah.server.context import request_id
from mynah.server.runtime import Runtime, SpeechRecord

Format = Literal["text", "json"]

FIELDS = (
    "request_id", "method", "route", "status", "took_ms",
    "protocol", "model", "outcome", "characters", "first_audio_ms", "total_ms", "audio_s",
    "underruns", "rated", "score", "tags", "job",
)  # fmt: skip
"""What a line may carry besides its message. Nothing else is written, whatever is passed."""

_speech = logging.getLogger("mynah.server.speech")


class JsonLines(logging.Formatter):
    """A JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        given = {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if "request_id" not in given and (current := request_id.get()):
            given["request_id"] = current
        line |= {name: value for name, value in given.items() if value is not None}
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = _kind_and_place(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


class TextLines(logging.Formatter):
    """For people: time, level, message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line = f"{_time(record)} {record.levelname.lower():7} {record.getMessage()}"
        if (current := request_id.get()) and current not in line:
            line += f" {current}"
        if record.exc_info and record.exc_info[1] is not None:
            line += f" [{'; '.join(_kind_and_place(record.exc_info[1]))}]"
        return line


def configure_logs(
    form: Format = "text", level: str = "info", stream: IO[str] | None = None
) -> None:
    """Write the log of this process to a stream; the last call counts.

    Exceptions are told by kind and place: their messages may quote what a user wrote. Uvicorn's
    own access log, which writes whole addresses, is off: ``mynah.server.access`` replaces it.

    Args:
        form: lines of text, or of JSON.
        level: ``debug``, ``info``, ``warning`` or ``error``.
        stream: None = standard error.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    for name in ("mynah", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False
    # It warns of every listener who leaves in the middle of a write.
    asyncio_log = logging.getLogger("asyncio")
    asyncio_log.handlers = [handler]
    asyncio_log.setLevel("ERROR")
    asyncio_log.propagate = False
    for name in ("uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
    logging.getLogger("uvicorn.error").propagate = True
    logging.getLogger("uvicorn.access").propagate = False


def log_speeches(runtime: Runtime) -> None:
    """Write a line for every speech that is over."""
    runtime.listeners.append(_log_speech)


def _log_speech(record: SpeechRecord) -> None:
    first = None if record.first_audio_s is None else round(1000 * record.first_audio_s, 1)
    fields = {
        "request_id": request_id.get() or None,
        "protocol": record.protocol,
        "model": record.model,
        "outcome": record.outcome,
        "characters": record.characters,
        "first_audio_ms": first,
        "total_ms": round(1000 * record.total_s, 1),
        "audio_s": round(record.audio_s, 2),
        "underruns": record.underruns,
    }
    _speech.info(
        "speech %(outcome)s by %(protocol)s: %(audio_s)s s, first after %(first_audio_ms)s ms",
        fields,
        extra=fields,
    )


def _time(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def _kind_and_place(error: BaseException) -> list[str]:
    """Kind of an exception and its trace, innermost last; not its message."""
    places = [
        f"{frame.filename}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    return [type(error).__name__, *places]
