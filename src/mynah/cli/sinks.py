"""Where the audio goes: a growing file, a whole file, standard output, or the loudspeaker.

Every sink is a context manager. Leaving it by an exception keeps what was made so far, playable.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from mynah.audio.io import format_of, write_audio
from mynah.audio.streams import PipeWriter, check_growing, open_wav
from mynah.cli.places import check_file
from mynah.errors import BackendError, InvalidRequestError
from mynah.types import Audio, FloatArray

DEFAULT_FILE = "speech.wav"
STDOUT = "-"


class Sink(Protocol):
    """Takes samples as they are made."""

    def write(self, samples: FloatArray) -> None:
        """Append float32 (num_samples,)."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


OpenSink = Callable[[int], Sink]
"""Opens a sink for audio at so many Hz."""


class WholeFile:
    """Collects the samples and encodes them at the end: for FLAC, Ogg, Opus and MP3."""

    def __init__(self, path: Path, sample_rate: int) -> None:
        """Prepare a file of the format that its suffix stands for, at ``sample_rate`` Hz."""
        self._path = path
        self._sample_rate = sample_rate
        self._pieces: list[FloatArray] = []

    def write(self, samples: FloatArray) -> None:
        """Append float32 (num_samples,)."""
        self._pieces.append(samples)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pieces:
            write_audio(self._path, Audio(np.concatenate(self._pieces), self._sample_rate))


class WholePipe:
    """Collects the samples and writes one WAV with its length to standard output."""

    def __init__(self, sample_rate: int) -> None:
        """Prepare for audio at ``sample_rate`` Hz."""
        self._sample_rate = sample_rate
        self._pieces: list[FloatArray] = []

    def write(self, samples: FloatArray) -> None:
        """Append float32 (num_samples,)."""
        self._pieces.append(samples)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._pieces:
            return
        samples = np.concatenate(self._pieces)
        with PipeWriter(sys.stdout.buffer, self._sample_rate, length=len(samples)) as pipe:
            pipe.write(samples)


class Speaker:
    """Plays the samples while more are made; leaving without an error waits for the last one.

    Raises:
        BackendError: if the sound device cannot be opened.
    """

    def __init__(self, sample_rate: int) -> None:
        """Open the default output device at ``sample_rate`` Hz."""
        import sounddevice

        self._waiting: deque[FloatArray] = deque()
        self._lock = threading.Lock()
        self._is_complete = False
        self._done = threading.Event()
        try:
            self._stream = sounddevice.OutputStream(
                sample_rate, channels=1, dtype="float32", callback=self._fill
            )
            self._stream.start()
        except sounddevice.PortAudioError as error:
            raise BackendError(
                f"the sound device cannot be opened: {error}", hint="write a file: -o speech.wav"
            ) from error

    def write(self, samples: FloatArray) -> None:
        """Append float32 (num_samples,)."""
        with self._lock:
            self._waiting.append(samples)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                with self._lock:
                    self._is_complete = True
                while not self._done.wait(0.1):  # short waits, so that Ctrl-C is heard
                    pass
                self._stream.stop()
        finally:
            self._stream.abort(ignore_errors=True)
            self._stream.close(ignore_errors=True)

    def _fill(self, out: Any, frames: int, time: Any, status: Any) -> None:
        """Hand the device its next samples, silence where none are ready: (frames, 1)."""
        filled = 0
        with self._lock:
            while filled < frames and self._waiting:
                piece = self._waiting.popleft()
                count = min(len(piece), frames - filled)
                out[filled : filled + count, 0] = piece[:count]
                filled += count
                if count < len(piece):
                    self._waiting.appendleft(piece[count:])
            if self._is_complete and not self._waiting:
                self._done.set()
        out[filled:] = 0.0


def can_play() -> bool:
    """Whether sounddevice is installed and finds a device to play on."""
    if find_spec("sounddevice") is None:
        return False
    # OSError: the PortAudio library is missing. Its own errors derive from Exception directly.
    with suppress(Exception):
        import sounddevice

        sounddevice.query_devices(kind="output")
        return True
    return False


def choose_sink(output: str | None, *, stream: bool, raw: bool) -> tuple[OpenSink, str]:
    """Choose where the audio goes; return what opens it, and what to call it.

    Everything that can be wrong with the place is found here, before a model is loaded.

    No ``output``: standard output with ``stream`` in a pipe, else the loudspeaker when standard
    output is a terminal and there is one, else ``speech.wav``.

    Raises:
        InvalidRequestError: for options that do not fit, binary data for a terminal, or a file
            that cannot be written there.
        OutputError: if the disk is full.
    """
    if output is None and stream and not sys.stdout.isatty():
        output = STDOUT
    if raw and output != STDOUT:
        raise InvalidRequestError(
            "--raw is for standard output only", hint="add -o -, or leave --raw out"
        )
    if output == STDOUT:
        if sys.stdout.isatty():
            raise InvalidRequestError(
                "audio would be printed to the terminal",
                hint="pipe it into a player (mynah say ... -o - | aplay), or write a file",
            )
        if raw or stream:
            return lambda rate: PipeWriter(sys.stdout.buffer, rate, "raw" if raw else "wav"), ""
        return WholePipe, ""
    if output is None and sys.stdout.isatty() and can_play():
        return Speaker, "the loudspeaker"
    if output and output.endswith("/"):
        raise InvalidRequestError(f"{output} names a folder", hint="add a file name")
    path = check_file(Path(output or DEFAULT_FILE))
    is_wav = path.suffix.lower() in ("", ".wav") or (path.exists() and not path.is_file())
    if is_wav or stream:
        check_growing(path)
        return lambda rate: open_wav(path, rate), str(path)
    format_of(path)
    return lambda rate: WholeFile(path, rate), str(path)
