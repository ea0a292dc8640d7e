"""One utterance on its way through the stages: language model, flow, vocoder."""

from __future__ import annotations

from dataclasses import dataclass

from mynah.config import SamplingConfig
from mynah.pipeline import rendering
from mynah.pipeline.model import Manner, PreparedVoice, SpeechModel, lm_prompt
from mynah.pipeline.reading import Utterance
from mynah.pipeline.rendering import RenderState
from mynah.pipeline.speech_lm import LMStageState
from mynah.types import SynthesisRequest


@dataclass(eq=False)
class UtteranceState:
    """The stages' states for the utterance being spoken."""

    utterance: Utterance
    """Its last part so far, where its text comes in pieces."""
    text: str
    lm: LMStageState
    render: RenderState
    is_last: bool = False
    """Whether all text was read when its own ended."""


def new_utterance(
    model: SpeechModel,
    request: SynthesisRequest,
    manner: Manner,
    prepared: PreparedVoice,
    utterance: Utterance,
    *,
    index: int,
    whole: bool,
) -> UtteranceState:
    """Begin the utterance number ``index`` of a request; ``whole``: see ``FlowStage.fork``.

    In a request whose text is fed, a model that can listens to the rest while it speaks.

    Raises:
        InvalidRequestError, UnsupportedFeatureError, ModelFormatError: see ``build_segments``.
        BackendError: if a network cannot be run.
    """
    prompt = lm_prompt(model, request.voice, manner, utterance.ids)
    rng = rendering.sampling_rng(request.seed, index)
    sampling = _sampling(model.config.sampling, request)
    if request.text is None and model.config.lm.text_speech_mix is not None:
        lm = model.lm.start_turns(prompt, rng, sampling=sampling)
        model.lm.add_text(lm, utterance.ids)
    else:
        lm = model.lm.start(prompt, rng, sampling=sampling, pauses=utterance.pauses)
    render = rendering.new_state(
        model,
        prepared,
        speaking_speed=request.speed,
        seed=request.seed,
        index=index,
        whole=whole,
    )
    return UtteranceState(utterance, utterance.text, lm, render)


def _sampling(defaults: SamplingConfig, request: SynthesisRequest) -> SamplingConfig:
    changes = {"top_p": request.top_p, "top_k": request.top_k}
    given = {name: value for name, value in changes.items() if value is not None}
    return defaults.model_copy(update=given)
