"""Speech tokens to mel frames: the Euler solver, guidance, and the exact incremental stage.

The stage computes every frame once. It equals one pass over the whole utterance with streaming
masks, however the tokens arrive, because chunks lie on the masks' grid and the state of every
Euler step holds what those masks let a chunk see.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from mynah.backends.base import (
    NO_IDS,
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
    """One state per Euler step, both guidance branches in each."""
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


def euler_steps(num_steps: int) -> list[tuple[float, float]]:
    """Time and step size of every Euler step on the cosine schedule, summed up in float32."""
    grid = np.linspace(0, 1, num_steps + 1, dtype=np.float32)
    times = np.float32(1) - np.cos(grid * np.float32(0.5 * np.pi))
    steps, t = [], times[0]
    for after in times[1:]:
        dt = after - t
        steps.append((float(t), float(dt)))
        t = t + dt
    return steps


def prefix_state(
    network: FlowNetwork,
    config: FlowConfig,
    prompt: FlowPrompt,
    noise: NoiseSource,
    *,
    schedule: ChunkSchedule | None = None,
    left_chunks: int | None = None,
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

    Raises:
        InvalidRequestError: if tokens and mel of the prompt do not belong together.
        GenerationError: if a token is out of range or the result is not finite.
    """
    if left_chunks is not None and left_chunks < 1:
        raise InvalidRequestError(f"left_chunks is {left_chunks}, the least is 1")
    if schedule is None:
        sizes = config.encoder
        schedule = ChunkSchedule(sizes.chunk_tokens, sizes.lookahead_tokens)
    state = FlowStageState(
        encoder=network.new_encoder_state(),
        velocity=_fresh_states(network, config),
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
    if state.finished:
        raise InvalidRequestError("this utterance is finished; start from a new state")
    _accept(config, tokens, state)
    available = state.committed + len(state.pending)
    spans = state.schedule.spans(state.committed, state.prompt_tokens, available, final=final)
    state.finished = final
    return _commit(network, config, state, spans)


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
        available = state.committed + len(state.pending)
        spans = state.schedule.spans(state.committed, state.prompt_tokens, available, final=True)
        return _commit(network, config, state, spans, following)
    everything = np.concatenate([prompt.tokens, tokens])
    check_tokens(config, everything)
    known = _normalised_prompt(config, prompt)
    mu = network.encode(everything, _or_none(following), network.new_encoder_state())
    count = len(everything) * config.frames_per_token
    fresh, speaker = _fresh_states(network, config), network.speaker(prompt.speaker)
    mel = solve(network, config, noise.frames(0, count), mu, speaker, known, fresh)
    return denormalised(config, mel[len(known) :])


def _commit(
    network: FlowNetwork,
    config: FlowConfig,
    state: FlowStageState,
    spans: Sequence[Span],
    following: TokenArray = NO_IDS,
) -> FloatArray:
    """Compute the spans in order; ``following`` are tokens after the pending ones."""
    made = [np.zeros((0, config.n_mels), dtype=np.float32)]
    ratio = config.frames_per_token
    for span in spans:
        size = span.stop - span.start
        known = np.concatenate([state.pending, following])
        ahead = known[size : size + state.schedule.lookahead_tokens]
        _trim(network, config, state)
        mu = network.encode(known[:size], _or_none(ahead), state.encoder)
        noise = state.noise.frames(span.start * ratio, span.stop * ratio)
        cond, state.cond = state.cond[: len(noise)], state.cond[len(noise) :]
        mel = solve(network, config, noise, mu, state.speaker, cond, state.velocity)
        state.pending = state.pending[size:]
        state.committed = span.stop
        # A chunk may hold the end of the prompt: what comes after it is new.
        made.append(mel[len(cond) :])
    return denormalised(config, np.concatenate(made))


def solve(
    network: FlowNetwork,
    config: FlowConfig,
    noise: FloatArray,
    mu: DeviceArray,
    speaker: DeviceArray,
    cond: FloatArray,
    states: Iterable[State],
) -> FloatArray:
    """Integrate from noise to normalised mel with classifier-free guidance.

    Args:
        network: the networks of one backend.
        config: solver and guidance settings.
        noise: (F, n_mels).
        mu: mean frames (F, n_mels).
        speaker: projected speaker vector (n_mels,).
        cond: normalised known frames at the start, at most F.
        states: one velocity state for each Euler step.

    Raises:
        GenerationError: if the result is not finite.
    """
    known = np.zeros_like(noise)
    known[: len(cond)] = cond
    scaled = noise if config.temperature == 1.0 else noise * np.float32(config.temperature)
    x, known = network.to_device(scaled), network.to_device(known)
    strong, weak = 1.0 + config.cfg_rate, config.cfg_rate
    for index, ((t, dt), state) in enumerate(
        zip(euler_steps(config.num_steps), states, strict=True)
    ):
        velocity, unconditional = network.velocity(x, t, mu, speaker, known, state)
        if _is_guided(config, index):
            velocity = strong * velocity - weak * unconditional
        x = x + dt * velocity
    mel = network.to_numpy(x)
    if not np.isfinite(mel).all():
        raise GenerationError(
            "the flow produced values that are not finite",
            hint="the weights may be damaged, or half precision overflowed",
        )
    return mel


def _is_guided(config: FlowConfig, step: int) -> bool:
    return config.guided_steps is None or step < config.guided_steps


def _fresh_states(network: FlowNetwork, config: FlowConfig) -> list[State]:
    """A state for each Euler step."""
    steps = range(config.num_steps)
    return [network.new_velocity_state(guided=_is_guided(config, step)) for step in steps]


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
