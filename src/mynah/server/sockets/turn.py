"""One request of a conversation over a socket, being spoken."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mynah.audio.encoders import FORMATS
from mynah.audio.opus_packets import OpusPackets
from mynah.errors import UnsupportedFeatureError
from mynah.server.errors import Problem
from mynah.server.fed import FedSpeech
from mynah.server.frames import EncodedPieces, PacketPieces
from mynah.server.numbers import FrameMs
from mynah.server.parameters import Encoding, Manner, Timeout
from mynah.server.pieces import Piece, characters, words
from mynah.server.runtime import Runtime
from mynah.server.sockets.bit_rate import BitRate
from mynah.server.sockets.link import GoneError, Link
from mynah.server.speech import find_voice

PACKETS = "opus-raw"
"""The format whose bit rate can change: bare Opus packets, one in every binary message."""
_PACKETS_BIT_RATE = 32_000
_DECIMALS = 3


class Options(BaseModel):
    """What a client wants to get; ``Manner`` says how it is spoken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str | None = Field(None, max_length=100)
    """Given back in every event of this request."""
    text: str | None = Field(None, repr=False)
    """A whole text, instead of pieces that follow."""
    format: str = "pcm"
    sample_rate: int | None = None
    bit_rate: int | None = None
    frame_ms: FrameMs | None = None
    timing: bool = True
    in_time: bool = True
    """Whether somebody listens while it is made; others get what time is left."""
    timeout_s: Timeout | None = None
    """From ``start`` to the last audio."""


class Turn:
    """Speaks what is fed to ``speech``, and tells the client about it."""

    def __init__(
        self, link: Link, runtime: Runtime, manner: Manner, options: Options, session: str
    ) -> None:
        """Do nothing before ``run``."""
        self.options = options
        self.speech = FedSpeech(
            runtime, manner, protocol="ws", in_time=options.in_time, timeout_s=options.timeout_s
        )
        self.bit_rate = BitRate(options.bit_rate or _PACKETS_BIT_RATE)
        self.is_over = False
        """Whether nothing more will be sent for it."""
        self.has_failed = False
        self._link, self._runtime, self._session = link, runtime, session
        self._began_at = time.monotonic()
        self._first_at: float | None = None
        self._sent: list[Piece] = []
        """Without their samples."""
        self._sentence: list[Piece] = []

    @property
    def is_ended(self) -> bool:
        """Whether all of its text came."""
        return self.speech.is_ended

    async def run(self) -> None:
        """Speak until the end of the text.

        Raises:
            GoneError: if the client left; the work has ended then, and so it has when the task
                is cancelled.
        """
        try:
            await self._speak()
        except GoneError:
            raise
        except Exception as error:  # noqa: BLE001 - the client is told
            await self.fail(error)
        finally:
            self.is_over = True

    async def fail(self, error: BaseException) -> None:
        """Tell the client that this is over, and why."""
        self.is_over = self.has_failed = True
        await self._link.send(error_event(self._runtime.problem(error), self.options.id))

    def cancelled(self, played_s: float | None) -> dict[str, Any]:
        """The event that answers a cancellation.

        ``played_s`` is what the listener heard, as the client says; None = all that was sent.
        """
        heard_s = self._audio_s if played_s is None else min(played_s, self._audio_s)
        heard = [
            character.text
            for piece in self._sent
            for character in characters(piece)
            if character.end_s <= heard_s + 1e-6
        ]
        return {
            "type": "cancelled",
            "id": self.options.id,
            "spoken_text": "".join(heard),
            "audio_s": round(self._audio_s, _DECIMALS),
        }

    @property
    def _audio_s(self) -> float:
        return self._sent[-1].start_s + self._sent[-1].duration_s if self._sent else 0.0

    async def _speak(self) -> None:
        runtime, manner = self._runtime, self.speech.manner
        tts = await runtime.tts(manner.model)
        voice = await find_voice(runtime, tts, manner)
        output = _open_output(runtime, self.options, tts.sample_rate, self.bit_rate.next())
        ready: dict[str, Any] = {
            "type": "ready",
            "id": self.options.id,
            "session": self._session,
            "model": manner.model or runtime.default_model,
            "voice": voice.name,
            "seed": manner.seed,
            "format": self.options.format,
            "sample_rate": output.sample_rate,
            "channels": 1,
            "frame_ms": self.options.frame_ms or runtime.settings.frame_ms,
        }
        if manner.strength_used is not None:
            ready["emotion_strength"] = manner.strength_used
        if isinstance(output, PacketPieces):
            ready |= {"bit_rate": output.bit_rate, "pre_skip": output.pre_skip}
        await self._link.send(ready)
        if self.options.text is not None:
            self.speech.feed(self.options.text)
            self.speech.end()
        async with aclosing(self.speech.pieces()) as pieces:
            async for piece in pieces:
                await self._play(piece, output)
        await self._end_sentence()
        for data in await output.finish():
            await self._link.send(data)
        self.is_over = True
        await self._link.send(self._done())

    async def _play(self, piece: Piece, output: EncodedPieces | PacketPieces) -> None:
        if self._sentence and piece.utterance != self._sentence[-1].utterance:
            await self._end_sentence()
            if isinstance(output, PacketPieces):
                await self._adapt(output)
        if piece.text and self.options.timing:
            await self._link.send(_timing(piece, self.options.id))
        blocked_s = 0.0
        for data in await output.encode(piece.samples):
            blocked_s += await self._link.send(data)
            if self._first_at is None:
                self._first_at = time.monotonic()
        self.bit_rate.sent(piece.duration_s, blocked_s)
        said = Piece(
            piece.samples[:0], piece.start_s, piece.duration_s, piece.utterance, piece.text
        )
        self._sent.append(said)
        self._sentence.append(said)

    async def _adapt(self, output: PacketPieces) -> None:
        """Follow the connection between two utterances."""
        bit_rate = self.bit_rate.next()
        if bit_rate == output.bit_rate:
            return
        for data in await output.restart(bit_rate):
            await self._link.send(data)
        event = {"type": "bit_rate", "id": self.options.id, "bit_rate": bit_rate}
        await self._link.send(event)

    async def _end_sentence(self) -> None:
        parts, self._sentence = self._sentence, []
        text = "".join(part.text for part in parts).strip()
        if not text or not self.options.timing:
            return
        event = {
            "type": "sentence",
            "id": self.options.id,
            "utterance": parts[0].utterance,
            "text": text,
            "start_s": round(parts[0].start_s, _DECIMALS),
            "end_s": round(parts[-1].start_s + parts[-1].duration_s, _DECIMALS),
        }
        await self._link.send(event)

    def _done(self) -> dict[str, Any]:
        first = None if self._first_at is None else self._first_at - self._began_at
        return {
            "type": "done",
            "id": self.options.id,
            "audio_s": round(self._audio_s, _DECIMALS),
            "utterances": self._sent[-1].utterance + 1 if self._sent else 0,
            "characters": sum(len(piece.text) for piece in self._sent),
            "first_audio_ms": None if first is None else round(1000 * first),
            "total_ms": round(1000 * (time.monotonic() - self._began_at)),
        }


