"""Prompt recordings in every form that scripts pass, and the official loader of them."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mynah.audio.io import AudioSource, read_audio
from mynah.audio.resample import sinc_resample
from mynah.compat.tensors import load_torch, to_array, to_tensor
from mynah.errors import InvalidRequestError, PromptAudioError
from mynah.types import Audio

PROMPT_RATE = 16000
"""Rate of prompts that are given as samples, by official convention."""

PromptLike: TypeAlias = Any  # torch's type cannot be named where torch may be missing
"""Path, bytes, open file, array or tensor (N,) or (channels, N) at 16 kHz, or ``mynah.Audio``."""


def load_wav(wav: AudioSource, target_sr: int, min_sr: int = PROMPT_RATE) -> Any:
    """Read a recording as mono at a rate.

    Args:
        wav: path, bytes or open file.
        target_sr: wanted rate in Hz.
        min_sr: a recording of another rate than the wanted one must have at least this.

    Returns:
        float32 (1, N): a torch tensor, or a NumPy array where torch is not installed.

    Raises:
        PromptAudioError: if it cannot be read, or its rate is too low.
    """
    audio = read_audio(wav)
    if audio.sample_rate != target_sr and audio.sample_rate < min_sr:
        name = os.fspath(wav) if isinstance(wav, str | os.PathLike) else "the recording"
        raise PromptAudioError(
            f"{name} has a sample rate of {audio.sample_rate} Hz, at least {min_sr} Hz is needed",
            hint="record it at a higher rate; resampling does not bring back what is missing",
        )
    samples = sinc_resample(audio.samples, audio.sample_rate, target_sr)
    return to_tensor(samples, load_torch())


def read_prompt(prompt: PromptLike, what: str = "prompt_wav") -> Audio:
    """Read a prompt in any accepted form, at its own rate; samples count as 16 kHz.

    Raises:
        InvalidRequestError: if there is none, or it has an impossible shape.
        PromptAudioError: if it cannot be read.
    """
    if isinstance(prompt, Audio):
        return prompt
    if prompt is None or (isinstance(prompt, str) and not prompt):
        raise InvalidRequestError(
            f"{what} is missing",
            hint="pass a recording, or the zero_shot_spk_id of a speaker that was added",
        )
    samples = to_array(prompt)
    return read_audio(prompt) if samples is None else Audio(_mono(samples, what), PROMPT_RATE)


def _mono(samples: npt.NDArray[Any], what: str) -> npt.NDArray[np.float32]:
    if samples.ndim == 2:
        # A second axis shorter than the first means (samples, channels), as sound files are read.
        channels = 0 if samples.shape[0] <= samples.shape[1] else 1
    elif samples.ndim == 1:
        samples, channels = samples[None, :], 0
    else:
        raise InvalidRequestError(
            f"{what} has the shape {samples.shape}",
            hint="pass samples (N,) or (channels, N) at 16 kHz, or the path of a sound file",
        )
    if np.issubdtype(samples.dtype, np.integer):
        samples = samples / np.float32(-float(np.iinfo(samples.dtype).min) or 1.0)
    mixed: npt.NDArray[np.float32] = samples.astype(np.float32).mean(axis=channels)
    return mixed
