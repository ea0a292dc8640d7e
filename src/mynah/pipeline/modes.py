"""What each mode takes of a voice, and which modes a voice and a model allow."""

from __future__ import annotations

from mynah.config import ModelConfig
from mynah.errors import UnsupportedFeatureError
from mynah.types import MODES, Mode, SynthesisRequest, Voice


def choose_mode(config: ModelConfig, request: SynthesisRequest, *, is_told: bool) -> Mode:
    """Return the mode of a request, found from what there is where it names none.

    ``is_told``: whether there is an instruction, or a style that means one.

    Raises:
        UnsupportedFeatureError: if model or voice cannot do it, naming what they can.
    """
    voice = request.voice
    wanted: Mode
    if is_told:
        wanted = "instruct"
    elif request.mode is not None and not request.has_style:
        wanted = request.mode
    else:
        return next(mode for mode in _PREFERENCE if not _obstacle(config, voice, mode))
    if obstacle := _obstacle(config, voice, wanted):
        possible = [mode for mode in MODES if not _obstacle(config, voice, mode)]
        raise UnsupportedFeatureError(
            f"voice {voice.name!r} cannot be used in the mode {wanted}: {obstacle}",
            hint=f"possible here: {', '.join(possible)}",
        )
    return wanted


def reads_recording(config: ModelConfig, mode: Mode) -> bool:
    """Whether the flow goes on with the voice's recording in this mode."""
    if mode == "instruct" and config.instruct is not None:
        return config.instruct.prompt_in_flow
    return mode != "sft"


def reads_speaker(config: ModelConfig, mode: Mode) -> bool:
    """Whether a language model that reads a speaker vector gets it in this mode."""
    return mode != "instruct" or config.instruct is None or config.instruct.speaker_in_lm


_PREFERENCE: tuple[Mode, ...] = ("zero_shot", "cross_lingual", "sft")


def _obstacle(config: ModelConfig, voice: Voice, mode: Mode) -> str:
    """Why a mode is impossible; "" = it is possible."""
    match mode:
        case "instruct" if config.instruct is None:
            return "this model takes no instruction"
        case "zero_shot" if not config.lm.reads_prompt_speech:
            return "this model's language model reads no recordings"
        case "zero_shot" if not voice.transcript.strip():
            return "it has no transcript"
        case "zero_shot" | "cross_lingual" if not len(voice.speech_tokens):
            return "it is a speaker vector without a recording"
        case _:
            return ""