def error_event(problem: Problem, name: str | None) -> dict[str, Any]:
    """The event that tells a client what is wrong."""
    event = {
        "type": "error",
        "id": name,
        "error": problem.code,
        "message": problem.message,
        "solution": problem.solution,
    }
    retry_after = problem.headers.get("Retry-After")
    return event if retry_after is None else {**event, "retry_after_s": int(retry_after)}


def _open_output(
    runtime: Runtime, options: Options, rate: int, packet_bit_rate: int
) -> EncodedPieces | PacketPieces:
    if options.format == PACKETS:
        packets = OpusPackets(
            rate,
            sample_rate=options.sample_rate,
            bit_rate=packet_bit_rate,
            frame_ms=options.frame_ms or runtime.settings.frame_ms,
        )
        return PacketPieces(runtime, packets)
    if options.format not in FORMATS:
        raise UnsupportedFeatureError(
            f"there is no audio format {options.format[:40]!r}",
            hint=f"choose one of {', '.join(FORMATS)}, {PACKETS}",
        )
    encoding = Encoding(
        format=options.format, sample_rate=options.sample_rate, bit_rate=options.bit_rate
    )
    encoder = encoding.open(rate)
    return EncodedPieces(runtime, encoder, options.format, options.frame_ms)


def _timing(piece: Piece, name: str | None) -> dict[str, Any]:
    return {
        "type": "timing",
        "id": name,
        "utterance": piece.utterance,
        "words": [
            {
                "text": word.text,
                "start_s": round(word.start_s, _DECIMALS),
                "end_s": round(word.end_s, _DECIMALS),
            }
            for word in words(piece)
        ],
        "estimated": True,
    }
