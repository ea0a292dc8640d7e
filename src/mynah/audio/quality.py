"""What a recording is like, and whether it can become a voice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mynah.errors import PromptAudioError
from mynah.types import Audio

FloatArray = npt.NDArray[np.float32]

MIN_DURATION_S = 1.0
MAX_DURATION_S = 30.0
MIN_SAMPLE_RATE = 16000
SILENCE_DB = -55.0
"""Level in dBFS that the loud parts of a recording must exceed."""
FULL_SCALE = 0.999
MAX_CLIPPED_SHARE = 0.002
MIN_SNR_DB = 8.0
"""Clean recordings of four public corpora measure 14 to 90 dB by this estimate; speech in equally
loud white noise about 6, steady noise or a steady tone 0 to 2."""

_FRAME_S = 0.02
_FLOOR = 1e-10  # -100 dBFS: digital silence still has a level


@dataclass(frozen=True, slots=True)
class PromptReport:
    """Measured properties of a recording."""

    duration_s: float
    sound_s: float
    """Length without the silence at both ends."""
    sample_rate: int
    peak: float
    level_db: float
    """Level of the loud parts (95th percentile over 20 ms frames), dBFS."""
    snr_db: float
    """Loud parts over quiet parts (95th over 10th percentile): a rough estimate."""
    clipped_share: float
    """Share of samples at full scale."""


def measure_prompt(audio: Audio) -> PromptReport:
    """Measure a recording without judging it. An empty one has the level of silence."""
    samples = audio.samples
    levels = frame_levels_db(samples, audio.sample_rate)
    loud, quiet = np.percentile(levels, [95, 10]) if len(levels) else (-100.0, -100.0)
    start, end = sound_span(samples, audio.sample_rate, margin_s=0.0)
    magnitude = np.abs(samples)
    return PromptReport(
        duration_s=audio.duration_s,
        sound_s=(end - start) / audio.sample_rate,
        sample_rate=audio.sample_rate,
        peak=float(magnitude.max(initial=0.0)),
        level_db=float(loud),
        snr_db=float(loud - quiet),
        clipped_share=float(np.mean(magnitude >= FULL_SCALE)) if len(samples) else 0.0,
    )


def check_prompt(audio: Audio, *, name: str = "prompt audio") -> PromptReport:
    """Check that a recording can become a voice.

    Args:
        audio: the recording at its own rate.
        name: what to call it in messages, for example its path.

    Raises:
        PromptAudioError: if it is shorter than 1 s or longer than 30 s, under 16 kHz, silent,
            clipped or too noisy, with the measured value.
    """
    report = measure_prompt(audio)
    if report.sample_rate < MIN_SAMPLE_RATE:
        raise PromptAudioError(
            f"{name} has a sample rate of {report.sample_rate} Hz, at least "
            f"{MIN_SAMPLE_RATE} Hz is needed",
            hint="record at 16000 Hz or more; converting a low rate up brings nothing back",
        )
    if report.duration_s < MIN_DURATION_S:
        raise PromptAudioError(
            f"{name} is {report.duration_s:.2f} s long, at least {MIN_DURATION_S:g} s is needed",
            hint="record 3 to 10 seconds of clear speech",
        )
    if report.duration_s > MAX_DURATION_S:
        raise PromptAudioError(
            f"{name} is {report.duration_s:.1f} s long, the limit is {MAX_DURATION_S:g} s",
            hint="trim it to 3 to 10 seconds, and the transcript with it",
        )
    if report.level_db < SILENCE_DB:
        raise PromptAudioError(
            f"{name} is silent: its loud parts reach {report.level_db:.0f} dBFS",
            hint="check the microphone, or raise the level",
        )
    if report.clipped_share > MAX_CLIPPED_SHARE:
        raise PromptAudioError(
            f"{name} is clipped: {100 * report.clipped_share:.1f} % of the samples are at full "
            f"scale, the limit is {100 * MAX_CLIPPED_SHARE:g} %",
            hint="record it again at a lower level",
        )
    if report.snr_db < MIN_SNR_DB:
        raise PromptAudioError(
            f"{name} is too noisy: its loud parts are {report.snr_db:.0f} dB above its quiet "
            f"parts, at least {MIN_SNR_DB:g} dB is needed",
            hint="record speech in a quiet room, close to the microphone, without music",
        )
    if report.sound_s < MIN_DURATION_S:
        raise PromptAudioError(
            f"{name} holds only {report.sound_s:.2f} s of sound between silences, at least "
            f"{MIN_DURATION_S:g} s is needed",
            hint="record 3 to 10 seconds of clear speech",
        )
    return report


def frame_levels_db(samples: FloatArray, sample_rate: int) -> FloatArray:
    """Level of each whole 20 ms frame in dBFS, (num_samples,) -> (num_frames,)."""
    length = max(1, round(_FRAME_S * sample_rate))
    frames = samples[: len(samples) // length * length].reshape(-1, length)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    levels: FloatArray = (10.0 * np.log10(np.maximum(power, _FLOOR))).astype(np.float32)
    return levels


def sound_span(samples: FloatArray, sample_rate: int, *, margin_s: float = 0.1) -> tuple[int, int]:
    """Find where sound begins and ends, in samples, with a margin on both sides.

    A frame is sound when it lies less than 40 dB under the loud parts and well above the quiet
    ones. Returns (0, 0) for silence.
    """
    levels = frame_levels_db(samples, sample_rate)
    if not len(levels):
        return 0, 0
    loud, quiet = np.percentile(levels, [95, 10])
    if loud < SILENCE_DB:
        return 0, 0
    threshold = max(loud - 40.0, min(quiet + 6.0, loud - 20.0))
    heard = np.flatnonzero(levels > threshold)
    length = max(1, round(_FRAME_S * sample_rate))
    margin = round(margin_s * sample_rate)
    start = max(0, int(heard[0]) * length - margin)
    end = min(len(samples), (int(heard[-1]) + 1) * length + margin)
    return start, end
