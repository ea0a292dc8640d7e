"""Values that cross the public surface: audio, voices, requests. All frozen, all self-checking.

Nothing here reads files, runs networks or keeps state.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from mynah.errors import InvalidRequestError

FloatArray = npt.NDArray[np.float32]
TokenArray = npt.NDArray[np.int64]

MAX_TEXT_CHARACTERS = 1_000_000
MAX_INSTRUCTION_CHARACTERS = 2_000
MIN_SPEED, MAX_SPEED = 0.25, 4.0

Mode = Literal["sft", "zero_shot", "cross_lingual", "instruct"]
"""How a voice is used: its speaker vector only; going on with its recording and transcript; with
its recording but without the words; as an instruction says."""
MODES: tuple[Mode, ...] = get_args(Mode)

_NUMBERS = (int, float, np.integer, np.floating)
_NAME = re.compile(r"\w[\w-]{0,63}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")
# File names that Windows gives to devices; refused everywhere so that voices can travel.
_DEVICE_NAMES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))]
)


@dataclass(frozen=True, eq=False, slots=True)
class Audio:
    """A mono waveform.

    Args:
        samples: float32 (num_samples,), nominally in [-1, 1]; may be empty.
        sample_rate: in Hz.
        seed: of the random choices it was made with; None = no model made it.

    Raises:
        InvalidRequestError: for another shape or type, NaN or infinity, or an impossible rate.
    """

    samples: FloatArray = field(repr=False)
    sample_rate: int
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check shape, type and values."""
        samples = _float_array("samples", self.samples)
        if samples.ndim != 1:
            raise InvalidRequestError(
                f"audio samples have the shape {samples.shape}, expected (num_samples,)",
                hint="mix the channels to mono, for example samples.mean(axis=1)",
            )
        if not 1 <= self.sample_rate <= 768_000:
            raise InvalidRequestError(
                f"sample rate {self.sample_rate} Hz is not possible",
                hint="pass the rate in Hz, for example 24000",
            )
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "sample_rate", int(self.sample_rate))

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a file; the suffix chooses the format (.wav, .flac, .ogg, .opus, .mp3).

        Raises:
            OutputError: if the file cannot be written; nothing is left behind.
            UnsupportedFeatureError: for an unknown suffix.
        """
        from mynah.audio.io import write_audio

        return write_audio(path, self)


@dataclass(frozen=True, eq=False, slots=True)
class AudioChunk:
    """A piece of a stream. Pieces join without overlap; the last one may be empty."""

    audio: Audio
    index: int
    """Number of the piece, from 0."""
    start_s: float
    """Where the piece begins in the whole."""
    is_last: bool = False
    utterance: int = 0
    """Number of the utterance (about a sentence) it belongs to, from 0."""

    def __post_init__(self) -> None:
        """Check that the piece has a place."""
        if self.index < 0 or not self.start_s >= 0:
            raise InvalidRequestError(
                f"chunk {self.index} at {self.start_s} s has no place in a stream",
                hint="indexes and times count from 0",
            )


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Voice:
    """What a model needs to speak as one person: made once, reused by every request.

    Args:
        name: letters, digits, ``_`` and ``-``, at most 64; never a path.
        model_id: the weights it was made with; not portable between models.
        transcript: words of the prompt audio; "" = cross-lingual use.
        speech_tokens: int64 (T,) at the token rate; empty = the voice is a speaker vector only.
        mel: float32 (F, n_mels), natural-log mel of the same stretch; empty without tokens. How
            many frames T tokens are depends on the model, which checks it.
        speaker_embedding: float32 (D,).
        language: of the prompt audio, a BCP 47 code; "" = unknown.
        licence: under which the recording may be used.
        consent: note on the speaker's consent.
        version: of the voice's content.
        created: day of making, ISO 8601; "" = unknown.
        recording: what it was made from; with it, another model can make the voice its own.

    Raises:
        InvalidRequestError: if a value has the wrong shape, type or range.
    """

    name: str
    model_id: str
    speech_tokens: TokenArray = field(repr=False)
    mel: FloatArray = field(repr=False)
    speaker_embedding: FloatArray = field(repr=False)
    transcript: str = ""
    language: str = ""
    licence: str = ""
    consent: str = ""
    version: int = 1
    created: str = ""
    recording: Audio | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check names and shapes."""
        check_voice_name(self.name)
        if not self.model_id:
            raise InvalidRequestError(
                f"voice {self.name!r} has no model id", hint="make it with TTS.create_voice"
            )
        if self.language:
            check_language(self.language)
        tokens = np.asarray(self.speech_tokens)
        if tokens.ndim != 1 or not (np.issubdtype(tokens.dtype, np.integer) or not tokens.size):
            raise InvalidRequestError(
                f"speech tokens of voice {self.name!r} are {tokens.dtype} {tokens.shape}, "
                "expected integers (T,)",
                hint="make the voice again from its recording",
            )
        if tokens.size and tokens.min() < 0:
            raise InvalidRequestError(
                f"speech tokens of voice {self.name!r} hold {tokens.min()}",
                hint="token ids count from 0; make the voice again from its recording",
            )
        mel = _float_array("mel", self.mel)
        if mel.ndim != 2 or bool(len(mel)) != bool(len(tokens)):
            raise InvalidRequestError(
                f"mel of voice {self.name!r} has the shape {mel.shape} beside {len(tokens)} speech "
                "tokens, expected (frames, n_mels) of the same stretch",
                hint="give both, or neither for a voice that is a speaker vector only",
            )
        embedding = _float_array("speaker embedding", self.speaker_embedding)
        if embedding.ndim != 1 or not embedding.any():
            raise InvalidRequestError(
                f"speaker embedding of voice {self.name!r} has the shape {embedding.shape}, "
                "expected (D,), not all zero",
                hint="make the voice again from its recording",
            )
        object.__setattr__(self, "speech_tokens", tokens.astype(np.int64, copy=False))
        object.__setattr__(self, "mel", mel)
        object.__setattr__(self, "speaker_embedding", embedding)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SynthesisRequest:
    """Everything that decides what will be heard.

    Args:
        text: what to say, up to a million characters; None = it comes in pieces while it is
            spoken, see ``Session.feed``.
        voice: who says it.
        mode: how the voice is used; None = an instruction or a style means ``instruct``, else the
            most that voice and model allow of ``zero_shot``, ``cross_lingual`` and ``sft``.
        instruction: how to say it, in words; only some models can.
        emotion: a name from the model's catalogue (``mynah.text.styles``), instead of words.
        dialect: likewise.
        style: likewise.
        language: BCP 47 code of the text; None = found from the text.
        speed: 0.25 (slow) to 4 (fast).
        seed: of the random choices; same request and seed, same samples.
        top_p: share of probability kept when a token is drawn; None = the model's setting.
        top_k: number of tokens kept when a token is drawn; None = the model's setting.
        normalize: whether numbers, dates and symbols are written out in words first.
        split: whether a long text is cut into utterances; if not, it is spoken in one go.

    Raises:
        InvalidRequestError: if a value is empty, of the wrong type, out of range, or contradicts
            another one.
    """

    text: str | None
    voice: Voice
    mode: Mode | None = None
    instruction: str | None = None
    emotion: str | None = None
    dialect: str | None = None
    style: str | None = None
    language: str | None = None
    speed: float = 1.0
    seed: int = 0
    top_p: float | None = None
    top_k: int | None = None
    normalize: bool = True
    split: bool = True

    def __post_init__(self) -> None:
        """Check every value."""
        if self.text is not None:
            check_text("text", self.text, MAX_TEXT_CHARACTERS)
        if not isinstance(self.voice, Voice):
            raise InvalidRequestError(
                f"voice is {type(self.voice).__name__}, expected a Voice",
                hint="make one with TTS.create_voice, or pass the name to TTS.synthesize",
            )
        self._check_manner()
        if self.language is not None:
            check_language(self.language)
        check_speed(self.speed)
        object.__setattr__(self, "seed", check_seed(self.seed))
        number = isinstance(self.top_p, _NUMBERS) and not isinstance(self.top_p, bool)
        if self.top_p is not None and not (number and 0.0 < self.top_p <= 1.0):
            raise InvalidRequestError(
                f"top_p {self.top_p!r} is out of range", hint="choose above 0 and at most 1"
            )
        if self.top_k is not None and not (_is_whole(self.top_k) and self.top_k >= 1):
            raise InvalidRequestError(
                f"top_k {self.top_k!r} is out of range", hint="choose at least 1"
            )

    @property
    def has_style(self) -> bool:
        """Whether emotion, dialect or style is given."""
        return any(name is not None for name in (self.emotion, self.dialect, self.style))

    def _check_manner(self) -> None:
        """Check mode, instruction and styles, and that they agree."""
        if self.mode is not None and self.mode not in MODES:
            raise InvalidRequestError(
                f"there is no mode {self.mode!r}", hint=f"choose one of {', '.join(MODES)}"
            )
        if self.instruction is not None:
            check_text("instruction", self.instruction, MAX_INSTRUCTION_CHARACTERS)
        for what in ("emotion", "dialect", "style"):
            if (name := getattr(self, what)) is not None:
                check_text(what, name, MAX_INSTRUCTION_CHARACTERS)
        if self.instruction is not None and self.has_style:
            raise InvalidRequestError(
                "an instruction in words cannot be mixed with emotion, dialect or style",
                hint="say all of it in the instruction, or leave the instruction out",
            )
        is_told = self.instruction is not None or self.has_style
        if is_told and self.mode not in (None, "instruct"):
            raise InvalidRequestError(
                f"the mode {self.mode} takes no instruction, emotion, dialect or style",
                hint="leave the mode out, or use instruct",
            )
        if self.mode == "instruct" and not is_told:
            raise InvalidRequestError(
                "the mode instruct needs something to follow",
                hint="pass an instruction, or an emotion, dialect or style",
            )


