"""Optional post-processing of finished speech. Everything is off unless asked for.

Levels only: a limiter-free gain (peak or loudness) and a gentle compressor. There is no noise
removal here, and loudness is the plain level of the loud parts, not a broadcast standard.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mynah.audio.quality import frame_levels_db
from mynah.errors import InvalidRequestError
from mynah.types import Audio

FloatArray = npt.NDArray[np.float32]

MAX_GAIN_DB = 24.0
_KNEE = 0.8  # of full scale
_STEP_S = 0.005  # the compressor's gain has one value every 5 ms, straight lines between


@dataclass(frozen=True, slots=True, kw_only=True)
class PostProcessing:
    """What to do with finished speech; the default does nothing.

    Args:
        compress: even out loud and quiet parts before the level is set.
        peak_db: scale so that the highest peak has this level in dBFS.
        loudness_db: scale so that the loud parts have this level in dBFS, peaks staying under
            full scale. Give one of the two levels at most.

    Raises:
        InvalidRequestError: for two levels, or one above 0 dBFS.
    """

    compress: bool = False
    peak_db: float | None = None
    loudness_db: float | None = None

    def __post_init__(self) -> None:
        """Check the levels."""
        if self.peak_db is not None and self.loudness_db is not None:
            raise InvalidRequestError(
                "both peak_db and loudness_db are given", hint="choose one of them"
            )
        for level in (self.peak_db, self.loudness_db):
            if level is not None and not -60.0 <= level <= 0.0:
                raise InvalidRequestError(
                    f"a level of {level} dBFS is out of range", hint="choose between -60 and 0"
                )

    def apply(self, audio: Audio) -> Audio:
        """Return processed audio of the same length; levels need the whole recording."""
        samples = audio.samples
        if self.compress:
            compressor = Compressor(audio.sample_rate)
            samples = np.concatenate([compressor.feed(samples), compressor.finish()])
        if self.peak_db is not None:
            samples = normalize_peak(samples, self.peak_db)
        if self.loudness_db is not None:
            samples = normalize_loudness(samples, audio.sample_rate, self.loudness_db)
        return Audio(samples, audio.sample_rate)


def normalize_peak(samples: FloatArray, peak_db: float = -1.0) -> FloatArray:
    """Scale (num_samples,) so that its highest peak is ``peak_db`` dBFS; silence stays silence."""
    peak = float(np.abs(samples).max(initial=0.0))
    return _scaled(samples, peak_db - _to_db(peak)) if peak > 0.0 else samples


def normalize_loudness(
    samples: FloatArray, sample_rate: int, loudness_db: float = -18.0
) -> FloatArray:
    """Scale (num_samples,) so that its loud parts are at ``loudness_db`` dBFS.

    The gain is smaller where a peak would pass full scale: nothing is clipped.
    """
    levels = frame_levels_db(samples, sample_rate)
    peak = float(np.abs(samples).max(initial=0.0))
    if not len(levels) or peak == 0.0:
        return samples
    wanted = loudness_db - float(np.percentile(levels, 95))
    return _scaled(samples, min(wanted, -0.1 - _to_db(peak)))


def amplify(samples: FloatArray, gain: float) -> FloatArray:
    """Scale (num_samples,) by a factor; what comes near full scale is bent, nothing is clipped.

    Every sample by itself, so pieces of any size give what one pass gives.
    """
    if gain == 1.0:
        return samples
    scaled = samples * np.float32(gain)
    if gain < 1.0:
        return scaled
    over = np.maximum(np.abs(scaled) - _KNEE, 0.0)
    bent = _KNEE + (1.0 - _KNEE) * np.tanh(over / (1.0 - _KNEE))
    return np.where(over > 0.0, np.copysign(bent, scaled), scaled).astype(np.float32)


class Compressor:
    """Feed-forward dynamic-range compressor; pieces of any size give what one pass gives.

    Output lags input by up to 5 ms until ``finish``.
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        threshold_db: float = -20.0,
        ratio: float = 2.0,
        attack_s: float = 0.01,
        release_s: float = 0.15,
    ) -> None:
        """Choose the curve: above ``threshold_db``, ``ratio`` dB in make one dB out."""
        self._length = max(1, round(_STEP_S * sample_rate))
        self._threshold_db = threshold_db
        self._slope = 1.0 - 1.0 / ratio
        self._attack = float(np.exp(-_STEP_S / attack_s))
        self._release = float(np.exp(-_STEP_S / release_s))
        self._reduction_db = 0.0
        self._rest = np.zeros(0, np.float32)

    def feed(self, samples: FloatArray) -> FloatArray:
        """Take (num_samples,), return what is ready."""
        pending = np.concatenate([self._rest, samples])
        whole = len(pending) // self._length * self._length
        self._rest = pending[whole:]
        return self._compress(pending[:whole])

    def finish(self) -> FloatArray:
        """Return the rest, less than 5 ms."""
        rest = self._rest
        self._rest = rest[:0]
        padded = np.pad(rest, (0, -len(rest) % self._length))
        return self._compress(padded)[: len(rest)]

    def _compress(self, samples: FloatArray) -> FloatArray:
        if not len(samples):
            return samples
        blocks = samples.reshape(-1, self._length)
        power = np.mean(np.square(blocks, dtype=np.float64), axis=1)
        over = 10.0 * np.log10(np.maximum(power, 1e-10)) - self._threshold_db
        edges = [self._reduction_db]
        for wanted in np.maximum(over, 0.0) * self._slope:
            previous = edges[-1]
            keep = self._attack if wanted > previous else self._release
            edges.append(keep * previous + (1.0 - keep) * float(wanted))
        self._reduction_db = edges[-1]
        gains = 10.0 ** (-np.asarray(edges) / 20.0)
        ramp = (np.arange(self._length) + 1) / self._length
        gain = gains[:-1, None] * (1.0 - ramp) + gains[1:, None] * ramp
        return (blocks * gain.astype(np.float32)).reshape(-1)


def _scaled(samples: FloatArray, gain_db: float) -> FloatArray:
    gain = np.float32(10.0 ** (min(gain_db, MAX_GAIN_DB) / 20.0))
    return np.asarray(samples * gain, dtype=np.float32)


def _to_db(amplitude: float) -> float:
    return float(20.0 * np.log10(max(amplitude, 1e-10)))
