"""Mel frames to samples, incrementally and exactly.

A frame is decoded once everything its samples depend on is known: the decoder's receptive field in
mel and source, the source's next frame, the F0 predictor's field. A network that keeps what it has
computed decodes it right away. For others it is decoded inside a window that holds that whole
field. Either way its samples equal those of one decode of the whole utterance, and chunks join
without a cross-fade: layers pad only where the utterance really starts or ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from mynah.backends.base import (
    BatchedVocoderNetwork,
    CropArray,
    FloatArray,
    IncrementalVocoderNetwork,
    State,
    VocoderNetwork,
)
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
from mynah.pipeline.sharing import Made, Share, unwrapped

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
    return unwrapped(advance_many(network, config, [mel], [state], [final])[0])


def advance_many(
    network: VocoderNetwork,
    config: VocoderConfig,
    mels: Sequence[FloatArray],
    states: Sequence[VocoderStageState],
    finals: Sequence[bool],
) -> list[Made]:
    """As ``advance`` for several utterances, which share calls if the network can do that.

    Returns:
        what ``advance`` returns for each, or the ``GenerationError`` that it raises.

    Raises:
        ValueError: if a shape is wrong or an utterance has ended; none has changed then.
    """
    for mel, state in zip(mels, states, strict=True):
        if mel.ndim != 2 or mel.shape[1] != config.n_mels:
            raise ValueError(f"mel has shape {mel.shape}, not (frames, {config.n_mels})")
        if state.finished:
            raise ValueError("the utterance has ended; start a new state")
    jobs = [_Job(*values) for values in zip(states, mels, finals, strict=True)]
    longest = max((len(mel) for mel in mels), default=0)
    for start in range(0, max(longest, 1), MAX_WINDOW_FRAMES):
        _advance_pieces(network, config, [job for job in jobs if job.take(start)])
    return [job.made() for job in jobs]


@dataclass(eq=False)
class _Job(Share):
    """One utterance among several, and what came of its mel."""

    state: VocoderStageState
    mel: FloatArray
    final: bool
    piece: FloatArray = field(init=False)
    """Frames that are being appended."""
    source: FloatArray = field(default_factory=lambda: _NO_SAMPLES, init=False)
    """What they added to the source."""
    parts: list[FloatArray] = field(default_factory=list, init=False)

    def take(self, start: int) -> bool:
        """Append the frames from ``start`` on; whether there is something to do."""
        if self.error is not None or start > max(len(self.mel) - 1, 0):
            return False
        state, self.piece = self.state, self.mel[start : start + MAX_WINDOW_FRAMES]
        state.finished = self.final and start + len(self.piece) == len(self.mel)
        state.mel = np.concatenate([state.mel, self.piece.astype(np.float32, copy=False)])
        state.received += len(self.piece)
        self.source = _NO_SAMPLES
        return True

    def made(self) -> Made:
        return np.concatenate(self.parts) if self.error is None else self.error


def _advance_pieces(network: VocoderNetwork, config: VocoderConfig, jobs: Sequence[_Job]) -> None:
    """Compute all that the frames just taken make certain."""
    _extend_sources(network, config, jobs)
    jobs = [job for job in jobs if job.error is None]
    if hasattr(network, "decode_next"):  # a protocol cannot see through a timed network
        incremental = cast(IncrementalVocoderNetwork, network)
        for job in jobs:
            with job.keeping_error():
                samples = _decode_next(incremental, config, job.state, job.piece, job.source)
                job.parts.append(samples)
    else:
        for job in jobs:
            _keep_source(config, job.state, job.source)
        _decode_certain(network, config, jobs)
    for job in jobs:
        _forget(config, job.state)


def _extend_sources(network: VocoderNetwork, config: VocoderConfig, jobs: Sequence[_Job]) -> None:
    """Compute F0 and source as far as they are certain; the new samples of it go to the jobs."""
    left, right = f0_field(config)
    windows: dict[_Job, FloatArray] = {}
    for job in jobs:
        state = job.state
        if _certain_f0(state, right) > state.with_f0:
            windows[job] = state.mel[max(state.with_f0 - left, 0) - state.mel_start :]
    found = dict(zip(windows, _f0s(network, list(windows.values())), strict=True))
    waves: dict[_Job, FloatArray] = {}
    for job in jobs:
        state, f0 = job.state, _NO_SAMPLES
        with job.keeping_error():
            if job in found:
                start, certain = max(state.with_f0 - left, 0), _certain_f0(state, right)
                f0 = _finite(found[job][state.with_f0 - start : certain - start], "F0")
                state.with_f0 = certain
            new = _waves(config, f0, state.generator, final=state.finished)
            if len(new):
                waves[job] = new
    sources = _excitations(network, list(waves.values()))
    for job, source in zip(waves, sources, strict=True):
        job.source = source


def _certain_f0(state: VocoderStageState, right: int) -> int:
    """Frames whose F0 depends on no frame that is still to come."""
    return state.received if state.finished else max(state.received - right, state.with_f0)


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


@dataclass(frozen=True, eq=False)
class _Window:
    """Frames to be decoded with all that they depend on."""

    end: int
    """Frame of the utterance behind the last one that is wanted."""
    skipped: int
    """Samples before the first one that is wanted."""
    mel: FloatArray
    source: FloatArray
    crops: CropArray


def _decode_certain(network: VocoderNetwork, config: VocoderConfig, jobs: Sequence[_Job]) -> None:
    """Decode the frames that are certain and not yet emitted."""
    windows = {job: window for job in jobs if (window := _window(config, job.state)) is not None}
    decoded = _decoded(network, list(windows.values()))
    made = dict(zip(windows, decoded, strict=True))
    for job in jobs:
        if job not in made:
            job.parts.append(_NO_SAMPLES)
            continue
        state, window = job.state, windows[job]
        count = (window.end - state.emitted) * config.samples_per_frame
        with job.keeping_error():
            samples = _finite(made[job][window.skipped : window.skipped + count], "samples")
            state.emitted = window.end
            job.parts.append(np.clip(samples, -config.audio_limit, config.audio_limit))


def _window(config: VocoderConfig, state: VocoderStageState) -> _Window | None:
    """What to decode now; None = nothing is certain."""
    mel_field, source_field = decode_fields(config)
    end = state.received
    if not state.finished:
        end = min(state.received - mel_field.right, state.with_source - source_field.right)
    if end <= state.emitted:
        return None
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
    skipped = (state.emitted - start) * size - first_sample(config, crops)
    return _Window(end, skipped, mel, source, crops)


def _f0s(network: VocoderNetwork, mels: Sequence[FloatArray]) -> list[FloatArray]:
    if (batched := _batched(network, len(mels))) is not None:
        return batched.f0_many(mels)
    return [network.f0(mel) for mel in mels]


def _excitations(network: VocoderNetwork, waves: Sequence[FloatArray]) -> list[FloatArray]:
    if (batched := _batched(network, len(waves))) is not None:
        return batched.excitation_many(waves)
    return [network.excitation(one) for one in waves]


def _decoded(network: VocoderNetwork, windows: Sequence[_Window]) -> list[FloatArray]:
    inputs = [(window.mel, window.source, window.crops) for window in windows]
    if (batched := _batched(network, len(inputs))) is not None:
        return batched.decode_many(inputs)
    return [network.decode(*one) for one in inputs]


def _batched(network: VocoderNetwork, count: int) -> BatchedVocoderNetwork | None:
    """The network, if it computes as many windows as that in one call."""
    if count < 2 or not hasattr(network, "decode_many"):
        return None
    return cast(BatchedVocoderNetwork, network)  # a protocol cannot see through a timed network


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
