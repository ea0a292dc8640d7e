"""Order of what the language model reads before it speaks, one layout for each mode."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mynah.backends.base import NO_IDS, SOS_MARKER, TASK_MARKER, Segment
from mynah.config import LMConfig
from mynah.errors import InvalidRequestError, ModelFormatError, UnsupportedFeatureError
from mynah.types import FloatArray, Mode, TokenArray

__all__ = [
    "LAYOUTS",
    "LMPrompt",
    "Mode",
    "build_segments",
    "opening",
    "speech_segments",
    "text_segments",
]

Part = Literal["sos", "speaker", "prefix", "prompt_text", "text", "task", "prompt_speech"]

LAYOUTS: dict[Mode, tuple[Part, ...]] = {
    "sft": ("sos", "speaker", "prefix", "text", "task"),
    "zero_shot": ("sos", "speaker", "prompt_text", "text", "task", "prompt_speech"),
    "cross_lingual": ("sos", "speaker", "prefix", "text", "task"),
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
    prefix: TokenArray = field(default_factory=lambda: NO_IDS)
    """Ids of what the model reads before a text that has no transcript or instruction."""
    num_fixed: int = 0
    """How many ids of ``prompt_text`` (or ``prefix``) are read before anything else, where text and
    speech take turns: those up to the last marker ``end_of_prompt``."""
    reads_speaker: bool = True
    """False = a model that reads a speaker vector goes without (CosyVoice 1, instruct)."""


def build_segments(prompt: LMPrompt, config: LMConfig) -> list[Segment]:
    """Lay a prompt out for ``SpeechLM.prefill``.

    A model that reads no prompt speech gets no transcript of it either.

    Raises:
        InvalidRequestError: for an empty text, or a voice that does not fit the model.
        UnsupportedFeatureError: if the model's pointer cannot read such a prompt.
        ModelFormatError: if the tokenizer's ids do not fit the model.
    """
    layout = _layout(prompt, config)
    if not len(prompt.text):
        raise InvalidRequestError("there is nothing to say", hint="pass a text with words in it")
    return [segment for part in layout for segment in _part(part, prompt, config)]


def opening(prompt: LMPrompt, config: LMConfig) -> tuple[list[Segment], TokenArray]:
    """What is read before the text can come in pieces, and the words still to be read first.

    The prompt's text up to its last marker ``end_of_prompt`` is read at once: speech must not
    begin in the middle of an instruction. What follows it are words of the transcript, which take
    their turns with the prompt's speech like the text after them.

    Raises:
        InvalidRequestError, UnsupportedFeatureError, ModelFormatError: see ``build_segments``.
    """
    layout = _layout(prompt, config)
    text = prompt.prompt_text if "prompt_text" in layout else prompt.prefix
    fixed = prompt.num_fixed
    head = _part("sos", prompt, config) + _part("speaker", prompt, config)
    return head + text_segments(text[:fixed], config), text[fixed:]


def _layout(prompt: LMPrompt, config: LMConfig) -> tuple[Part, ...]:
    mode = prompt.mode
    if mode == "zero_shot" and not config.reads_prompt_speech:
        mode = "cross_lingual"
    if config.pointer is not None and "prompt_text" in LAYOUTS[mode]:
        raise UnsupportedFeatureError(
            "this model follows the text by a pointer and reads no prompt speech or instruction",
            hint="use another model for instructions",
        )
    return LAYOUTS[mode]


def _part(part: Part, prompt: LMPrompt, config: LMConfig) -> list[Segment]:
    match part:
        case "sos":
            return [Segment("marker", np.array([SOS_MARKER]))]
        case "task":
            return [Segment("marker", np.array([TASK_MARKER]))]
        case "speaker":
            return _speaker(prompt.speaker, config) if prompt.reads_speaker else []
        case "prefix":
            return text_segments(prompt.prefix, config)
        case "prompt_text":
            return text_segments(prompt.prompt_text, config)
        case "text":
            return text_segments(prompt.text, config)
        case "prompt_speech":
            return speech_segments(prompt.prompt_speech, config)


def text_segments(ids: TokenArray, config: LMConfig) -> list[Segment]:
    """Text ids (N,) as input; nothing for none.

    Raises:
        ModelFormatError: if an id is out of range.
    """
    if len(ids) and not 0 <= ids.min() <= ids.max() < config.text_vocab_size:
        raise ModelFormatError(
            f"text ids reach from {ids.min()} to {ids.max()}, "
            f"the language model knows 0 to {config.text_vocab_size - 1}",
            hint="tokenizer and weights belong to different models",
        )
    return [Segment("text", ids)] if len(ids) else []


def speech_segments(ids: TokenArray, config: LMConfig) -> list[Segment]:
    """Speech tokens (N,) of a voice as input; nothing for none.

    Raises:
        InvalidRequestError: if a token is out of range.
    """
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
