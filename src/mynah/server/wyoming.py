"""Wyoming, the protocol of Home Assistant's voice services: JSON lines and bare samples over TCP.

It knows no keys, so it is for trusted networks; ``ServerSettings.check_exposure`` is the caller's.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

from mynah import __version__
from mynah.audio import pcm
from mynah.errors import InvalidRequestError, UnsupportedFeatureError
from mynah.server.errors import ConflictError, TooLargeError
from mynah.server.fed import FedSpeech
from mynah.server.parameters import Manner, SpeechParameters
from mynah.server.pieces import pieces_of
from mynah.server.runtime import Runtime
from mynah.server.speech import speak
from mynah.server.spoken import check_length
from mynah.server.voices import describe_voices
from mynah.types import FloatArray

DEFAULT_PORT = 10200
_LINE_BYTES = 1 << 20
_DATA_BYTES = 1 << 20
_PAYLOAD_BYTES = 10 << 20
_CHUNK_SAMPLES = 1024
_MOST_CONNECTIONS = 100
_WAITING = 8
"""Requests of one connection that wait for the one being spoken."""

_ATTRIBUTION = {"name": "mynah", "url": "https://pypi.org/project/mynah-tts/"}
_log = logging.getLogger("mynah.server")


class _GoneError(Exception):
    """The client left, stopped reading, or is to be left."""


@dataclass(frozen=True)
class Event:
    """One message."""

    type: str
    data: dict[str, Any] = field(default_factory=dict)


class WyomingServer:
    """A server that listens.

    Attributes:
        port: where.
    """

    def __init__(self, server: asyncio.Server, tasks: set[asyncio.Task[None]]) -> None:
        """Take over a started server and the tasks of its connections."""
        self._server, self._tasks = server, tasks
        self.port: int = server.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        """Take no new client, and stop the work for those there are."""
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def start_wyoming(
    runtime: Runtime, host: str = "127.0.0.1", port: int = DEFAULT_PORT
) -> WyomingServer:
    """Begin to serve in the running event loop; ``port`` 0 = any free one.

    Raises:
        InvalidRequestError: if nobody can listen there.
    """
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # this runs in one
        if len(tasks) >= _MOST_CONNECTIONS:
            writer.close()
            return
        tasks.add(task)
        try:
            await _Connection(runtime, reader, writer).serve()
        except asyncio.CancelledError:  # by aclose()
            return
        finally:
            tasks.discard(task)
            writer.transport.abort()

    try:
        server = await asyncio.start_server(serve, host, port, limit=_LINE_BYTES)
    except OSError as error:
        raise InvalidRequestError(
            f"nobody can listen at {host}:{port}", hint="choose another port for Wyoming"
        ) from error
    return WyomingServer(server, tasks)


class _Connection:
    """One client: events are read all the time, and one text is spoken at a time."""

    def __init__(
        self, runtime: Runtime, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._runtime, self._reader, self._writer = runtime, reader, writer
        self._address = str((writer.get_extra_info("peername") or ("unknown",))[0])
        self._sending = asyncio.Lock()
        self._texts: asyncio.Queue[Event | FedSpeech] = asyncio.Queue(_WAITING)
        self._open: FedSpeech | None = None
        """A text that is still coming."""

    async def serve(self) -> None:
        """Serve until the client leaves, or something goes wrong for it."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._speak_all())
                await self._listen()
        except* _GoneError:
            pass
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):  # for what was sent last
                self._writer.close()
                await self._writer.wait_closed()

    async def _listen(self) -> None:
        try:
            while True:
                await self._handle(await self._receive())
        except _GoneError:
            raise
        except Exception as error:
            await self._complain(error)
            raise _GoneError from error

    async def _handle(self, event: Event) -> None:
        data = event.data
        match event.type:
            case "describe":
                await self._send("info", await _info(self._runtime))
            case "ping":
                await self._send("pong", {"text": data.get("text")})
            case "synthesize" if self._open is None:
                self._runtime.door.admit_keyless(self._address)
                self._wait_in_line(event)
            case "synthesize-start":
                if self._open is not None:
                    raise ConflictError(
                        "a text is still coming", hint="send synthesize-stop before the next one"
                    )
                manner = _manner(data)
                self._runtime.door.admit_keyless(self._address)
                self._open = FedSpeech(self._runtime, manner, protocol="wyoming")
                self._wait_in_line(self._open)
            case "synthesize-chunk" if self._open is not None:
                self._open.feed(_text(data))
            case "synthesize-stop" if self._open is not None:
                self._open.end()
                self._open = None
            case _:  # unknown, or for servers that know no streaming
                pass

    def _wait_in_line(self, text: Event | FedSpeech) -> None:
        try:
            self._texts.put_nowait(text)
        except asyncio.QueueFull as error:
            raise ConflictError(
                f"more than {_WAITING} texts wait to be spoken", hint="wait for audio-stop"
            ) from error

    async def _speak_all(self) -> None:
        while True:
            text = await self._texts.get()
            try:
                if isinstance(text, Event):
                    await self._speak(text)
                else:
                    await self._speak_fed(text)
            except _GoneError:
                raise
            except Exception as error:
                await self._complain(error)
                if not isinstance(text, Event):
                    await self._send("synthesize-stopped", {})
                # a client that waits for audio-stop learns from this that none comes
                raise _GoneError from error

    async def _speak(self, event: Event) -> None:
        text = _text(event.data)
        manner = _manner(event.data)
        check_length(len(text), self._runtime.settings.max_text_characters)
        parameters = SpeechParameters(text=text, **manner.model_dump())
        async with await speak(self._runtime, parameters, protocol="wyoming") as spoken:
            await self._play(piece.samples async for piece in pieces_of(spoken))

    async def _speak_fed(self, speech: FedSpeech) -> None:
        async with aclosing(speech.pieces()) as pieces:
            await self._play(piece.samples async for piece in pieces)
        await self._send("synthesize-stopped", {})

    async def _play(self, parts: AsyncIterator[FloatArray]) -> None:
        tts = await self._runtime.tts()
        form: dict[str, Any] = {"rate": tts.sample_rate, "width": 2, "channels": 1}
        sent = 0
        async for samples in parts:
            if not sent:
                await self._send("audio-start", {**form, "timestamp": 0})
            data = pcm.to_bytes(samples)
            size = _CHUNK_SAMPLES * pcm.BYTES_PER_SAMPLE
            for start in range(0, len(data), size):
                chunk = data[start : start + size]
                now = 1000 * sent // tts.sample_rate
                await self._send("audio-chunk", {**form, "timestamp": now}, chunk)
                sent += len(chunk) // pcm.BYTES_PER_SAMPLE
        if sent:
            await self._send("audio-stop", {"timestamp": 1000 * sent // tts.sample_rate})

    async def _complain(self, error: Exception) -> None:
        problem = self._runtime.problem(error)
        text = f"{problem.message} ({problem.solution})" if problem.solution else problem.message
        await self._send("error", {"text": text, "code": problem.code})

    async def _send(self, kind: str, data: Mapping[str, Any], payload: bytes = b"") -> None:
        """Write an event; a client that stops reading is let go."""
        body = json.dumps(data, ensure_ascii=False).encode()
        head = {"type": kind, "version": __version__, "data_length": len(body)}
        if payload:
            head["payload_length"] = len(payload)
        stall_s = self._runtime.settings.stall_s
        try:
            async with self._sending, asyncio.timeout(stall_s):
                self._writer.write(json.dumps(head).encode() + b"\n" + body + payload)
                await self._writer.drain()
        except TimeoutError as error:
            _log.info("a client stopped reading for %g s and was let go", stall_s)
            raise _GoneError from error
        except OSError as error:
            raise _GoneError from error

    async def _receive(self) -> Event:
        """Read an event; silence between two is bounded, and inside one more so."""
        settings = self._runtime.settings
        try:
            async with asyncio.timeout(settings.body_s if self._open else settings.request_s):
                line = await self._reader.readuntil(b"\n")
            async with asyncio.timeout(settings.body_s):
                return await self._rest_of(line)
        except asyncio.LimitOverrunError as error:
            raise TooLargeError("a line is too long", hint="send data after the line") from error
        except (asyncio.IncompleteReadError, OSError, TimeoutError) as error:
            raise _GoneError from error

    async def _rest_of(self, line: bytes) -> Event:
        head = _object(line)
        kind = head.get("type")
        if not isinstance(kind, str):
            raise InvalidRequestError("an event has no type", hint="see the Wyoming protocol")
        inline = head.get("data")
        data = dict(inline) if isinstance(inline, dict) else {}
        size = _length(head, "data_length", _DATA_BYTES)
        if size:
            data |= _object(await self._reader.readexactly(size))
        payload = _length(head, "payload_length", _PAYLOAD_BYTES)
        while payload:  # nothing that is understood here has one
            payload -= len(await self._reader.readexactly(min(payload, _LINE_BYTES)))
        return Event(kind, data)


async def _info(runtime: Runtime) -> dict[str, Any]:
    tts = await runtime.tts()
    voices = [
        {
            "name": info.name,
            "description": info.name,
            "attribution": _ATTRIBUTION,
            "installed": True,
            "version": None,
            "languages": _languages(info.language, tts.config.languages),
            "speakers": None,
        }
        for info in await describe_voices(runtime)
    ]
    program = {
        "name": "mynah",
        "description": f"mynah with the model {runtime.default_model}",
        "attribution": _ATTRIBUTION,
        "installed": True,
        "version": __version__,
        "voices": voices,
        "supports_synthesize_streaming": True,
    }
    nothing: dict[str, Any] = {
        kind: [] for kind in ("asr", "handle", "intent", "wake", "mic", "snd")
    }
    return {**nothing, "tts": [program]}


def _languages(own: str, of_model: tuple[str, ...]) -> list[str]:
    """A voice's own language first; every voice speaks all of the model's."""
    return list(dict.fromkeys([*([own] if own else []), *of_model]))


def _manner(data: Mapping[str, Any]) -> Manner:
    """Who speaks.

    Raises:
        InvalidRequestError: if the voice is none.
        UnsupportedFeatureError: for a text that is not plain.
    """
    if data.get("text_format") not in (None, "text", "plain"):
        raise UnsupportedFeatureError(
            f"text of the format {str(data['text_format'])[:40]!r} is not understood here",
            hint="send plain text",
        )
    voice = data.get("voice") or {}
    if not isinstance(voice, dict):
        raise InvalidRequestError("voice is no object", hint='send {"name": ...}')
    name, language = voice.get("name"), voice.get("language")
    for value in (name, language):
        if value is not None and not isinstance(value, str):
            raise InvalidRequestError("name or language of a voice is no string", hint="fix it")
    return Manner(voice=name or None, language=None if name else _code(language))


def _code(language: str | None) -> str | None:
    """Home Assistant writes some codes with an underscore."""
    return language.replace("_", "-") if language else None


def _text(data: Mapping[str, Any]) -> str:
    text = data.get("text")
    if not isinstance(text, str):
        raise InvalidRequestError("text is no string", hint='send {"text": ...}')
    return text


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(
            "an event is not valid JSON", hint="see the Wyoming protocol"
        ) from error
    if not isinstance(value, dict):
        raise InvalidRequestError("an event is no JSON object", hint="see the Wyoming protocol")
    return value


def _length(head: Mapping[str, Any], key: str, most: int) -> int:
    value = head.get(key) or 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidRequestError(f"{key} is no length", hint="see the Wyoming protocol")
    if value > most:
        raise TooLargeError(f"{key} is {value}, the limit is {most}", hint="send less")
    return value