def check_voice_name(name: str) -> str:
    """Return ``name`` if it can name a voice.

    Raises:
        InvalidRequestError: for anything that could be a path, is empty or too long.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in _DEVICE_NAMES:
        shown = name if not isinstance(name, str) or len(name) <= 80 else name[:77] + "..."
        raise InvalidRequestError(
            f"{shown!r} cannot be the name of a voice",
            hint="use letters, digits, _ and - only, at most 64, beginning with a letter or digit",
        )
    return name


def check_language(language: str) -> str:
    """Return ``language`` if it looks like a BCP 47 code.

    Raises:
        InvalidRequestError: otherwise.
    """
    if not isinstance(language, str) or not _LANGUAGE.fullmatch(language):
        raise InvalidRequestError(
            f"{language!r} is not a language code", hint="use a BCP 47 code such as en or zh-CN"
        )
    return language


def check_speed(speed: float) -> float:
    """Return ``speed`` if it is within 0.25 to 4.

    Raises:
        InvalidRequestError: otherwise, also for NaN.
    """
    number = isinstance(speed, _NUMBERS) and not isinstance(speed, bool)
    if not number or math.isnan(speed) or not MIN_SPEED <= speed <= MAX_SPEED:
        raise InvalidRequestError(
            f"speed {speed!r} is out of range",
            hint=f"choose between {MIN_SPEED} and {MAX_SPEED}; 1 is the normal speed",
        )
    return speed


def check_seed(seed: int) -> int:
    """Return ``seed``, also one of NumPy's integers, as an int.

    Raises:
        InvalidRequestError: if it is no whole number from 0.
    """
    if not _is_whole(seed) or seed < 0:
        raise InvalidRequestError(
            f"seed {seed!r} is not a whole number from 0", hint="for example seed=0"
        )
    return int(seed)


def check_text(what: str, text: str, limit: int = MAX_TEXT_CHARACTERS) -> None:
    """Refuse what is no text, holds nothing, is too long, or cannot be encoded.

    Raises:
        InvalidRequestError: naming ``what``.
    """
    if not isinstance(text, str):
        raise InvalidRequestError(
            f"{what} is {type(text).__name__}, expected a string", hint="decode bytes first"
        )
    if len(text) > limit:
        raise InvalidRequestError(
            f"{what} has {len(text)} characters, the limit is {limit}",
            hint="split it into several requests",
        )
    if not text.strip():
        raise InvalidRequestError(f"{what} is empty", hint="pass at least one word")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"{what} holds half a character (surrogate) at position {error.start}",
            hint="decode the text with the right encoding",
        ) from error


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _float_array(what: str, value: npt.ArrayLike) -> FloatArray:
    array = np.asarray(value)
    if array.size and not np.issubdtype(array.dtype, np.floating):
        raise InvalidRequestError(
            f"{what} are {array.dtype}, expected float32",
            hint="convert integers with mynah.audio.pcm.int16_to_float",
        )
    result: FloatArray = array.astype(np.float32, copy=False)
    if not np.isfinite(result).all():
        count = int(np.count_nonzero(~np.isfinite(result)))
        raise InvalidRequestError(
            f"{what} hold {count} values that are NaN or infinite",
            hint="check where they were computed",
        )
    return result
