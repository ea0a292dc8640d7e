"""Reading any sound file to mono float32, and writing files that are complete or not there."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile

from mynah.audio import pcm
from mynah.audio.resample import resample
from mynah.errors import InvalidRequestError, PromptAudioError, UnsupportedFeatureError
from mynah.files import atomic_file
from mynah.types import Audio

AudioSource: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO
FloatArray = npt.NDArray[np.float32]

MAX_DURATION_S = 600.0
"""Longest recording that is read; a prompt may have far less, see ``audio.quality``."""

_FORMATS: dict[str, tuple[str, str]] = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
FORMATS = tuple(_FORMATS)
"""Names of the formats that can be written; also the file suffixes."""

_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_BLOCK_SAMPLES = 1 << 16
_BLOCK_FRAMES = 1 << 18


def read_audio(source: AudioSource, *, max_duration_s: float = MAX_DURATION_S) -> Audio:
    """Read a recording as mono, at its own rate.

    Args:
        source: a path, the bytes of a file, or an open binary file. WAV, FLAC, Ogg Vorbis, Opus
            and MP3 among others.
        max_duration_s: refuse longer recordings, in seconds.

    Returns:
        the mean over channels, float32 (num_samples,).

    Raises:
        PromptAudioError: if it is missing, unreadable, empty, no sound file, too long, or holds
            NaN.
    """
    name, stream = _open(source)
    with stream:
        try:
            with soundfile.SoundFile(stream) as file:
                rate = int(file.samplerate)
                samples = _read_mono(name, file, rate, max_duration_s)
        except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: headerless formats
            raise PromptAudioError(
                f"{name} is not a sound file that can be read: {_reason(error)}",
                hint="convert it to WAV or FLAC",
            ) from error
    if not len(samples):
        raise PromptAudioError(f"{name} holds no samples", hint="record it again")
    if not np.isfinite(samples).all():
        raise PromptAudioError(
            f"{name} holds {int((~np.isfinite(samples)).sum())} NaN or infinite samples",
            hint="export it again as 16-bit WAV",
        )
    return Audio(samples, rate)


def write_audio(path: str | os.PathLike[str], audio: Audio, *, kind: str | None = None) -> Path:
    """Write a file; an older one is replaced only when the new one is complete.

    Args:
        path: where; devices and pipes are allowed.
        audio: what; samples outside [-1, 1] are clipped.
        kind: one of ``FORMATS``; None = by the suffix of ``path``.

    Returns:
        the path as given.

    Raises:
        OutputError: if the folder is missing or unwritable, or the disk is full.
        UnsupportedFeatureError: for an unknown suffix or kind.
    """
    path = Path(path)
    data = encode_audio(audio, kind or format_of(path))
    with atomic_file(path) as stream:
        stream.write(data)
    return path


def format_of(path: str | os.PathLike[str]) -> str:
    """Return the format that a path's suffix stands for; no suffix = wav.

    Raises:
        UnsupportedFeatureError: for an unknown suffix.
    """
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix and suffix not in _FORMATS:
        raise UnsupportedFeatureError(
            f"cannot write .{suffix} files ({os.fspath(path)})",
            hint="use one of " + ", ".join(f".{name}" for name in FORMATS),
        )
    return suffix or "wav"


def encode_audio(audio: Audio, kind: str) -> bytes:
    """Return the bytes of a sound file.

    Opus and MP3 know few rates: others are resampled to the next higher one they know.

    Raises:
        UnsupportedFeatureError: for an unknown kind, or a rate that the format cannot hold.
    """
    if kind not in _FORMATS:
        raise UnsupportedFeatureError(
            f"unknown audio format {kind!r}", hint="use one of " + ", ".join(FORMATS)
        )
    if kind == "wav":
        header = pcm.wav_header(audio.sample_rate, len(audio.samples))
        return header + pcm.to_bytes(audio.samples)
    container, subtype = _FORMATS[kind]
    samples, rate = audio.samples, audio.sample_rate
    known = {"opus": _OPUS_RATES, "mp3": _MP3_RATES}.get(kind, (rate,))
    if rate not in known:
        higher = min((value for value in known if value > rate), default=known[-1])
        samples, rate = resample(samples, rate, higher), higher
    samples = np.clip(samples, -1.0, 1.0)
    buffer = io.BytesIO()
    try:
        with soundfile.SoundFile(buffer, "w", rate, 1, subtype, format=container) as file:
            # Some encoders keep a whole call on the stack: feed them little at a time.
            for start in range(0, len(samples), _BLOCK_SAMPLES):
                file.write(samples[start : start + _BLOCK_SAMPLES])
    except soundfile.LibsndfileError as error:
        raise UnsupportedFeatureError(
            f"cannot encode {kind} at {rate} Hz here: {_reason(error)}",
            hint="use wav or flac, or update the soundfile package",
        ) from error
    return buffer.getvalue()


def _open(source: AudioSource) -> tuple[str, BinaryIO]:
    """Name a source and open it as something seekable."""
    if isinstance(source, bytes | bytearray | memoryview):
        return _not_empty("prompt audio", io.BytesIO(source))
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        try:
            return _not_empty(name, open(source, "rb"))
        except FileNotFoundError as error:
            raise PromptAudioError(
                f"there is no file {name}", hint="check the path; quote it if it has spaces"
            ) from error
        except PromptAudioError:  # a ValueError too, and complete already
            raise
        except (OSError, ValueError) as error:
            raise PromptAudioError(
                f"cannot read {name}: {_reason(error)}", hint="pass a sound file you may read"
            ) from error
    if not hasattr(source, "read"):
        raise InvalidRequestError(
            f"cannot read audio from {type(source).__name__}",
            hint="pass a path, bytes or a file opened in binary mode",
        )
    name = str(getattr(source, "name", "prompt audio"))
    data = source.read()
    if not isinstance(data, bytes):
        raise InvalidRequestError(
            f"{name} was opened as text", hint="open it in binary mode: open(path, 'rb')"
        )
    return _not_empty(name, io.BytesIO(data))


def _not_empty(name: str, stream: BinaryIO) -> tuple[str, BinaryIO]:
    try:
        # Reading (not seeking) finds out about folders and devices too.
        empty = not stream.read(1)
        stream.seek(0)
        if empty:
            raise PromptAudioError(f"{name} is empty", hint="record or download it again")
    except BaseException:
        stream.close()
        raise
    return name, stream


def _read_mono(name: str, file: Any, rate: int, max_duration_s: float) -> FloatArray:
    """Decode block by block: a header may lie about the length."""
    blocks = [np.zeros(0, np.float32)]
    total = 0
    while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
        total += len(block)
        _check_duration(name, total / rate, max_duration_s)
        blocks.append(block.mean(axis=1, dtype=np.float32))
    return np.concatenate(blocks)


def _check_duration(name: str, duration_s: float, max_duration_s: float) -> None:
    if duration_s > max_duration_s:
        raise PromptAudioError(
            f"{name} is {duration_s:.1f} s long, the limit is {max_duration_s:g} s",
            hint="cut out the part that is needed",
        )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(getattr(error, "error_string", error)).rstrip(".")
