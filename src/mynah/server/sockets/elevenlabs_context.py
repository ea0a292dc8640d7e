"""One text on an ElevenLabs socket: what is buffered, and what is being spoken of it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from mynah.server.elevenlabs import alignment_in_ms
from mynah.server.fed import FedSpeech
from mynah.server.frames import EncodedPieces
from mynah.server.parameters import Encoding, Manner
from mynah.server.pieces import Piece
from mynah.server.runtime import Runtime
from mynah.server.sockets.link import Link
from mynah.server.sockets.schedule import FLUSH, Buffer


class Context:
    """Feed it with ``add``, and run ``speak`` beside."""

    def __init__(
        self,
        link: Link,
        runtime: Runtime,
        manner: Manner,
        encoding: Encoding,
        *,
        schedule: Sequence[int],
        auto: bool,
        name: str | None,
    ) -> None:
        """Wait for text; ``name`` = None on a socket that has only one context."""
        self.name = name
        self._link, self._runtime = link, runtime
        self._manner, self._encoding = manner, encoding
        self._speech = FedSpeech(runtime, manner, protocol="elevenlabs-ws")
        self._buffer = Buffer(schedule, auto=auto)
        self._is_flushed = False
        self._is_heard = False  # whether audio was sent since the flush

    @property
    def is_waiting_to_be_heard(self) -> bool:
        """Whether all text was flushed, and none of that was sent yet."""
        return self._is_flushed and not self._is_heard

    def add(self, text: str, *, trigger: bool, flush: bool) -> None:
        """Append text.

        Raises:
            InvalidRequestError: if it becomes too long.
        """
        if text.strip():
            self._is_flushed = False
        for part in self._buffer.add(text, trigger=trigger, flush=flush):
            if part is FLUSH:
                self._speech.flush()
            else:
                self._speech.feed(part)
        if flush:
            self._speech.flush()
            self._is_flushed, self._is_heard = True, False

    def end(self, *, drop: bool = False) -> None:
        """Say that no more text comes; ``drop`` what is still buffered."""
        rest = self._buffer.rest()
        if not drop:
            self._speech.feed(rest)
        self._speech.end()

    async def speak(self) -> None:
        """Send the audio of all that is fed, then that it was the last."""
        out: EncodedPieces | None = None
        async with aclosing(self._speech.pieces()) as pieces:
            async for piece in pieces:
                out = await self._output() if out is None else out
                await self._send(b"".join(await out.encode(piece.samples)), piece)
        if out is not None:
            await self._send(b"".join(await out.finish()), None)
        await self.send_final()

    async def send_final(self) -> None:
        """Tell the client that nothing more comes."""
        await self._link.send(self._named({"audio": None, "isFinal": True}))

    async def _output(self) -> EncodedPieces:
        tts = await self._runtime.tts(self._manner.model)
        encoder = self._encoding.open(tts.sample_rate)
        return EncodedPieces(self._runtime, encoder, self._encoding.format)

    async def _send(self, data: bytes, piece: Piece | None) -> None:
        alignment = None if piece is None else alignment_in_ms(piece)
        if not data and alignment is None:
            return
        await self._link.send(
            self._named(
                {
                    "audio": base64.b64encode(data).decode(),
                    "isFinal": None,
                    "alignment": alignment,
                    "normalizedAlignment": alignment,
                }
            )
        )
        self._is_heard = True

    def _named(self, message: dict[str, Any]) -> dict[str, Any]:
        return message if self.name is None else {**message, "contextId": self.name}
