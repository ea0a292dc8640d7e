"""What every request of one model shares, and voices made ready for it. Nothing here changes."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Self

from mynah.backends.base import NO_IDS, Backend, FloatArray
from mynah.config import ModelConfig
from mynah.errors import InvalidRequestError, UnsupportedFeatureError
from mynah.pipeline.flow import FlowPrompt
from mynah.pipeline.flow_stage import FlowStage, FlowState, build_flow_stage
from mynah.pipeline.modes import choose_mode, reads_recording, reads_speaker
from mynah.pipeline.noise import NoiseSource, noise_source
from mynah.pipeline.prompt import LMPrompt
from mynah.pipeline.reading import NO_PROMPT, PromptText, TextReader
from mynah.pipeline.speech_lm import SpeechLMStage
from mynah.text.lexicons import UserLexicon
from mynah.text.styles import resolve_style
from mynah.types import Mode, SynthesisRequest, TokenArray, Voice


@dataclass(frozen=True, eq=False)
class SpeechModel:
    """One loaded model: networks, text reader, noise and rules."""

    config: ModelConfig
    backend: Backend
    reader: TextReader
    noise: NoiseSource
    left_chunks: int | None = None
    """Chunks before its own that a chunk of the flow attends to; None = all. Bounds memory."""
    lm: SpeechLMStage = field(init=False)
    flow: FlowStage = field(init=False)

    def __post_init__(self) -> None:
        """Build the stages."""
        config, backend = self.config, self.backend
        flow = build_flow_stage(
            backend.flow,
            config,
            self.noise,
            self.left_chunks,
            splits_guidance=backend.splits_guidance,
        )
        object.__setattr__(self, "lm", SpeechLMStage(backend.lm, config.lm, config.sampling))
        object.__setattr__(self, "flow", flow)

    def with_lexicon(self, lexicon: UserLexicon) -> Self:
        """This model with further pronunciations, which count before those it has.

        Everything but the reader is shared, so sessions of both can share network calls.
        """
        if not len(lexicon):
            return self
        model = copy.copy(self)
        object.__setattr__(model, "reader", self.reader.with_lexicon(lexicon))
        return model


@dataclass(frozen=True, eq=False)
class PreparedVoice:
    """A voice as far as it can be computed before the text is known."""

    voice: Voice
    flow: FlowState
    """Has read the prompt, where the recording is used; only ever forked."""


@dataclass(frozen=True, eq=False)
class Manner:
    """How one request uses its voice: the mode, and what the language model reads for it."""

    mode: Mode
    reads_recording: bool
    """Whether the flow goes on with the recording."""
    reads_speaker: bool
    """Whether the language model gets the speaker vector, if it reads one."""
    prompt: PromptText = NO_PROMPT
    """Transcript, instruction, or what stands for them."""


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
    return SpeechModel(
        config=config,
        backend=backend,
        reader=reader,
        noise=noise_source(config.flow, noise),
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
    num_tokens = len(voice.speech_tokens)
    expected = (config.num_frames(num_tokens), config.flow.n_mels)
    if num_tokens and voice.mel.shape != expected:
        raise InvalidRequestError(
            f"the mel of voice {voice.name!r} has the shape {voice.mel.shape}, its {num_tokens} "
            f"speech tokens need {expected} in this model",
            hint="make the voice again from its recording",
        )


def prepare_voice(
    model: SpeechModel, voice: Voice, *, reads_recording: bool = True
) -> PreparedVoice:
    """Run the flow over a voice's recording; costs as much as speaking for that long.

    Args:
        model: that will speak.
        voice: of that model.
        reads_recording: False = only the speaker vector is used, as ``Manner`` says.

    Raises:
        UnsupportedFeatureError, InvalidRequestError: see ``check_voice``.
        GenerationError: if its tokens are out of range, or the result is not finite.
    """
    check_voice(model, voice)
    prompt = flow_prompt(voice) if reads_recording else FlowPrompt(voice.speaker_embedding)
    return PreparedVoice(voice, model.flow.start(model.flow.fit_prompt(prompt)))


def flow_prompt(voice: Voice) -> FlowPrompt:
    """What the flow reads of a voice: its recording, if it has one, and the speaker vector."""
    if not len(voice.speech_tokens):
        return FlowPrompt(voice.speaker_embedding)
    return FlowPrompt(voice.speaker_embedding, voice.speech_tokens, voice.mel)


def choose_manner(model: SpeechModel, request: SynthesisRequest) -> Manner:
    """Decide how a request uses its voice.

    A saved transcript is read in the mode ``zero_shot`` only, so that no other one can speak it.

    Raises:
        UnsupportedFeatureError: if model or voice cannot do what is asked, naming what they can.
        InvalidRequestError: if the transcript or the instruction cannot be read.
    """
    instruction = _instruction(model, request)
    mode = choose_mode(model.config, request, is_told=instruction is not None)
    if mode == "zero_shot":
        prompt = model.reader.prompt_text("transcript", request.voice.transcript)
    elif instruction is not None:
        prompt = model.reader.prompt_text("instruction", instruction)
    else:
        prompt = model.reader.prompt_text("no_transcript", language=request.language)
    config = model.config
    return Manner(mode, reads_recording(config, mode), reads_speaker(config, mode), prompt)


def lm_prompt(model: SpeechModel, voice: Voice, manner: Manner, text: TokenArray) -> LMPrompt:
    """What the language model is told about one utterance; ``text`` (N,) are the ids to speak."""
    told = manner.mode in ("zero_shot", "instruct")
    return LMPrompt(
        manner.mode,
        text,
        prompt_text=manner.prompt.ids if told else NO_IDS,
        prompt_speech=voice.speech_tokens if manner.mode == "zero_shot" else NO_IDS,
        speaker=None if model.config.lm.speaker_dim is None else voice.speaker_embedding,
        prefix=NO_IDS if told else manner.prompt.ids,
        num_fixed=manner.prompt.num_fixed,
        reads_speaker=manner.reads_speaker,
    )


def _instruction(model: SpeechModel, request: SynthesisRequest) -> str | None:
    """The instruction in words, or the one that the catalogue has for the names; None = none."""
    if request.instruction is not None or not request.has_style:
        return request.instruction
    if model.config.instruct is None:
        raise UnsupportedFeatureError(
            "this model knows no emotions, dialects and styles",
            hint="leave them out, or use a model that `mynah styles -m MODEL` lists some for",
        )
    catalogue = model.config.instruct.styles
    if catalogue is None:
        raise UnsupportedFeatureError(
            "this model has no catalogue of emotions, dialects and styles",
            hint="describe in an instruction how it should speak",
        )
    found = resolve_style(
        catalogue, emotion=request.emotion, dialect=request.dialect, style=request.style
    )
    return found or None  # a neutral emotion needs no words
