"""Writing audio while it is being made: WAV files playable at every moment, and pipes."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from mynah.audio import pcm
from mynah.errors import UnsupportedFeatureError
from mynah.files import check_target, output_error, part_name

FloatArray = npt.NDArray[np.float32]


class Writer(Protocol):
    """Takes samples as they are made."""

    num_samples: int

    def write(self, samples: FloatArray) -> None:
        """Append float32 (num_samples,)."""
        ...

    def close(self) -> None:
        """Finish."""
        ...


class WavWriter:
    """A mono 16-bit WAV file that grows, and can be played after every ``write``.

    Until the first samples arrive there is only a hidden file beside ``path``, so a request that
    fails at once leaves nothing behind and an older file untouched. After that, an exception in
    the ``with`` block (Ctrl-C too) leaves what was written so far as a playable file; a failing
    disk removes it.

    Raises:
        OutputError: at once if the place cannot be written, or later if the disk fills up.
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate: int) -> None:
        """Claim ``path`` for audio at ``sample_rate`` Hz."""
        self.path = check_target(path)
        self.sample_rate = sample_rate
        self.num_samples = 0
        self._part = part_name(self.path)
        try:
            self._stream: BinaryIO | None = open(self._part, "xb")  # noqa: SIM115 - until close
        except OSError as error:
            raise output_error(path, error) from error
        self._guard(lambda stream: stream.write(pcm.wav_header(sample_rate, 0)))

    def write(self, samples: FloatArray) -> None:
        """Append float32 (num_samples,), clipped to [-1, 1], and bring the header up to date."""
        data = pcm.to_bytes(samples)
        if not data:
            return
        if not self.num_samples:
            self._move_into_place()
        total = self.num_samples + len(data) // pcm.BYTES_PER_SAMPLE
        header = pcm.wav_header(self.sample_rate, total)

        def append(stream: BinaryIO) -> None:
            # Samples first: a header that promises less than there is still plays.
            stream.seek(0, os.SEEK_END)
            stream.write(data)
            stream.flush()
            stream.seek(0)
            stream.write(header)
            stream.flush()

        self._guard(append)
        self.num_samples = total

    def close(self) -> None:
        """Finish the file; a stream without samples becomes a valid empty file."""
        if self._stream is None:
            return
        if not self.num_samples:
            self._move_into_place()
        self._guard(lambda stream: os.fsync(stream.fileno()))
        self._stream.close()
        self._stream = None

    def discard(self) -> None:
        """Give up: close the file and remove it."""
        if self._stream is not None:
            with suppress(OSError):
                self._stream.close()
            self._stream = None
        with suppress(OSError):
            (self.path if self.num_samples else self._part).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stream is None:
            return
        if error is None or self.num_samples:
            self.close()
        else:
            self.discard()

    def _guard(self, action: Callable[[BinaryIO], object]) -> None:
        assert self._stream is not None, "write after close"
        try:
            action(self._stream)
        except OSError as error:
            self.discard()
            raise output_error(self.path, error) from error

    def _move_into_place(self) -> None:
        # Closed in between because Windows cannot rename an open file.
        try:
            assert self._stream is not None, "write after close"
            self._stream.close()
            os.replace(self._part, self.path)
            self._stream = open(self.path, "r+b")  # noqa: SIM115 - until close
        except OSError as error:
            self.discard()
            raise output_error(self.path, error) from error


class PipeWriter:
    """WAV, of unknown length if need be, or bare 16-bit PCM, to a pipe such as standard output.

    Every ``write`` is flushed, so that the reader hears it at once.

    Raises:
        OutputError: if the reader went away or the device is full.
    """

    def __init__(
        self,
        stream: BinaryIO,
        sample_rate: int,
        container: Literal["wav", "raw"] = "wav",
        *,
        name: str = "standard output",
        owns_stream: bool = False,
        length: int | None = None,
    ) -> None:
        """Start a stream at ``sample_rate`` Hz; the WAV header goes out at once.

        ``length`` is the number of samples for the header, if it is known already.
        """
        self.num_samples = 0
        self._stream = stream
        self._name = name
        self._owns_stream = owns_stream
        if container == "wav":
            self._send(pcm.wav_header(sample_rate, length))

    def write(self, samples: FloatArray) -> None:
        """Append float32 (num_samples,), clipped to [-1, 1]."""
        self._send(pcm.to_bytes(samples))
        self.num_samples += len(samples)

    def close(self) -> None:
        """Flush; the stream stays open unless it was handed over."""
        try:
            self._send(b"")
        finally:
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._release()

    def _release(self) -> None:
        if self._owns_stream:
            with suppress(OSError):
                self._stream.close()

    def _send(self, data: bytes) -> None:
        try:
            rest = memoryview(data)
            while len(rest):  # an unbuffered stream may take only a part
                rest = rest[self._stream.write(rest) or len(rest) :]
            self._stream.flush()
        except OSError as error:
            raise output_error(self._name, error) from error


def open_wav(path: str | os.PathLike[str], sample_rate: int) -> WavWriter | PipeWriter:
    """Open a growing WAV file, or a device or named pipe when ``path`` is one.

    Raises:
        OutputError: if it cannot be written.
        UnsupportedFeatureError: if the suffix asks for another format than WAV.
    """
    target = Path(path)
    if target.exists() and not target.is_file() and not target.is_dir():
        try:
            device = open(target, "wb")  # noqa: SIM115 - the writer owns it
        except OSError as error:
            raise output_error(path, error) from error
        return PipeWriter(device, sample_rate, name=os.fspath(path), owns_stream=True)
    check_growing(target)
    return WavWriter(path, sample_rate)


def check_growing(path: Path) -> None:
    """Make sure that a path is one of a format that grows: WAV, or a device or pipe.

    Raises:
        UnsupportedFeatureError: if its suffix asks for another one.
    """
    is_device = path.exists() and not path.is_file() and not path.is_dir()
    if not is_device and path.suffix.lower() not in ("", ".wav"):
        raise UnsupportedFeatureError(
            f"{path.suffix} files cannot be written while the audio is being made",
            hint="use .wav, or write the whole file at the end",
        )
