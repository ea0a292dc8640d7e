"""From what a caller passes to something that can be run."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any

from mynah.api.options import SpeakOptions, Text
from mynah.api.prepared import PreparedVoices
from mynah.audio.io import AudioSource, read_audio
from mynah.backends.base import SpeechTokenizer
from mynah.pipeline.conversion import Conversion
from mynah.pipeline.model import PreparedVoice, SpeechModel, check_voice
from mynah.pipeline.session import Session
from mynah.types import Audio, SynthesisRequest, Voice, check_text

_LONGEST_SOURCE_S = 3600.0
_NOT_OF_THE_REQUEST = ("lexicon", "timeout_s")  # in the model's reader, and on the task


def split_text(text: Text) -> tuple[str | None, Iterable[str] | None]:
    """A text as it is, or its pieces.

    Raises:
        InvalidRequestError: if it is neither, or an impossible text.
    """
    if not isinstance(text, str | bytes | bytearray) and isinstance(text, Iterable):
        return None, text
    check_text("text", text)
    return text, None


def open_session(
    model: SpeechModel,
    text: str | None,
    voice: Voice,
    prepared: PreparedVoices,
    *,
    whole: bool,
    options: SpeakOptions,
) -> Session:
    """Check a request; nothing is computed yet. ``text`` = None: it will be fed.

    Raises:
        InvalidRequestError: if the request cannot be served.
    """
    values: dict[str, Any] = {**options, "seed": _chosen(options.get("seed"))}
    for name in _NOT_OF_THE_REQUEST:
        values.pop(name, None)
    request = SynthesisRequest(text=text, voice=voice, **values)
    check_voice(model, voice)
    session: Session

    def prepare() -> PreparedVoice:  # at the first step: then the session knows what it uses
        return prepared.get(model, voice, reads_recording=session.manner.reads_recording)

    session = Session(model, request, prepare, whole=whole)
    return session


def open_conversion(
    model: SpeechModel,
    audio: Audio | AudioSource,
    voice: Voice,
    prepared: PreparedVoices,
    tokenizer: Callable[[], SpeechTokenizer],
    *,
    speed: float,
    seed: int | None,
    whole: bool,
) -> Conversion:
    """Read and check a recording; nothing is computed yet.

    Raises:
        PromptAudioError: if the recording cannot be read or is too short.
        InvalidRequestError: if the request cannot be served.
    """
    if not isinstance(audio, Audio):
        audio = read_audio(audio, max_duration_s=_LONGEST_SOURCE_S)
    check_voice(model, voice)
    recorded = len(voice.speech_tokens) > 0
    return Conversion(
        model,
        audio,
        lambda: prepared.get(model, voice, reads_recording=recorded),
        tokenizer,
        speed=speed,
        seed=_chosen(seed),
        whole=whole,
    )


def _chosen(seed: int | None) -> int:
    return secrets.randbits(31) if seed is None else seed
