"""Speech tokens of one utterance to samples: flow, speed and vocoder in a row, incrementally."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mynah.backends.base import FloatArray
from mynah.errors import GenerationError
from mynah.pipeline import speed, vocoder
from mynah.pipeline.flow_stage import FlowState
from mynah.pipeline.model import PreparedVoice, SpeechModel
from mynah.pipeline.sharing import Made, unwrapped
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


def advance(model: SpeechModel, state: RenderState, *, final: bool) -> FloatArray:
    """Turn the fresh tokens into the samples (N,) that are now certain.

    Raises:
        GenerationError: if a network produced something unusable.
        BackendError: if a network cannot be run.
    """
    return unwrapped(advance_many(model, [state], [final])[0])


def advance_many(
    model: SpeechModel, states: Sequence[RenderState], finals: Sequence[bool]
) -> list[Made]:
    """As ``advance`` for several utterances, which share calls where the networks can do that.

    Returns:
        the samples (N,) of each, or what is wrong with it: that leaves the others alone.

    Raises:
        BackendError: if a network cannot be run; none of the states can be used any more.
    """
    tokens: list[TokenArray] = [np.array(state.fresh, dtype=np.int64) for state in states]
    for state in states:
        state.fresh = []
    made = model.flow.advance_many(tokens, [state.flow for state in states], finals)
    mels, able = [], []
    for index, (mel, state, final) in enumerate(zip(made, states, finals, strict=True)):
        if isinstance(mel, GenerationError):
            continue
        if state.speed.speed != 1.0:
            mel = speed.advance(mel, state.speed, final=final)
        mels.append(mel)
        able.append(index)
    samples = vocoder.advance_many(
        model.backend.vocoder,
        model.config.vocoder,
        mels,
        [states[index].vocoder for index in able],
        [finals[index] for index in able],
    )
    for index, one in zip(able, samples, strict=True):
        made[index] = one
    return made


def sampling_rng(seed: int, index: int) -> np.random.Generator:
    """Generator of the tokens of an utterance; none depends on what another one has drawn."""
    return np.random.default_rng([seed, index, _SAMPLING])


def noise_rng(seed: int, index: int) -> np.random.Generator:
    """Generator of the vocoder's noise of an utterance."""
    return np.random.default_rng([seed, index, _NOISE])
