"""Log-mel spectrograms and filter-bank energies, one implementation for inference and training.

Three front ends: the mel that the flow produces and the vocoder reads (24 kHz), the Whisper
log-mel of the speech tokenizer (16 kHz) and the Kaldi filter bank of the speaker encoder (16 kHz).
NumPy only. Time comes first in every result.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mynah.config import MelConfig
from mynah.errors import InvalidRequestError

FloatArray = npt.NDArray[np.float32]

FEATURE_RATE = 16000
"""Sample rate in Hz that the speech tokenizer and the speaker encoder expect."""

WHISPER_BINS = 128
WHISPER_FFT = 400
WHISPER_HOP = 160

KALDI_BINS = 80
KALDI_FRAME = 400
KALDI_HOP = 160
KALDI_FFT = 512
KALDI_LOW_HZ = 20.0
KALDI_PREEMPHASIS = 0.97
KALDI_FLOOR = float(np.finfo(np.float32).eps)

# Slaney's auditory scale: linear below 1 kHz, logarithmic above.
_SLANEY_HZ_PER_MEL = 200.0 / 3.0
_SLANEY_KNEE_HZ = 1000.0
_SLANEY_KNEE_MEL = _SLANEY_KNEE_HZ / _SLANEY_HZ_PER_MEL
_SLANEY_LOG_STEP = np.log(6.4) / 27.0

_BLOCK_FRAMES = 2048  # frames transformed at once: bounds memory for long recordings


def log_mel(samples: FloatArray, config: MelConfig) -> FloatArray:
    """Natural-log mel spectrogram of a waveform at ``config.sample_rate``.

    Args:
        samples: float32 (num_samples,) in [-1, 1].
        config: sizes and band limits.

    Returns:
        float32 (T, n_mels), T = num_samples // hop_length rounded by the centred padding.

    Raises:
        InvalidRequestError: if the waveform is not one-dimensional or too short for one frame.
    """
    samples = _check(samples, at_least=2)
    padding = (config.n_fft - config.hop_length) // 2
    padded = np.pad(samples, padding, mode="reflect")
    window = _hann(config.win_length, config.n_fft)
    filters = slaney_filters(
        config.sample_rate, config.n_fft, config.n_mels, config.fmin, config.fmax
    )
    energies = []
    for block in _blocks(padded, config.n_fft, config.hop_length):
        spectrum = np.fft.rfft(block * window, axis=-1)
        magnitude = np.sqrt(_power(spectrum) + np.float32(1e-9))
        energies.append(magnitude @ filters)
    mel = np.concatenate(energies) if energies else np.zeros((0, config.n_mels), np.float32)
    result: FloatArray = np.log(np.maximum(mel, np.float32(1e-5)))
    return result


def whisper_log_mel(samples: FloatArray) -> FloatArray:
    """Log-mel of Whisper's front end, without padding to thirty seconds.

    Args:
        samples: float32 (num_samples,) at 16 kHz.

    Returns:
        float32 (num_samples // 160, 128).

    Raises:
        InvalidRequestError: if the waveform is not one-dimensional or shorter than one hop.
    """
    samples = _check(samples, at_least=WHISPER_HOP)
    padded = np.pad(samples, WHISPER_FFT // 2, mode="reflect")
    window = _hann(WHISPER_FFT, WHISPER_FFT)
    filters = slaney_filters(FEATURE_RATE, WHISPER_FFT, WHISPER_BINS, 0.0, None)
    energies = [
        _power(np.fft.rfft(block * window, axis=-1)) @ filters
        for block in _blocks(padded, WHISPER_FFT, WHISPER_HOP)
    ]
    mel = np.log10(np.maximum(np.concatenate(energies)[:-1], np.float32(1e-10)))
    mel = np.maximum(mel, mel.max() - np.float32(8.0))
    result: FloatArray = (mel + np.float32(4.0)) / np.float32(4.0)
    return result


def kaldi_fbank(samples: FloatArray, subtract_mean: bool = True) -> FloatArray:
    """Kaldi log filter-bank energies: 25 ms Povey windows every 10 ms, no dither.

    Args:
        samples: float32 (num_samples,) at 16 kHz, in [-1, 1].
        subtract_mean: remove each bin's mean over time, as the speaker encoder expects.

    Returns:
        float32 (T, 80); T = 0 for less than 25 ms.

    Raises:
        InvalidRequestError: if the waveform is not one-dimensional or empty.
    """
    samples = _check(samples, at_least=1)
    window = _povey(KALDI_FRAME)
    filters = kaldi_filters(FEATURE_RATE, KALDI_FFT, KALDI_BINS, KALDI_LOW_HZ)
    energies = []
    for block in _blocks(samples, KALDI_FRAME, KALDI_HOP):
        frames = block - block.mean(axis=1, keepdims=True, dtype=np.float32)
        emphasised = frames.copy()
        emphasised[:, 1:] -= np.float32(KALDI_PREEMPHASIS) * frames[:, :-1]
        emphasised[:, 0] -= np.float32(KALDI_PREEMPHASIS) * frames[:, 0]
        spectrum = np.fft.rfft(emphasised * window, n=KALDI_FFT, axis=-1)
        energies.append(_power(spectrum) @ filters)
    fbank = np.concatenate(energies) if energies else np.zeros((0, KALDI_BINS), np.float32)
    fbank = np.log(np.maximum(fbank, np.float32(KALDI_FLOOR)))
    if subtract_mean and len(fbank):
        fbank = fbank - fbank.mean(axis=0, keepdims=True)
    return fbank


@lru_cache(maxsize=32)
def slaney_filters(
    sample_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float | None
) -> FloatArray:
    """Triangular mel filters on Slaney's scale, each of unit area.

    Returns:
        read-only float32 (n_fft // 2 + 1, n_mels).
    """
    top = sample_rate / 2.0 if fmax is None else fmax
    edges_mel = np.linspace(_hz_to_slaney(fmin), _hz_to_slaney(top), n_mels + 2)
    edges = _slaney_to_hz(edges_mel)
    bins = np.linspace(0.0, sample_rate / 2.0, n_fft // 2 + 1)
    filters = _triangles(bins, edges) * (2.0 / (edges[2:] - edges[:-2]))
    return _frozen(filters)


@lru_cache(maxsize=8)
def kaldi_filters(sample_rate: int, n_fft: int, n_mels: int, low_hz: float) -> FloatArray:
    """Triangular filters on Kaldi's mel scale, straight in mel, of unit height.

    Returns:
        read-only float32 (n_fft // 2 + 1, n_mels); the Nyquist bin has no weight.
    """
    edges = np.linspace(_hz_to_kaldi(low_hz), _hz_to_kaldi(sample_rate / 2.0), n_mels + 2)
    bins = _hz_to_kaldi(np.arange(n_fft // 2) * (sample_rate / n_fft))
    filters = np.zeros((n_fft // 2 + 1, n_mels))
    filters[:-1] = _triangles(bins, edges)
    return _frozen(filters)


def _check(samples: FloatArray, at_least: int) -> FloatArray:
    samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim != 1:
        raise InvalidRequestError(
            f"features need a waveform of shape (num_samples,), got {samples.shape}",
            hint="mix the channels to mono first",
        )
    if len(samples) < at_least:
        raise InvalidRequestError(
            f"features need at least {at_least} samples, got {len(samples)}",
            hint="pass a longer recording",
        )
    return samples


def _blocks(samples: FloatArray, length: int, hop: int) -> list[FloatArray]:
    """Overlapping frames (T, length) as views, in blocks of bounded size."""
    if len(samples) < length:
        return []
    frames = np.lib.stride_tricks.sliding_window_view(samples, length)[::hop]
    return [frames[i : i + _BLOCK_FRAMES] for i in range(0, len(frames), _BLOCK_FRAMES)]


def _power(spectrum: npt.NDArray[np.complexfloating]) -> FloatArray:
    power: FloatArray = np.square(spectrum.real) + np.square(spectrum.imag)
    return power


@lru_cache(maxsize=16)
def _hann(length: int, n_fft: int) -> FloatArray:
    """Periodic Hann window (n_fft,), centred when shorter than the transform."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(length) / length)
    left = (n_fft - length) // 2
    return _frozen(np.pad(window, (left, n_fft - length - left)))


@lru_cache(maxsize=4)
def _povey(length: int) -> FloatArray:
    """Kaldi's default window (length,): a symmetric Hann window to the power 0.85."""
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(length) / (length - 1))
    return _frozen(np.maximum(hann, 0.0) ** 0.85)


def _triangles(
    points: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Triangles (len(points), len(edges) - 2) that rise and fall between three edges each."""
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (points[:, None] - left) / (centre - left)
    falling = (right - points[:, None]) / (right - centre)
    return np.maximum(0.0, np.minimum(rising, falling))


def _frozen(array: npt.NDArray[np.float64]) -> FloatArray:
    """A contiguous float32 copy that nobody can change: cached values are shared."""
    result = np.ascontiguousarray(array, dtype=np.float32)
    result.setflags(write=False)
    return result


def _hz_to_slaney(hz: float) -> float:
    if hz < _SLANEY_KNEE_HZ:
        return hz / _SLANEY_HZ_PER_MEL
    return float(_SLANEY_KNEE_MEL + np.log(hz / _SLANEY_KNEE_HZ) / _SLANEY_LOG_STEP)


def _slaney_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    linear = mel * _SLANEY_HZ_PER_MEL
    exponential = _SLANEY_KNEE_HZ * np.exp(_SLANEY_LOG_STEP * (mel - _SLANEY_KNEE_MEL))
    return np.where(mel < _SLANEY_KNEE_MEL, linear, exponential)


def _hz_to_kaldi(hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(np.asarray(hz, dtype=np.float64) / 700.0))
