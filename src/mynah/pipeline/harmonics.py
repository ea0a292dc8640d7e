"""Harmonic source of the vocoder: sines at F0 and its multiples, plus noise.

The phase of each harmonic is fixed once per frame. With ``sine_phase`` = ``frame_linear`` it runs
linearly from frame centre to frame centre, so a frame's second half depends on the next frame's F0:
``advance`` emits a frame when the next one is known, or at the end. Before the first and after the
last frame centre the phase stands still, as in the released models' training. With ``frame_hold``
it stands still within every frame, with ``sample`` it runs on at every sample; both emit a frame at
once.

Phases are rounded to float32 exactly where the released code rounds them: its phases are so large
that another rounding is audible to a parity test. To keep the rounding error bounded in long
speech, whole cycles are dropped every ``REBASE_FRAMES`` frames. Accumulators are float64 and noise
is drawn in sample order: any chunking of the F0 gives the same samples, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mynah.config import VocoderConfig

FloatArray = npt.NDArray[np.float32]
_PhaseArray = npt.NDArray[np.float64]

REBASE_FRAMES = 1024
_FRAMES_AT_ONCE = 64  # bounds the memory of long inputs; divides REBASE_FRAMES


class SineNoise(Protocol):
    """What is used of ``numpy.random.Generator``."""

    def standard_normal(self, size: tuple[int, ...], *, dtype: Any) -> Any:
        """Draw the next values, rows first."""
        ...

    def random(self, size: tuple[int, ...], *, dtype: Any) -> Any:
        """The same, evenly from 0 to 1."""
        ...


@dataclass(eq=False)
class HarmonicState:
    """Where one utterance's harmonic source stands.

    ``noise`` belongs to this state alone while it lives; None = no noise. Phases are one number
    per harmonic, in cycles per sample summed over frames.
    """

    sample_rate: int
    noise: SineNoise | None = None
    waiting: float | None = None
    """F0 of the one frame that waits for its successor."""
    frame: int = 0
    """Index of the waiting frame."""
    before: _PhaseArray = field(default_factory=lambda: np.zeros(0))
    """Phase at the centre of the frame before the waiting one."""
    centre: _PhaseArray = field(default_factory=lambda: np.zeros(0))
    """Phase at the centre of the waiting frame."""
    base: _PhaseArray = field(default_factory=lambda: np.zeros(0))
    """Whole cycles dropped from the phases of this block of ``REBASE_FRAMES``."""


def advance(
    config: VocoderConfig, f0: FloatArray, state: HarmonicState, *, final: bool
) -> FloatArray:
    """Append F0 values in Hz, (F,); return the samples that are now certain.

    Returns:
        (N, num_harmonics + 1) float32; N is a multiple of ``config.samples_per_frame``. One frame
        stays in the state until ``final``.
    """
    if config.sine_phase in _AT_ONCE:
        return _advance_at_once(config, f0.astype(np.float32, copy=False), state)
    parts = []
    rest = f0.astype(np.float32, copy=False)
    if state.waiting is None and len(rest):
        _start(config, state, rest[:1])
        rest = rest[1:]
    while len(rest):
        count = _FRAMES_AT_ONCE - state.frame % _FRAMES_AT_ONCE
        parts.append(_emit(config, state, rest[:count]))
        rest = rest[count:]
    if final and state.waiting is not None:
        parts.append(_emit(config, state, rest))
    if not parts:
        return np.zeros((0, config.num_harmonics + 1), np.float32)
    return np.concatenate(parts)


def harmonics(
    config: VocoderConfig, f0: FloatArray, sample_rate: int, noise: SineNoise | None = None
) -> FloatArray:
    """Whole utterance: F0 (F,) in Hz -> (F * samples_per_frame, num_harmonics + 1)."""
    return advance(config, f0, HarmonicState(sample_rate, noise), final=True)


def _advance_at_once(config: VocoderConfig, f0: FloatArray, state: HarmonicState) -> FloatArray:
    """As ``advance`` where no frame waits for its successor; ``frame`` is the next one."""
    count = config.num_harmonics + 1
    if not len(state.centre):
        state.centre, state.base = np.zeros(count), np.zeros(count)
    parts = [np.zeros((0, count), np.float32)]
    while len(f0):
        block = f0[: _FRAMES_AT_ONCE - state.frame % _FRAMES_AT_ONCE]
        f0 = f0[len(block) :]
        steps = _cycles_per_sample(config, block, state.sample_rate)
        samples = _AT_ONCE[config.sine_phase](config, steps, state)
        _add_voicing(config, samples, block, state.noise)
        parts.append(samples)
    return np.concatenate(parts)


def _held(config: VocoderConfig, steps: _PhaseArray, state: HarmonicState) -> FloatArray:
    """Sines of the next frames from their phase increments (F, harmonics), constant in a frame."""
    size = config.samples_per_frame
    centres = np.cumsum(np.concatenate([state.centre[None], steps]), axis=0)[1:]
    sines = np.sin(_radians(config, centres - state.base / size))
    state.frame += len(steps)
    state.centre = centres[-1]
    _rebase(config, state)
    samples: FloatArray = np.repeat(sines, size, axis=0)
    return samples


def _running(config: VocoderConfig, steps: _PhaseArray, state: HarmonicState) -> FloatArray:
    """The same with a phase that runs on from sample to sample.

    ``centre`` is the phase in cycles where the last frame ended, ``before`` the random one that
    every harmonic but the fundamental starts from.
    """
    size = config.samples_per_frame
    if not state.frame:
        state.before = np.zeros_like(state.centre)
        if state.noise is not None:
            drawn = state.noise.random(state.before.shape, dtype=np.float32)
            state.before[1:] = drawn[1:] - 0.5
    ends = np.cumsum(np.concatenate([state.centre[None], steps * size]), axis=0)
    cycles = ends[:-1, None] + steps[:, None] * np.arange(1, size + 1)[:, None]
    turned = (cycles % 1.0 + state.before).reshape(-1, steps.shape[1])
    state.frame += len(steps)
    state.centre = ends[-1]
    if state.frame % _FRAMES_AT_ONCE == 0:  # whole cycles go at fixed frames: the same bits always
        state.centre = state.centre % 1.0
    samples: FloatArray = np.sin((2 * math.pi * turned).astype(np.float32))
    return samples


def _radians(config: VocoderConfig, phases: _PhaseArray) -> FloatArray:
    """Phases in radians, rounded step by step as in the released code."""
    size = np.float32(config.samples_per_frame)
    radians: FloatArray = phases.astype(np.float32) * np.float32(2 * math.pi) * size
    return radians


def _rebase(config: VocoderConfig, state: HarmonicState) -> None:
    if state.frame % REBASE_FRAMES == 0:
        state.base = np.floor(state.centre * config.samples_per_frame)


def _start(config: VocoderConfig, state: HarmonicState, f0: FloatArray) -> None:
    state.waiting, state.frame = float(f0[0]), 0
    state.centre = _cycles_per_sample(config, f0, state.sample_rate)[0]
    state.before = state.centre
    state.base = np.zeros_like(state.centre)


def _cycles_per_sample(config: VocoderConfig, f0: FloatArray, sample_rate: int) -> _PhaseArray:
    """Phase increments (F, num_harmonics + 1), rounded to float32."""
    multiples = np.arange(1, config.num_harmonics + 2, dtype=np.float32)
    increments = (f0[:, None] * multiples / np.float32(sample_rate)) % np.float32(1)
    return increments.astype(np.float64)


def _emit(config: VocoderConfig, state: HarmonicState, following: FloatArray) -> FloatArray:
    """Emit the waiting frame and all but the last of ``following``, which waits then.

    With nothing following, the waiting frame is the utterance's last. The frames emitted never
    cross a multiple of ``_FRAMES_AT_ONCE``.
    """
    assert state.waiting is not None
    last = len(following) == 0
    steps = _cycles_per_sample(config, following, state.sample_rate)
    centres = np.cumsum(np.concatenate([state.centre[None], steps]), axis=0)
    f0 = np.concatenate([np.array([state.waiting], np.float32), following])
    if last:
        f0, centres = np.repeat(f0, 2), np.repeat(centres, 2, axis=0)
    phases = np.concatenate([state.before[None], centres])
    samples = _sines(config, phases - state.base / config.samples_per_frame, state.frame)
    _add_voicing(config, samples, f0[:-1], state.noise)

    state.waiting = None if last else float(f0[-1])
    state.frame += len(f0) - 1
    state.before, state.centre = centres[-2], centres[-1]
    _rebase(config, state)
    return samples


def _sines(config: VocoderConfig, phases: _PhaseArray, frame: int) -> FloatArray:
    """Sines of frames ``frame`` .. ``frame`` + F, from their phases and both neighbours'.

    (F + 2, harmonics) -> (F * samples_per_frame, harmonics).
    """
    size, frames = config.samples_per_frame, len(phases) - 2
    # float64 products rounded once stand for the fused multiply-adds of the released code
    local = frame % REBASE_FRAMES + np.arange(frames)
    index = local[:, None] * size + np.arange(size)
    position = (np.float64(np.float32(1 / size)) * (index + 0.5) - 0.5).astype(np.float32)
    if frame < REBASE_FRAMES:
        position = np.maximum(position, np.float32(0))
    left = np.floor(position)
    weight_right = position - left
    weight_left = np.float32(1) - weight_right
    rows = (left - local[0]).astype(np.int64) + 1  # row 0 is the frame before the first

    radians = _radians(config, phases)
    right = (weight_right[:, :, None] * radians[rows + 1]).astype(np.float64)
    angle = right + weight_left[:, :, None].astype(np.float64) * radians[rows]
    sines: FloatArray = np.sin(angle.astype(np.float32)).reshape(frames * size, -1)
    return sines


def _add_voicing(
    config: VocoderConfig, sines: FloatArray, f0: FloatArray, noise: SineNoise | None
) -> None:
    """Scale sines in place: silent where unvoiced, plus noise, which is louder there."""
    voiced = np.repeat(f0 > config.voiced_threshold_hz, config.samples_per_frame)[:, None]
    sines *= np.where(voiced, np.float32(config.sine_amplitude), np.float32(0))
    if noise is not None:
        unvoiced_std = np.float32(config.sine_amplitude / 3)
        std = np.where(voiced, np.float32(config.noise_std), unvoiced_std)
        draw = noise.random if config.sine_noise == "uniform" else noise.standard_normal
        sines += std * draw(sines.shape, dtype=np.float32)


_AT_ONCE: Mapping[str, Callable[[VocoderConfig, _PhaseArray, HarmonicState], FloatArray]] = {
    "frame_hold": _held,
    "sample": _running,
}
