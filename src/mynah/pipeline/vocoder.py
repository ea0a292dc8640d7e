"""Mel frames to samples, incrementally and exactly.

A frame is decoded once everything its samples depend on is known: the decoder's receptive field in
mel and source, the source's next frame, the F0 predictor's field. A network that keeps what it has
computed decodes it right away. For others it is decoded inside a window that holds that whole
field. Either way its samples equal those of one decode of the whole utterance, and chunks join
without a cross-fade: layers pad only where the utterance really starts or ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import numpy as np

from mynah.backends.base import FloatArray, IncrementalVocoderNetwork, State, VocoderNetwork
from mynah.config import VocoderConfig
from mynah.errors import GenerationError
from mynah.pipeline import harmonics, pulses
from mynah.pipeline.harmonics import HarmonicState
from mynah.pipeline.pulses import PulseState
from mynah.pipeline.receptive_field import (
    decode_fields,
    f0_field,
    first_sample,
    receptive_field,
    stage_crops,
)
from mynah.pipeline.replayed_noise import ReplayedNoise

MAX_WINDOW_FRAMES = 240
"""New frames decoded at once; bounds the memory of long inputs."""

_NO_SAMPLES: FloatArray = np.zeros(0, dtype=np.float32)


@dataclass(eq=False)
class VocoderStageState:
    """All that one utterance keeps between calls; owned by its session, changed by ``advance``.

    Counters are frames from the start of the utterance.
    """

    generator: HarmonicState | PulseState
    mel: FloatArray
    """Frames ``mel_start`` .. ``received``, (frames, n_mels): context and what is not done yet."""
    mel_start: int = 0
    received: int = 0
    with_f0: int = 0
    """Frames whose F0 is certain and handed to the harmonic source."""
    source: FloatArray = field(default_factory=lambda: _NO_SAMPLES)
    """Source samples of the frames ``source_start`` .. ``with_source``; time is axis 0."""
    source_start: int = 0
    with_source: int = 0
    decoder: State | None = None
    """Of a network that decodes incrementally; it has read mel up to ``received``."""
    emitted: int = 0
    finished: bool = False


def new_state(
    config: VocoderConfig, sample_rate: int, noise: np.random.Generator | None = None
) -> VocoderStageState:
    """State of an utterance without frames.

    ``noise`` is drawn from as long as the state lives, by it alone; None = no noise. A model with
    its own noise (``sine_noise_offset``) takes that in its place.
    """
    generator: HarmonicState | PulseState = PulseState(sample_rate, noise)
    if config.head == "polar":
        own = noise is not None and config.sine_noise_offset is not None
        heard = ReplayedNoise(config.sine_noise_offset or 0) if own else noise
        generator = HarmonicState(sample_rate, heard)
    return VocoderStageState(generator, np.zeros((0, config.n_mels), np.float32))


def advance(
    network: VocoderNetwork,
    config: VocoderConfig,
    mel: FloatArray,
    state: VocoderStageState,
    *,
    final: bool,
) -> FloatArray:
    """Append mel frames (F, n_mels), any number; return the samples that are now certain.

    With ``final`` the utterance ends after these frames and all its samples come out: in total
    ``config.samples_per_frame`` for each frame, in [-audio_limit, audio_limit].

    Raises:
        GenerationError: if a network yields NaN or infinity; the state is useless then.
        ValueError: if the shape is wrong or the utterance has ended already.
    """
    if mel.ndim != 2 or mel.shape[1] != config.n_mels:
        raise ValueError(f"mel has shape {mel.shape}, not (frames, {config.n_mels})")
    if state.finished:
        raise ValueError("the utterance has ended; start a new state")
    parts = []
    for start in range(0, max(len(mel), 1), MAX_WINDOW_FRAMES):
        piece = mel[start : start + MAX_WINDOW_FRAMES]
        state.finished = final and start + len(piece) == len(mel)
        state.mel = np.concatenate([state.mel, piece.astype(np.float32, copy=False)])
        state.received += len(piece)
        source = _extend_source(network, config, state)
        if hasattr(network, "decode_next"):  # a protocol cannot see through a timed network
            incremental = cast(IncrementalVocoderNetwork, network)
            parts.append(_decode_next(incremental, config, state, piece, source))
        else:
            _keep_source(config, state, source)
            parts.append(_decode_certain(network, config, state))
        _forget(config, state)
    return np.concatenate(parts)


def _extend_source(
    network: VocoderNetwork, config: VocoderConfig, state: VocoderStageState
) -> FloatArray:
    """Compute F0 and source as far as they are certain; returns new samples of the source."""
    left, right = f0_field(config)
    certain = state.received if state.finished else max(state.received - right, state.with_f0)
    f0 = _NO_SAMPLES
    if certain > state.with_f0:
        start = max(state.with_f0 - left, 0)
        f0 = network.f0(state.mel[start - state.mel_start :])
        f0 = _finite(f0[state.with_f0 - start : certain - start], "F0")
        state.with_f0 = certain
    waves = _waves(config, f0, state.generator, final=state.finished)
    return network.excitation(waves) if len(waves) else _NO_SAMPLES


def _decode_next(
    network: IncrementalVocoderNetwork,
    config: VocoderConfig,
    state: VocoderStageState,
    mel: FloatArray,
    source: FloatArray,
) -> FloatArray:
    """Decode as ``_decode_certain`` by a network that keeps what it needs itself."""
    if state.decoder is None:
        state.decoder = network.new_decoder_state()
    samples = network.decode_next(mel, source, state.decoder, final=state.finished)
    state.emitted += len(samples) // config.samples_per_frame
    return _finite(samples, "samples")


def _keep_source(config: VocoderConfig, state: VocoderStageState, source: FloatArray) -> None:
    if len(source):
        state.source = np.concatenate([state.source, source]) if len(state.source) else source
        state.with_source += len(source) // config.samples_per_frame


def _waves(
    config: VocoderConfig, f0: FloatArray, generator: HarmonicState | PulseState, *, final: bool
) -> FloatArray:
    if isinstance(generator, PulseState):
        return pulses.advance(config, f0, generator, final=final)
    return harmonics.advance(config, f0, generator, final=final)


def _decode_certain(
    network: VocoderNetwork, config: VocoderConfig, state: VocoderStageState
) -> FloatArray:
    """Decode the frames that are certain and not yet emitted."""
    mel_field, source_field = decode_fields(config)
    end = state.received
    if not state.finished:
        end = min(state.received - mel_field.right, state.with_source - source_field.right)
    if end <= state.emitted:
        return _NO_SAMPLES
    left, right = receptive_field(config)
    start, stop = max(state.emitted - left, 0), min(end + right, state.received)
    mel = state.mel[start - state.mel_start : stop - state.mel_start]
    size = config.samples_per_frame
    source = state.source[(start - state.source_start) * size :][: (stop - start) * size]
    # source beyond the decoder's field on it may be unknown yet; it reaches no emitted sample
    missing = (stop - start) * size - len(source)
    if missing:
        source = np.pad(source, [(0, missing), *[(0, 0)] * (source.ndim - 1)])
    crops = stage_crops(config, state.emitted - start, end - start, stop - start)
    samples = network.decode(mel, source, crops)
    skipped = (state.emitted - start) * size - first_sample(config, crops)
    samples = _finite(samples[skipped : skipped + (end - state.emitted) * size], "samples")
    state.emitted = end
    return np.clip(samples, -config.audio_limit, config.audio_limit)


def _forget(config: VocoderConfig, state: VocoderStageState) -> None:
    """Drop what no later window reads."""
    left, _ = receptive_field(config)
    first = max(state.emitted - left, 0)
    keep_mel = min(first, max(state.with_f0 - f0_field(config).left, 0))
    # copies, so that the dropped part's memory is free
    state.mel = state.mel[keep_mel - state.mel_start :].copy()
    state.mel_start = keep_mel
    state.source = state.source[(first - state.source_start) * config.samples_per_frame :].copy()
    state.source_start = first


def _finite(values: FloatArray, what: str) -> FloatArray:
    if not np.isfinite(values).all():
        raise GenerationError(
            f"the vocoder produced {what} that are not numbers",
            hint="the model is damaged or the mel spectrogram is out of range",
        )
    return values
