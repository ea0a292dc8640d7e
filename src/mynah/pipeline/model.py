"""What every request of one model shares, and voices made ready for it. Nothing here changes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mynah.backends.base import Backend, FloatArray
from mynah.config import ModelConfig
from mynah.errors import InvalidRequestError, UnsupportedFeatureError
from mynah.pipeline import flow
from mynah.pipeline.flow import FlowPrompt, FlowStageState
from mynah.pipeline.noise import NoiseSource, noise_source
from mynah.pipeline.prompt import LMPrompt, Mode
from mynah.pipeline.reading import NO_TOKENS, TextReader
from mynah.pipeline.schedule import ChunkSchedule
from mynah.pipeline.speech_lm import SpeechLMStage
from mynah.types import TokenArray, Voice


@dataclass(frozen=True, eq=False)
class SpeechModel:
    """One loaded model: networks, text reader, noise and rules."""

    config: ModelConfig
    backend: Backend
    reader: TextReader
    noise: NoiseSource
    schedule: ChunkSchedule
    left_chunks: int | None = None
    """Chunks before its own that a chunk of the flow attends to; None = all. Bounds memory."""
    lm: SpeechLMStage = field(init=False)

    def __post_init__(self) -> None:
        """Build the language model stage."""
        config = self.config
        stage = SpeechLMStage(self.backend.lm, config.lm, config.sampling)
        object.__setattr__(self, "lm", stage)


@dataclass(frozen=True, eq=False)
class PreparedVoice:
    """A voice as far as it can be computed before the text is known."""

    voice: Voice
    flow: FlowStageState
    """Has read the prompt; only ever forked."""
    transcript: TokenArray
    """Text ids of the prompt's words; empty = cross-lingual use."""


def build_model(
    config: ModelConfig,
    backend: Backend,
    reader: TextReader,
    *,
    noise: FloatArray | None = None,
    left_chunks: int | None = None,
) -> SpeechModel:
    """Put a model together; ``noise`` (frames, n_mels) is its noise file, if it has one.

    Raises:
        ModelFormatError: if the model needs a noise file and has none.
        InvalidRequestError: if ``left_chunks`` is less than 1.
    """
    if left_chunks is not None and left_chunks < 1:
        raise InvalidRequestError(
            f"left_chunks is {left_chunks}", hint="choose at least 1, or None for all"
        )
    sizes = config.flow.encoder
    return SpeechModel(
        config=config,
        backend=backend,
        reader=reader,
        noise=noise_source(config.flow, noise),
        schedule=ChunkSchedule(sizes.chunk_tokens, sizes.lookahead_tokens),
        left_chunks=left_chunks,
    )


def check_voice(model: SpeechModel, voice: Voice) -> None:
    """Refuse a voice that this model cannot speak with.

    Raises:
        UnsupportedFeatureError: if it belongs to another model.
        InvalidRequestError: if its sizes do not fit the model.
    """
    config = model.config
    if voice.model_id != config.model_id:
        raise UnsupportedFeatureError(
            f"voice {voice.name!r} was made with the model {voice.model_id}, "
            f"it cannot speak with {config.model_id}",
            hint=f"make it again from its recording with {config.model_id}",
        )
    if voice.speaker_embedding.shape != (config.flow.speaker_dim,):
        raise InvalidRequestError(
            f"the speaker embedding of voice {voice.name!r} has the shape "
            f"{voice.speaker_embedding.shape}, the model needs ({config.flow.speaker_dim},)",
            hint="make the voice again from its recording",
        )
    if voice.mel.shape[1:] != (config.flow.n_mels,):
        raise InvalidRequestError(
            f"the mel of voice {voice.name!r} has {voice.mel.shape[1]} bands, the model needs "
            f"{config.flow.n_mels}",
            hint="make the voice again from its recording",
        )


def prepare_voice(model: SpeechModel, voice: Voice) -> PreparedVoice:
    """Run the flow over a voice's recording; costs as much as speaking for that long.

    Raises:
        InvalidRequestError: see ``check_voice``.
        GenerationError: if its tokens are out of range, or the result is not finite.
    """
    check_voice(model, voice)
    config = model.config
    speaks_on = config.lm.reads_prompt_speech and bool(voice.transcript.strip())
    state = flow.prefix_state(
        model.backend.flow,
        config.flow,
        _flow_prompt(model, voice),
        model.noise,
        schedule=model.schedule,
        left_chunks=model.left_chunks,
    )
    return PreparedVoice(
        voice=voice,
        flow=state,
        transcript=model.reader.ids(voice.transcript) if speaks_on else NO_TOKENS,
    )


def lm_prompt(
    model: SpeechModel, prepared: PreparedVoice, text: TokenArray, instruction: TokenArray
) -> LMPrompt:
    """What the language model is told; the mode follows from what there is."""
    mode: Mode = "cross_lingual"
    prompt_text, prompt_speech = NO_TOKENS, NO_TOKENS
    if len(instruction):
        mode, prompt_text = "instruct", instruction
    elif len(prepared.transcript):
        mode, prompt_text = "zero_shot", prepared.transcript
        prompt_speech = prepared.voice.speech_tokens
    speaker = None if model.config.lm.speaker_dim is None else prepared.voice.speaker_embedding
    return LMPrompt(mode, text, prompt_text, prompt_speech, speaker)


def _flow_prompt(model: SpeechModel, voice: Voice) -> FlowPrompt:
    """The last part of the recording, as long as its prefix can be computed in whole chunks.

    The end stays, because speech goes on from there.
    """
    size = model.schedule.best_prompt_length(len(voice.speech_tokens))
    ratio = model.config.flow.token_mel_ratio
    skipped = len(voice.speech_tokens) - size
    mel: FloatArray = np.ascontiguousarray(voice.mel[skipped * ratio :])
    return FlowPrompt(voice.speaker_embedding, voice.speech_tokens[skipped:], mel)
