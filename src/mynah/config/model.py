"""Configuration of a whole model: everything but its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from mynah.config.flow import FlowConfig
from mynah.config.language_model import LMConfig, SamplingConfig
from mynah.config.part import Part
from mynah.config.vocoder import MelConfig, VocoderConfig
from mynah.errors import ModelFormatError


class PromptTemplates(Part):
    """What the language model reads around the user's words. Markers are never the user's to write.

    ``{text}`` stands for the user's words; only control markers around it become special tokens.
    """

    transcript: str = "{text}"
    """Transcript of the prompt audio."""
    no_transcript: str = ""
    """Read before the text where there is no transcript and no instruction."""
    instruction: str = "{text}<|endofprompt|>"


class InstructConfig(Part):
    """How a model is used when it follows an instruction."""

    speaker_in_lm: bool = True
    """Whether a language model that reads a speaker vector gets it (CosyVoice 1: no)."""
    prompt_in_flow: bool = True
    """Whether the flow continues the voice's recording (CosyVoice 1: speaker vector only)."""
    styles: str | None = None
    """Name of the tested catalogue of emotions, dialects and styles, see ``mynah.text.styles``."""


class ModelConfig(Part):
    """Everything about a model except its weights."""

    format_version: Literal[1] = 1
    model_id: str
    family: Literal["cosyvoice1", "cosyvoice2", "cosyvoice3", "nano"]
    """For people to read; no code asks for it."""
    languages: tuple[str, ...]
    """Languages the weights can speak, as BCP 47 codes."""
    text_frontend: Literal["qwen2-bpe", "whisper-bpe", "phonemes"]
    special_tokens: tuple[str, ...] | None = None
    """Special tokens behind the text vocabulary, in the order of their ids; None = those of
    CosyVoice 2 (qwen2-bpe), those of Whisper large-v3 (whisper-bpe), or none (phonemes)."""
    templates: PromptTemplates = Field(default_factory=PromptTemplates)
    token_rate: int = 25
    sample_rate: int = 24000
    lm: LMConfig
    flow: FlowConfig
    vocoder: VocoderConfig
    mel: MelConfig = Field(default_factory=MelConfig)
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    instruct: InstructConfig | None = None
    """None = the model follows no instructions."""
    default_voice: str | None = None

    @property
    def mel_rate(self) -> float:
        """Mel frames per second."""
        return self.mel.sample_rate / self.mel.hop_length

    @property
    def samples_per_token(self) -> float:
        """Output samples for one speech token; not whole for CosyVoice 1."""
        return self.sample_rate / self.token_rate

    def num_frames(self, num_tokens: int) -> int:
        """Mel frames that so many tokens become (CosyVoice 1 rounds down)."""
        if self.flow.token_mel_ratio is not None:
            return num_tokens * self.flow.token_mel_ratio
        # This order of rounding is the official one: whole numbers would differ from 3 minutes on.
        return int(num_tokens / self.token_rate * self.mel.sample_rate / self.mel.hop_length)

    @model_validator(mode="after")
    def _check_rates(self) -> Self:
        if self.vocoder.samples_per_frame != self.mel.hop_length:
            raise ValueError(
                f"the vocoder makes {self.vocoder.samples_per_frame} samples per frame, "
                f"the mel hop is {self.mel.hop_length}"
            )
        if self.mel.sample_rate != self.sample_rate:
            raise ValueError(
                f"the vocoder speaks at {self.sample_rate} Hz, the mel is of {self.mel.sample_rate}"
            )
        ratio = self.flow.token_mel_ratio
        if ratio is not None and ratio * self.token_rate * self.mel.hop_length != self.sample_rate:
            raise ValueError(
                f"{self.token_rate} tokens of {ratio} frames do not make a second of mel"
            )
        if self.lm.speech_vocab_size != self.flow.speech_vocab_size:
            raise ValueError("language model and flow disagree about the number of speech tokens")
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and check ``config.json``.

        Raises:
            ModelFormatError: if the file is no JSON, or a value is missing, unknown or wrong.
        """
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, ValidationError) as error:
            raise ModelFormatError(
                f"cannot read the model configuration {path}: {error}",
                hint="download or convert the model again; config.json must not be edited",
            ) from error
