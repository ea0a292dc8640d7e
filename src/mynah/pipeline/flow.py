"""Speech tokens to mel frames: the exact incremental stage, for one stream or many together.

The stage computes every frame once. It equals one pass over the whole utterance with streaming
masks, however the tokens arrive, because chunks lie on the masks' grid and the state of every
Euler step holds what those masks let a chunk see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

import numpy as np

from mynah.backends.base import (
    NO_IDS,
    BatchedFlowNetwork,
    DeviceArray,
    FloatArray,
    FlowNetwork,
    State,
    TokenArray,
)
from mynah.config import FlowConfig
from mynah.errors import GenerationError, InvalidRequestError
from mynah.pipeline.noise import NoiseSource
from mynah.pipeline.schedule import ChunkSchedule, Span
from mynah.pipeline.sharing import Made, Share, unwrapped
from mynah.pipeline.solver import is_guided, solve, solve_many
from mynah.pipeline.unconditional import SharedStart, StartCursor


@dataclass(frozen=True, eq=False)
class FlowPrompt:
    """What the flow knows of a voice."""

    speaker: FloatArray
    """Speaker embedding (speaker_dim,)."""
    tokens: TokenArray = field(default_factory=lambda: NO_IDS)
    """Speech tokens (P,) of the reference recording."""
    mel: FloatArray | None = None
    """Log-mel (token_mel_ratio * P, n_mels) of the same recording; None without tokens."""


@dataclass(eq=False)
class FlowStageState:
    """All that one utterance keeps between calls; owned by its session, changed by ``advance``."""

    encoder: State
    velocity: list[State]
    """One state per Euler step, see ``guided_states``."""
    start: StartCursor | None
    """Gives the unconditional velocity of the first Euler step; None = its state does."""
    speaker: DeviceArray
    noise: NoiseSource
    schedule: ChunkSchedule
    left_chunks: int | None
    """Whole chunks before its own that a chunk attends to; None = all."""
    prompt_tokens: int
    cond: FloatArray
    """Normalised prompt frames that are not committed yet (frames, n_mels)."""
    pending: TokenArray
    """Tokens that are known but not committed; only their first ones are new at the next call."""
    committed: int = 0
    """Tokens done, counted from the start of the prompt; also the offset into the noise."""
    finished: bool = False

    def spans(self, *, final: bool) -> tuple[Span, ...]:
        """Chunks of pending tokens that can be computed now."""
        available = self.committed + len(self.pending)
        return self.schedule.spans(self.committed, self.prompt_tokens, available, final=final)


def prefix_state(
    network: FlowNetwork,
    config: FlowConfig,
    prompt: FlowPrompt,
    noise: NoiseSource,
    *,
    schedule: ChunkSchedule | None = None,
    left_chunks: int | None = None,
    shared: SharedStart | None = None,
) -> FlowStageState:
    """State that has read the prompt as far as it can without knowing what follows.

    Compute it once per voice and ``fork`` it per request. All whole chunks of the prompt are
    done if it has ``schedule.best_prompt_length`` tokens; any other length is right, too.

    Args:
        network: the networks of one backend.
        config: sizes, solver and guidance settings.
        prompt: speaker, and optionally tokens and mel.
        noise: the model's noise.
        schedule: chunk grid; None = the grid of the model, without growing hops.
        left_chunks: chunks visible before a chunk's own, at least 1; None = all. Bounds memory.
        shared: what utterances of this network, configuration and noise share; None = nothing.
            Not used with ``left_chunks``, which are to save memory.

    Raises:
        InvalidRequestError: if tokens and mel of the prompt do not belong together.
        GenerationError: if a token is out of range or the result is not finite.
    """
    if left_chunks is not None and left_chunks < 1:
        raise InvalidRequestError(f"left_chunks is {left_chunks}, the least is 1")
    if schedule is None:
        sizes = config.encoder
        schedule = ChunkSchedule(sizes.chunk_tokens, sizes.lookahead_tokens)
    start = None if shared is None or left_chunks is not None else shared.cursor()
    state = FlowStageState(
        encoder=network.new_encoder_state(),
        velocity=_fresh_states(network, config, starts_alone=start is not None),
        start=start,
        speaker=network.speaker(prompt.speaker),
        noise=noise,
        schedule=schedule,
        left_chunks=left_chunks,
        prompt_tokens=len(prompt.tokens),
        cond=_normalised_prompt(config, prompt),
        pending=NO_IDS,
    )
    advance(network, config, prompt.tokens, state, final=False)
    return state


def fork(network: FlowNetwork, state: FlowStageState) -> FlowStageState:
    """An independent copy, for one more request with the same voice."""
    return replace(
        state,
        encoder=network.fork(state.encoder),
        velocity=[network.fork(one) for one in state.velocity],
        start=None if state.start is None else state.start.fork(),
    )


def advance(
    network: FlowNetwork,
    config: FlowConfig,
    tokens: TokenArray,
    state: FlowStageState,
    *,
    final: bool,
) -> FloatArray:
    """Feed tokens and return the mel frames that became certain, without those of the prompt.

    Args:
        network: the networks that made ``state``.
        config: the configuration that made ``state``.
        tokens: new speech tokens (T,), any number, also none.
        state: changes in place.
        final: whether the utterance ends after these tokens; all frames that are left come.

    Returns:
        log-mel (n, n_mels) float32, n = 0 while nothing is certain.

    Raises:
        GenerationError: if a token is out of range or the result is not finite.
        InvalidRequestError: if the state was finished before.
    """
    return unwrapped(advance_many(network, config, [tokens], [state], [final])[0])


def advance_many(
    network: FlowNetwork,
    config: FlowConfig,
    tokens: Sequence[TokenArray],
    states: Sequence[FlowStageState],
    finals: Sequence[bool],
) -> list[Made]:
    """As ``advance`` for several streams, which share calls if the network can do that.

    Returns:
        what ``advance`` returns for each, or the error that it raises: what is wrong with one
        stream leaves the others alone.

    Raises:
        BackendError: if the network fails; none of the states can be used any more.
        InvalidRequestError: if a state was finished before; none has changed then.
    """
    if any(state.finished for state in states):
        raise InvalidRequestError("this utterance is finished; start from a new state")
    jobs = [_Job(state) for state in states]
    for job, new, final in zip(jobs, tokens, finals, strict=True):
        with job.keeping_error():
            _accept(config, new, job.state)
            job.spans = job.state.spans(final=final)
            job.state.finished = final
    _commit(network, config, jobs)
    return [job.made(config) for job in jobs]


def decode_whole(
    network: FlowNetwork,
    config: FlowConfig,
    prompt: FlowPrompt,
    tokens: TokenArray,
    noise: NoiseSource,
    *,
    attention: Literal["full", "chunked"] = "chunked",
    lookahead: TokenArray | None = None,
) -> FloatArray:
    """Mel frames (token_mel_ratio * T, n_mels) of all tokens at once.

    Args:
        network: the networks of one backend.
        config: sizes, solver and guidance settings.
        prompt: speaker, and optionally tokens and mel.
        tokens: speech tokens (T,).
        noise: the model's noise.
        attention: "chunked" = the frames a stream would give; "full" = every frame sees every
            other (the official mode without streaming), which costs time and memory in T.
        lookahead: tokens that follow; None = the utterance ends.

    Raises:
        InvalidRequestError: if tokens and mel of the prompt do not belong together.
        GenerationError: if a token is out of range or the result is not finite.
    """
    following = NO_IDS if lookahead is None else lookahead
    if attention == "chunked":
        state = prefix_state(network, config, prompt, noise)
        _accept(config, tokens, state)
        job = _Job(state, state.spans(final=True), following)
        _commit(network, config, [job])
        return unwrapped(job.made(config))
    everything = np.concatenate([prompt.tokens, tokens])
    check_tokens(config, everything)
    known = _normalised_prompt(config, prompt)
    mu = network.encode(everything, _or_none(following), network.new_encoder_state())
    count = len(everything) * config.frames_per_token
    fresh, speaker = _fresh_states(network, config), network.speaker(prompt.speaker)
    mel = solve(network, config, noise.frames(0, count), mu, speaker, known, fresh)
    return denormalised(config, mel[len(known) :])


@dataclass(eq=False)
class _Job(Share):
    """Spans of one stream that can be computed now, and what came of them."""

    state: FlowStageState
    spans: Sequence[Span] = ()
    following: TokenArray = field(default_factory=lambda: NO_IDS)
    """Tokens after the pending ones."""
    mels: list[FloatArray] = field(default_factory=list)

    def made(self, config: FlowConfig) -> Made:
        if self.error is not None:
            return self.error
        nothing = np.zeros((0, config.n_mels), np.float32)
        return denormalised(config, np.concatenate([nothing, *self.mels]))


@dataclass(frozen=True, eq=False)
class _Chunk:
    """What the networks are given for one span of a stream."""

    job: _Job
    span: Span
    tokens: TokenArray
    lookahead: TokenArray | None
    noise: FloatArray
    cond: FloatArray


def _commit(network: FlowNetwork, config: FlowConfig, jobs: Sequence[_Job]) -> None:
    """Compute the spans of every job in order; those that are first share a call, and so on."""
    for number in range(max((len(job.spans) for job in jobs), default=0)):
        chunks = []
        for job in jobs:
            if job.error is None and number < len(job.spans):
                _trim(network, config, job.state)
                with job.keeping_error():
                    chunks.append(_chunk(config, job, job.spans[number]))
        alone = len(chunks) < 2 or any(chunk.job.state.start for chunk in chunks)
        together = not alone and hasattr(network, "velocity_many")
        compute = _compute_together if together else _compute_each
        for chunk, mel in zip(chunks, compute(network, config, chunks), strict=True):
            state = chunk.job.state
            if isinstance(mel, GenerationError):
                chunk.job.error = mel
                continue
            state.pending = state.pending[len(chunk.tokens) :]
            state.cond = state.cond[len(chunk.cond) :]
            state.committed = chunk.span.stop
            # A chunk may hold the end of the prompt: what comes after it is new.
            chunk.job.mels.append(mel[len(chunk.cond) :])


def _chunk(config: FlowConfig, job: _Job, span: Span) -> _Chunk:
    state, ratio, size = job.state, config.frames_per_token, span.stop - span.start
    known = np.concatenate([state.pending, job.following])
    ahead = known[size : size + state.schedule.lookahead_tokens]
    noise = state.noise.frames(span.start * ratio, span.stop * ratio)
    return _Chunk(job, span, known[:size], _or_none(ahead), noise, state.cond[: len(noise)])


def _compute_each(network: FlowNetwork, config: FlowConfig, chunks: Sequence[_Chunk]) -> list[Made]:
    made: list[Made] = []
    for chunk in chunks:
        state = chunk.job.state
        try:
            mu = network.encode(chunk.tokens, chunk.lookahead, state.encoder)
            inputs = (chunk.noise, mu, state.speaker, chunk.cond, state.velocity)
            start = state.start and state.start.velocity(chunk.span, chunk.noise)
            made.append(solve(network, config, *inputs, start))
        except GenerationError as error:
            made.append(error)
    return made


def _compute_together(
    network: FlowNetwork, config: FlowConfig, chunks: Sequence[_Chunk]
) -> list[Made]:
    batched = cast(BatchedFlowNetwork, network)  # a protocol cannot see through a timed network
    states = [chunk.job.state for chunk in chunks]
    mu = batched.encode_many(
        [chunk.tokens for chunk in chunks],
        [chunk.lookahead for chunk in chunks],
        [state.encoder for state in states],
    )
    return solve_many(
        network,
        config,
        [chunk.noise for chunk in chunks],
        mu,
        [state.speaker for state in states],
        [chunk.cond for chunk in chunks],
        [state.velocity for state in states],
    )


def guided_states(config: FlowConfig, *, starts_alone: bool) -> list[bool]:
    """Whether the state of each Euler step is of both guidance branches.

    ``starts_alone``: that of the first step is not, as its unconditional velocity is shared.
    """
    return [is_guided(config, step) and step >= starts_alone for step in range(config.num_steps)]


def _fresh_states(
    network: FlowNetwork, config: FlowConfig, *, starts_alone: bool = False
) -> list[State]:
    """A state for each Euler step."""
    guided = guided_states(config, starts_alone=starts_alone)
    return [network.new_velocity_state(guided=both) for both in guided]


def _trim(network: FlowNetwork, config: FlowConfig, state: FlowStageState) -> None:
    if state.left_chunks is None:
        return
    keep = state.left_chunks * state.schedule.chunk_tokens * config.frames_per_token
    for one in (state.encoder, *state.velocity):
        network.trim(one, keep)


def _accept(config: FlowConfig, tokens: TokenArray, state: FlowStageState) -> None:
    check_tokens(config, tokens)
    state.pending = np.concatenate([state.pending, tokens])


def check_tokens(config: FlowConfig, tokens: TokenArray) -> None:
    """Refuse tokens (T,) that the flow does not know.

    Raises:
        GenerationError: naming the range.
    """
    if len(tokens) and not 0 <= tokens.min() <= tokens.max() < config.speech_vocab_size:
        raise GenerationError(
            f"speech tokens reach from {tokens.min()} to {tokens.max()}, "
            f"the flow knows 0 to {config.speech_vocab_size - 1}"
        )


def _normalised_prompt(config: FlowConfig, prompt: FlowPrompt) -> FloatArray:
    expected = (len(prompt.tokens) * config.frames_per_token, config.n_mels)
    mel = np.zeros((0, config.n_mels), dtype=np.float32) if prompt.mel is None else prompt.mel
    if mel.shape != expected:
        raise InvalidRequestError(
            f"the prompt's mel has shape {mel.shape}, its tokens need {expected}"
        )
    return normalised(config, mel)


def normalised(config: FlowConfig, mel: FloatArray) -> FloatArray:
    """Mel frames as the networks see them."""
    return ((mel - config.mel_mean) / config.mel_std).astype(np.float32)


def denormalised(config: FlowConfig, mel: FloatArray) -> FloatArray:
    """Mel frames as the vocoder sees them; undoes ``normalised``."""
    return (mel * config.mel_std + config.mel_mean).astype(np.float32)


def _or_none(tokens: TokenArray) -> TokenArray | None:
    return tokens if len(tokens) else None
