"""Bare Opus packets, for transports that keep messages apart and so need no container."""

from __future__ import annotations

from typing import Any

import numpy as np

from mynah.audio import pcm
from mynah.audio.encoders import format_named, open_encoder
from mynah.audio.resample import FloatArray, Resampler
from mynah.errors import InvalidRequestError

FRAME_MS = (10, 20, 40, 60)
"""Lengths that a packet can have here, in milliseconds."""

_PRE_SKIP = slice(10, 12)  # in the identification header


class OpusPackets:
    """Encodes samples into packets of equal length.

    The bit rate can be changed by ``restart``: the coder is closed and opened again, which adds
    silence of up to one packet and so belongs between utterances. To a decoder it is one stream.

    Attributes:
        sample_rate: of the encoded audio, in Hz.
        pre_skip: samples at 48 kHz that a decoder drops at the beginning.
    """

    def __init__(
        self,
        source_rate: int,
        *,
        sample_rate: int | None = None,
        bit_rate: int | None = None,
        frame_ms: int = 20,
    ) -> None:
        """Begin a stream.

        Raises:
            InvalidRequestError: if a packet cannot have that length, or a rate is out of range.
            UnsupportedFeatureError: if Opus cannot have a rate.
            BackendUnavailableError: if PyAV is not installed.
        """
        if frame_ms not in FRAME_MS:
            raise InvalidRequestError(
                f"an Opus packet cannot have {frame_ms} ms",
                hint=f"choose one of {', '.join(map(str, FRAME_MS))}",
            )
        # checks the rates in the same words as the format with a container
        probe = open_encoder("opus", source_rate, sample_rate=sample_rate, bit_rate=bit_rate)
        probe.finish()
        self.sample_rate = probe.sample_rate
        self.bit_rate = bit_rate or format_named("opus").default_bit_rate
        self._frame_ms = frame_ms
        self._resampler = Resampler(source_rate, self.sample_rate)
        self._rest = np.zeros(0, np.float32)
        self._coder = self._open()
        self.pre_skip = int.from_bytes(self._coder.extradata[_PRE_SKIP], "little")

    def encode(self, samples: FloatArray) -> list[bytes]:
        """Append float32 (num_samples,) at the source's rate; return the packets that are ready."""
        return self._coded(self._resampler.feed(samples))

    def restart(self, bit_rate: int) -> list[bytes]:
        """Go on with another bit rate in bits per second; return the packets before the change.

        What does not fill a packet waits for the next samples.
        """
        if bit_rate == self.bit_rate:
            return []
        self.bit_rate = bit_rate
        packets = _bytes(self._coder.encode(None))
        self._coder = self._open()
        return packets

    def finish(self) -> list[bytes]:
        """Return the rest; nothing can be encoded after this."""
        packets = self._coded(self._resampler.finish())
        if len(self._rest):
            packets += self._packet(self._rest)
        return packets + _bytes(self._coder.encode(None))

    def _open(self) -> Any:
        import av  # open_encoder() has found it

        coder: Any = av.CodecContext.create("libopus", "w")
        coder.sample_rate, coder.layout, coder.format = self.sample_rate, "mono", "s16"
        coder.bit_rate = self.bit_rate
        coder.options = {"frame_duration": str(self._frame_ms), "application": "voip"}
        coder.open()
        self._num_samples = 0
        return coder

    def _coded(self, samples: FloatArray) -> list[bytes]:
        size = self.sample_rate * self._frame_ms // 1000
        samples = np.concatenate([self._rest, samples])
        end = len(samples) // size * size
        self._rest = samples[end:]
        packets: list[bytes] = []
        for start in range(0, end, size):
            packets += self._packet(samples[start : start + size])
        return packets

    def _packet(self, samples: FloatArray) -> list[bytes]:
        import av

        values = pcm.float_to_int16(samples)
        frame = av.AudioFrame.from_ndarray(values[None], format="s16", layout="mono")
        frame.sample_rate = self.sample_rate
        frame.pts = self._num_samples
        self._num_samples += len(values)
        return _bytes(self._coder.encode(frame))


def _bytes(packets: Any) -> list[bytes]:
    return [bytes(packet) for packet in packets]
