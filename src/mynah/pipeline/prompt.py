"""Order of what the language model reads before it speaks, one layout for each mode."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mynah.backends.base import NO_IDS, SOS_MARKER, TASK_MARKER, Segment
from mynah.config import LMConfig
from mynah.errors import InvalidRequestError, ModelFormatError, UnsupportedFeatureError
from mynah.types import FloatArray, TokenArray

Mode = Literal["zero_shot", "cross_lingual", "instruct"]
Part = Literal["sos", "speaker", "prompt_text", "text", "task", "prompt_speech"]

LAYOUTS: dict[Mode, tuple[Part, ...]] = {
    "zero_shot": ("sos", "speaker", "prompt_text", "text", "task", "prompt_speech"),
    "cross_lingual": ("sos", "speaker", "text", "task"),
    "instruct": ("sos", "speaker", "prompt_text", "text", "task"),
}
"""``speaker`` stands for nothing in models without ``speaker_dim``."""


@dataclass(frozen=True, eq=False)
class LMPrompt:
    """What the language model is told about one utterance."""

    mode: Mode
    text: TokenArray
    """Ids of the text to speak (N,)."""
    prompt_text: TokenArray = field(default_factory=lambda: NO_IDS)
    """Ids of the transcript (zero-shot), or of the instruction with its end marker (instruct)."""
    prompt_speech: TokenArray = field(default_factory=lambda: NO_IDS)
    """Speech tokens of the prompt audio, spoken before ours (zero-shot)."""
    speaker: FloatArray | None = None
    """Speaker vector (speaker_dim,), for models that read one."""


def build_segments(prompt: LMPrompt, config: LMConfig) -> list[Segment]:
    """Lay a prompt out for ``SpeechLM.prefill``.

    A model that reads no prompt speech gets no transcript of it either.

    Raises:
        InvalidRequestError: for an empty text, or a voice that does not fit the model.
        UnsupportedFeatureError: if the model's pointer cannot read such a prompt.
        ModelFormatError: if the tokenizer's ids do not fit the model.
    """
    mode = prompt.mode
    if mode == "zero_shot" and not config.reads_prompt_speech:
        mode = "cross_lingual"
    if config.pointer is not None and mode != "cross_lingual":
        raise UnsupportedFeatureError(
            "this model follows the text by a pointer and reads no prompt speech or instruction",
            hint="use another model for instructions",
        )
    if not len(prompt.text):
        raise InvalidRequestError("there is nothing to say", hint="pass a text with words in it")
    return [segment for part in LAYOUTS[mode] for segment in _part(part, prompt, config)]


def _part(part: Part, prompt: LMPrompt, config: LMConfig) -> list[Segment]:
    match part:
        case "sos":
            return [Segment("marker", np.array([SOS_MARKER]))]
        case "task":
            return [Segment("marker", np.array([TASK_MARKER]))]
        case "speaker":
            return _speaker(prompt.speaker, config)
        case "prompt_text":
            return _text(prompt.prompt_text, config)
        case "text":
            return _text(prompt.text, config)
        case "prompt_speech":
            return _speech(prompt.prompt_speech, config)


def _text(ids: TokenArray, config: LMConfig) -> list[Segment]:
    if len(ids) and not 0 <= ids.min() <= ids.max() < config.text_vocab_size:
        raise ModelFormatError(
            f"text ids reach from {ids.min()} to {ids.max()}, "
            f"the language model knows 0 to {config.text_vocab_size - 1}",
            hint="tokenizer and weights belong to different models",
        )
    return [Segment("text", ids)] if len(ids) else []


def _speech(ids: TokenArray, config: LMConfig) -> list[Segment]:
    if len(ids) and not 0 <= ids.min() <= ids.max() < config.speech_vocab_size:
        raise InvalidRequestError(
            f"the voice's speech tokens reach from {ids.min()} to {ids.max()}, "
            f"this model knows 0 to {config.speech_vocab_size - 1}",
            hint="make the voice again with this model",
        )
    return [Segment("speech", ids)] if len(ids) else []


def _speaker(vector: FloatArray | None, config: LMConfig) -> list[Segment]:
    if config.speaker_dim is None:
        return []
    if vector is None or vector.shape != (config.speaker_dim,):
        found = "none" if vector is None else f"one of the shape {vector.shape}"
        raise InvalidRequestError(
            f"this model needs a speaker vector ({config.speaker_dim},), the voice has {found}",
            hint="make the voice again with this model",
        )
    return [Segment("speaker", NO_IDS, vector)]
