"""Requests as CosyVoice's own clients make them, over HTTP and gRPC, as parameters of a speech."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mynah.api import TTS
from mynah.audio import pcm
from mynah.compat.markers import open_text, strip_instruction, strip_transcript
from mynah.config import PromptTemplates
from mynah.errors import InvalidRequestError
from mynah.server.parameters import Lexicon, SpeechParameters, Timeout, validated
from mynah.types import Mode, check_text

Call = Literal["sft", "zero_shot", "cross_lingual", "instruct", "instruct2"]
"""The calls of the official servers; both instruct calls are one mode here."""

_STARTER = "You are a helpful assistant."
_MARKED = PromptTemplates(
    transcript=f"{_STARTER}<|endofprompt|>{{text}}",
    no_transcript=f"{_STARTER}<|endofprompt|>",
    instruction=f"{_STARTER} {{text}}<|endofprompt|>",
)
"""What clients of the third generation write by hand, also to a server of another model."""

PROMPT_RATE = 16000
"""Of bare samples that come as a prompt, in Hz."""


@dataclass(frozen=True)
class OfficialRequest:
    """What a client sent; "" and b"" = not given."""

    call: Call
    tts_text: str = field(repr=False)
    spk_id: str = ""
    prompt_text: str = field(default="", repr=False)
    prompt_audio: bytes = field(default=b"", repr=False)
    """A sound file."""
    instruct_text: str = field(default="", repr=False)
    speed: float = 1.0
    seed: int | None = None
    language: str = ""
    model: str | None = None
    lexicon: Lexicon | None = field(default=None, repr=False)
    timeout_s: Timeout | None = None


def parameters_of(tts: TTS, request: OfficialRequest) -> SpeechParameters:
    """Check a request and translate it; the markers that clients write by hand are taken off.

    Raises:
        InvalidRequestError: if something is missing or out of range.
    """
    check_text("tts_text", request.tts_text)
    templates = tts.config.templates
    tagged, text = open_text(request.tts_text, _MARKED)
    language, text = open_text(text, templates)
    assert isinstance(text, str)  # as it was given
    if not request.spk_id and not request.prompt_audio and request.call != "instruct":
        wanted = "spk_id" if request.call == "sft" else "a prompt recording, or spk_id"
        raise InvalidRequestError(
            f"the call {request.call} says not who speaks", hint=f"send {wanted}"
        )
    instruction: str | None = None
    if request.call in ("instruct", "instruct2"):
        check_text("instruct_text", request.instruct_text)
        instruction = strip_instruction(
            strip_instruction(request.instruct_text, _MARKED), templates
        )
    is_named = bool(request.spk_id)
    values = {
        "text": text,
        "model": request.model,
        "voice": request.spk_id or None,
        "reference_audio": None if is_named else request.prompt_audio or None,
        "reference_text": "" if is_named else _transcript(tts, request),
        "mode": _mode(tts, request.call),
        "instruction": instruction,
        "language": request.language or tagged or language,
        "speed": request.speed,
        "seed": request.seed,
        "lexicon": request.lexicon,
        "timeout_s": request.timeout_s,
    }
    return validated(SpeechParameters, values)


def sound_file(prompt: bytes) -> bytes:
    """Put a header before bare 16-bit samples at 16 kHz; a file that has one stays as it is."""
    if not prompt or prompt[:4] == b"RIFF":
        return prompt
    whole = len(prompt) // pcm.BYTES_PER_SAMPLE
    return pcm.wav_header(PROMPT_RATE, whole) + prompt[: whole * pcm.BYTES_PER_SAMPLE]


def _transcript(tts: TTS, request: OfficialRequest) -> str:
    if request.call != "zero_shot":
        return ""
    words = strip_transcript(request.prompt_text, _MARKED)
    words = strip_transcript(words, tts.config.templates).strip()
    if not words:
        raise InvalidRequestError(
            "prompt_text holds no words",
            hint="send the words of the recording, or use the cross-lingual call",
        )
    return words


def _mode(tts: TTS, call: Call) -> Mode | None:
    if call == "instruct2":
        return "instruct"
    # Where the language model never reads recordings (nano), the engine chooses.
    if call == "zero_shot" and not tts.config.lm.reads_prompt_speech:
        return None
    return call
