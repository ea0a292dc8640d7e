"""Encoded audio in the pieces that go over a wire."""

from __future__ import annotations

from typing import Protocol

from mynah.audio.encoders import FORMATS, StreamEncoder
from mynah.audio.opus_packets import OpusPackets
from mynah.server.runtime import Runtime
from mynah.types import FloatArray

_RAW_SAMPLE_BYTES = {"pcm": 2, "mulaw": 1, "alaw": 1}


class Pieces(Protocol):
    """Turns samples into messages."""

    sample_rate: int
    """Of the encoded audio, in Hz."""

    async def encode(self, samples: FloatArray) -> list[bytes]:
        """Append float32 (num_samples,) at the source's rate; return what is ready."""
        ...

    async def finish(self) -> list[bytes]:
        """Return the rest."""
        ...


class EncodedPieces:
    """Raw formats in frames of equal length, the last one maybe shorter; others as they come."""

    def __init__(
        self, runtime: Runtime, encoder: StreamEncoder, name: str, frame_ms: int | None = None
    ) -> None:
        """Take over an encoder for the format ``name``.

        ``frame_ms`` is the length of a raw frame; None = as the server is set.
        """
        self.sample_rate = encoder.sample_rate
        self._runtime, self._encoder = runtime, encoder
        self._is_heavy = bool(FORMATS[name].muxer)
        self._frame_bytes = 0
        if name in _RAW_SAMPLE_BYTES:
            length_ms = frame_ms or runtime.settings.frame_ms
            samples = max(1, encoder.sample_rate * length_ms // 1000)
            self._frame_bytes = samples * _RAW_SAMPLE_BYTES[name]
        self._rest = b""

    async def encode(self, samples: FloatArray) -> list[bytes]:
        """See ``Pieces``."""
        if self._is_heavy:
            data = await self._runtime.in_encoding_thread(lambda: self._encoder.encode(samples))
        else:
            data = self._encoder.encode(samples)
        return self._framed(data)

    async def finish(self) -> list[bytes]:
        """See ``Pieces``."""
        if self._is_heavy:
            data = await self._runtime.in_encoding_thread(self._encoder.finish)
        else:
            data = self._encoder.finish()
        pieces, rest = self._framed(data), self._rest
        self._rest = b""
        return [*pieces, rest] if rest else pieces

    def _framed(self, data: bytes) -> list[bytes]:
        size = self._frame_bytes
        if not size:
            return [data] if data else []
        data = self._rest + data
        end = len(data) // size * size
        self._rest = data[end:]
        return [data[start : start + size] for start in range(0, end, size)]


class PacketPieces:
    """Bare Opus packets."""

    def __init__(self, runtime: Runtime, packets: OpusPackets) -> None:
        """Take over an encoder."""
        self.sample_rate = packets.sample_rate
        self._runtime, self._packets = runtime, packets

    @property
    def pre_skip(self) -> int:
        """Samples at 48 kHz that a decoder drops at the beginning."""
        return self._packets.pre_skip

    @property
    def bit_rate(self) -> int:
        """In bits per second."""
        return self._packets.bit_rate

    async def encode(self, samples: FloatArray) -> list[bytes]:
        """See ``Pieces``."""
        return await self._runtime.in_encoding_thread(lambda: self._packets.encode(samples))

    async def restart(self, bit_rate: int) -> list[bytes]:
        """Change the bit rate; see ``OpusPackets.restart``."""
        return await self._runtime.in_encoding_thread(lambda: self._packets.restart(bit_rate))

    async def finish(self) -> list[bytes]:
        """See ``Pieces``."""
        return await self._runtime.in_encoding_thread(self._packets.finish)
