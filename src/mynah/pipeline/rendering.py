"""Speech tokens of one utterance to samples: flow, speed and vocoder in a row, incrementally."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mynah.backends.base import FloatArray
from mynah.pipeline import speed, vocoder
from mynah.pipeline.flow_stage import FlowState
from mynah.pipeline.model import PreparedVoice, SpeechModel
from mynah.pipeline.silence import SilenceState, is_heard
from mynah.pipeline.speed import SpeedState
from mynah.pipeline.vocoder import VocoderStageState
from mynah.types import TokenArray

_SAMPLING, _NOISE = 0, 1  # what a random generator of an utterance is for


@dataclass(eq=False)
class RenderState:
    """What the stages behind the language model keep for the utterance being spoken."""

    flow: FlowState
    vocoder: VocoderStageState
    speed: SpeedState
    fresh: list[int] = field(default_factory=list)
    """Tokens made but not yet handed to the flow."""
    silence: SilenceState = field(default_factory=SilenceState)
    is_finished: bool = False
    """Whether the last samples were made."""


def new_state(
    model: SpeechModel,
    prepared: PreparedVoice,
    *,
    speaking_speed: float,
    seed: int,
    index: int,
    whole: bool = False,
) -> RenderState:
    """Begin the utterance number ``index`` of a request with that seed.

    ``whole``: see ``FlowStage.fork``.
    """
    config = model.config
    return RenderState(
        flow=model.flow.fork(prepared.flow, whole=whole),
        vocoder=vocoder.new_state(config.vocoder, config.sample_rate, noise_rng(seed, index)),
        speed=SpeedState(speaking_speed),
    )


def add_token(model: SpeechModel, state: RenderState, token: int) -> None:
    """Take a token of the language model, unless it goes on with a silence that is too long."""
    if is_heard(token, state.silence, model.config.lm):
        state.fresh.append(token)


def is_chunk_ready(model: SpeechModel, state: RenderState) -> bool:
    """Whether the tokens made so far complete a chunk."""
    return model.flow.is_ready(state.flow, len(state.fresh))


def tokens_of_chunk(model: SpeechModel, state: RenderState) -> int | None:
    """How many of the fresh tokens complete the next chunk; None if they do not.

    Whoever hands over so many gets the same chunks however many tokens were made ahead.
    """
    counts = range(len(state.fresh) + 1)
    return next((count for count in counts if model.flow.is_ready(state.flow, count)), None)


def take_tokens(state: RenderState, count: int | None) -> TokenArray:
    """Take the first tokens (T,) to hand them over; None = all. Another thread may append."""
    taken = state.fresh[: len(state.fresh) if count is None else count]
    del state.fresh[: len(taken)]
    return np.array(taken, dtype=np.int64)


def advance(
    model: SpeechModel, state: RenderState, tokens: TokenArray, *, final: bool
) -> FloatArray:
    """Turn tokens (T,) into the samples (N,) that are now certain.

    Raises:
        GenerationError: if a network produced something unusable.
        BackendError: if a network cannot be run.
    """
    network, config = model.backend, model.config
    state.is_finished = final
    mel = model.flow.advance(tokens, state.flow, final=final)
    if state.speed.speed != 1.0:
        mel = speed.advance(mel, state.speed, final=final)
    return vocoder.advance(network.vocoder, config.vocoder, mel, state.vocoder, final=final)


def sampling_rng(seed: int, index: int) -> np.random.Generator:
    """Generator of the tokens of an utterance; none depends on what another one has drawn."""
    return np.random.default_rng([seed, index, _SAMPLING])


def noise_rng(seed: int, index: int) -> np.random.Generator:
    """Generator of the vocoder's noise of an utterance."""
    return np.random.default_rng([seed, index, _NOISE])
