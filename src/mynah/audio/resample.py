"""Sample rate conversion: whole, in pieces, and the windowed sinc that released models expect."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import soxr

from mynah.errors import InvalidRequestError

FloatArray = npt.NDArray[np.float32]

_ZERO_CROSSINGS = 6
_ROLLOFF = 0.99
_MAX_KERNEL_VALUES = 4_000_000
_BLOCK_VALUES = 4_000_000


def resample(samples: FloatArray, source_rate: int, target_rate: int) -> FloatArray:
    """Convert float32 (num_samples,) from one rate in Hz to another, in high quality.

    Raises:
        InvalidRequestError: if a rate is not positive.
    """
    _check_rates(source_rate, target_rate)
    samples = np.asarray(samples, dtype=np.float32)
    if source_rate == target_rate or not len(samples):
        return samples
    stream = Resampler(source_rate, target_rate)
    return np.concatenate([stream.feed(samples), stream.finish()])


class Resampler:
    """Converts a stream piece by piece; the pieces join to what one pass would give.

    The filter looks ahead, so output lags input; ``finish`` returns the rest.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        """Prepare the conversion between two rates in Hz.

        Raises:
            InvalidRequestError: if a rate is not positive.
        """
        _check_rates(source_rate, target_rate)
        self._stream = (
            None
            if source_rate == target_rate
            else soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32", quality="HQ")
        )
        self._fed = False
        self._finished = False

    def feed(self, samples: FloatArray) -> FloatArray:
        """Take float32 (num_samples,), return what is ready, possibly nothing."""
        assert not self._finished, "feed after finish"
        samples = np.ascontiguousarray(samples, dtype=np.float32)
        if self._stream is None or not len(samples):
            return samples
        self._fed = True
        return np.asarray(self._stream.resample_chunk(samples), dtype=np.float32)

    def finish(self) -> FloatArray:
        """Return the last samples; nothing can be fed after this."""
        assert not self._finished, "finish called twice"
        self._finished = True
        empty = np.zeros(0, np.float32)
        if self._stream is None or not self._fed:
            return empty
        return np.asarray(self._stream.resample_chunk(empty, last=True), dtype=np.float32)


def sinc_resample(samples: FloatArray, source_rate: int, target_rate: int) -> FloatArray:
    """Convert with a short Hann-windowed sinc: the features of released models were made so.

    The filter reaches over six zero crossings with a cut-off at 0.99 of the lower Nyquist
    frequency. Rates without a useful common divisor fall back to ``resample``.

    Args:
        samples: float32 (num_samples,).
        source_rate: in Hz.
        target_rate: in Hz.

    Returns:
        float32 (ceil(num_samples * target_rate / source_rate),).

    Raises:
        InvalidRequestError: if a rate is not positive.
    """
    _check_rates(source_rate, target_rate)
    samples = np.asarray(samples, dtype=np.float32)
    if source_rate == target_rate or not len(samples):
        return samples
    divisor = math.gcd(source_rate, target_rate)
    step, phases = source_rate // divisor, target_rate // divisor
    if phases * (step + 2 * _reach(step, phases)) > _MAX_KERNEL_VALUES:
        return resample(samples, source_rate, target_rate)
    kernel = _sinc_kernel(step, phases)
    reach = _reach(step, phases)
    num_samples = -(-len(samples) * phases // step)
    padded = np.pad(samples, (reach, reach + step))
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel))[::step]
    block = max(1, _BLOCK_VALUES // len(kernel))  # bounds the copies that a product makes
    pieces = [windows[i : i + block] @ kernel for i in range(0, len(windows), block)]
    result: FloatArray = np.concatenate(pieces).reshape(-1)[:num_samples]
    return result


def _reach(step: int, phases: int) -> int:
    """Input samples that the filter sees on each side."""
    return math.ceil(_ZERO_CROSSINGS * step / (min(step, phases) * _ROLLOFF))


@lru_cache(maxsize=16)
def _sinc_kernel(step: int, phases: int) -> FloatArray:
    """Filters (2 * reach + step, phases): column p gives output p of each ``step`` inputs."""
    reach = _reach(step, phases)
    cutoff = min(step, phases) * _ROLLOFF
    offset_in = np.arange(-reach, reach + step)[:, None] / step
    offset_out = np.arange(phases)[None, :] / phases
    distance = np.clip((offset_in - offset_out) * cutoff, -_ZERO_CROSSINGS, _ZERO_CROSSINGS)
    window = np.cos(distance * np.pi / (2 * _ZERO_CROSSINGS)) ** 2
    kernel: FloatArray = (np.sinc(distance) * window * (cutoff / step)).astype(np.float32)
    kernel.setflags(write=False)
    return kernel


def _check_rates(source_rate: int, target_rate: int) -> None:
    if source_rate <= 0 or target_rate <= 0:
        raise InvalidRequestError(
            f"cannot resample from {source_rate} Hz to {target_rate} Hz",
            hint="sample rates are positive, in Hz",
        )
