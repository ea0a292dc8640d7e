"""DashScope's socket protocol, in which the hosted CosyVoice is called: what its messages say.

Names, ranges and defaults are those of its public documents on client and server events, and of
what its Python SDK sends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from starlette.responses import JSONResponse, Response

from mynah.errors import InvalidRequestError, UnsupportedFeatureError
from mynah.server.errors import Problem
from mynah.server.numbers import SaysRange, Seed
from mynah.server.parameters import Encoding, Manner, validated

HOSTED_MODEL = re.compile(r"cosyvoice-v[\d.]+([-_]\w+)*|qwen-audio-[\d.]+-tts([-_]\w+)*", re.ASCII)
"""Names of the service's models."""
HOSTED_VOICE = re.compile(r"loo?ng[a-z]+([-_]v[\d.]+)?", re.ASCII)
"""Names of the service's own voices: longanyang, longxiaochun_v2, loongstella."""

DEFAULT_RATE = 22_050
_OPUS_RATES = {22_050: 24_000, 44_100: 48_000}
"""Rates that the service takes and Opus has not."""
_LEAST_KBPS, _MOST_KBPS = 6, 510
_ENOUGH_KBPS = 256  # for the one channel of speech
_QUOTES = dict.fromkeys(map(ord, '"\u201c\u201d'), " ")
_STANDARD_VOLUME = 50
_SSML = "<speak"

RUN, CONTINUE = "run-task", "continue-task"
STARTED, GENERATED = "task-started", "result-generated"
FINISHED, FAILED = "task-finished", "task-failed"
CANCEL = "cancel"
"""Value of ``directive``: finish without the rest of the audio."""

_CODES = {
    "model_not_found": "ModelNotFound",
    "unauthorized": "InvalidApiKey",
    "forbidden": "AccessDenied",
    "request_timeout": "RequestTimeOut",
    "deadline": "RequestTimeOut",
}
_CODES_BY_STATUS = {429: "Throttling", 503: "Throttling"}


_Factor: TypeAlias = Annotated[float, Field(ge=0.5, le=2.0), SaysRange()]


class _Message(BaseModel):
    """Fields that are null count as absent; those that nobody knows are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value is not None}


class Header(_Message):
    """What every message begins with."""

    action: Literal["run-task", "continue-task", "finish-task"]
    task_id: str = Field(min_length=1, max_length=100)
    streaming: str = "duplex"
    """``out`` = the whole text comes with ``run-task``."""


class Input(_Message):
    """What is to be spoken."""

    text: str = Field(default="", repr=False)
    flush: bool = False
    directive: str = ""


class Payload(_Message):
    """The rest of a message."""

    task_group: Literal["audio"] = "audio"
    task: Literal["tts"] = "tts"
    function: Literal["SpeechSynthesizer"] = "SpeechSynthesizer"
    model: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict, repr=False)
    input: Input = Input()


class Message(_Message):
    """Anything that a client sends."""

    header: Header
    payload: Payload = Payload()


class HotFix(_Message):
    """Pronunciations (pinyin) and other words to read instead."""

    pronunciation: list[dict[str, str]] = Field(default_factory=list, max_length=1000)
    replace: list[dict[str, str]] = Field(default_factory=list, max_length=1000)

    @property
    def lexicon(self) -> dict[str, str]:
        """The same as a lexicon."""
        said = {word: sounds for entry in self.pronunciation for word, sounds in entry.items()}
        read = {word: other for entry in self.replace for word, other in entry.items()}
        return said | {word: f'"{_unquoted(other)}"' for word, other in read.items()}

    @field_validator("replace")
    @classmethod
    def _with_words(cls, replace: list[dict[str, str]]) -> list[dict[str, str]]:
        for entry in replace:
            for word, other in entry.items():
                if not _unquoted(other):
                    raise ValueError(f"there is nothing to read instead of {word[:40]!r}")
        return replace


class Parameters(_Message):
    """How a task is spoken. Parameters of the service that are not here have no effect."""

    text_type: Literal["PlainText", "SSML"] = "PlainText"
    voice: str = ""
    format: Literal["pcm", "wav", "mp3", "opus", "Default"] = "mp3"
    sample_rate: Literal[0, 8000, 16000, 22050, 24000, 44100, 48000] = 0
    """In Hz; 0 = the service's default."""
    volume: Annotated[float, Field(ge=0, le=100), SaysRange()] = _STANDARD_VOLUME
    rate: _Factor = 1.0
    pitch: _Factor = 1.0
    bit_rate: Annotated[int, Field(ge=0), SaysRange()] = 32
    """Of Opus, in 1000 bits per second: 6 to 510, of which 256 are used at most.

    Without effect on other formats.
    """
    seed: Seed = 0
    enable_ssml: bool = False
    word_timestamp_enabled: bool = False
    language_hints: list[str] = Field(default_factory=list, max_length=100)
    """Only the first one counts."""
    instruction: str = Field(default="", repr=False)
    hot_fix: HotFix = HotFix()

    @field_validator("bit_rate")
    @classmethod
    def _of_opus(cls, bit_rate: int, others: ValidationInfo) -> int:
        if others.data.get("format") == "opus" and not _LEAST_KBPS <= bit_rate <= _MOST_KBPS:
            raise ValueError(f"opus takes {_LEAST_KBPS} to {_MOST_KBPS} kbit/s")
        return bit_rate

    @property
    def gain(self) -> float:
        """Factor of the samples: linear, 50 is 1."""
        return self.volume / _STANDARD_VOLUME

    @property
    def encoding(self) -> Encoding:
        """What the client gets."""
        name = "mp3" if self.format == "Default" else self.format
        rate = self.sample_rate or DEFAULT_RATE
        if name != "opus":
            return Encoding(format=name, sample_rate=rate)
        return Encoding(
            format=name,
            sample_rate=_OPUS_RATES.get(rate, rate),
            bit_rate=1000 * min(self.bit_rate, _ENOUGH_KBPS),
        )

    def manner(self, model: str, voice: str | None) -> Manner:
        """How it is spoken.

        The pitch is changed by playing the samples faster or slower, so the speech is made slower
        or faster by as much: the client hears the rate that it asked for.

        Raises:
            InvalidRequestError: if ``hot_fix`` has too many or too long entries.
        """
        values = {
            "model": model,
            "voice": voice,
            "instruction": self.instruction or None,
            "language": self.language_hints[0] if self.language_hints else None,
            "speed": self.rate / self.pitch,
            "seed": self.seed,
            "lexicon": self.hot_fix.lexicon or None,
        }
        return validated(Manner, values)

    @property
    def allows_ssml(self) -> bool:
        """Whether the text may be SSML; SDKs say so of every plain text, too."""
        return self.enable_ssml or self.text_type == "SSML"


class SsmlGuard:
    """Refuses SSML at the beginning of a text, however that is cut, and of any later piece of it.

    What may become a ``<speak`` at the beginning of the text is held back: five characters at most.
    """

    def __init__(self, parameters: Parameters) -> None:
        """Let everything through where SSML was not allowed: then ``<speak`` is a word."""
        self._is_on = parameters.allows_ssml
        self._held = ""
        self._has_begun = False

    def feed(self, piece: str) -> str:
        """Return what of the text is certain now.

        Raises:
            UnsupportedFeatureError: if it is SSML, naming what can be sent instead.
        """
        if not self._is_on:
            return piece
        text = self._held + piece
        start = text.lstrip()
        if start.startswith(_SSML):
            raise UnsupportedFeatureError(
                "SSML is not understood here",
                hint="send plain text; instruction, hot_fix, rate, pitch and volume say how",
            )
        self._held = "" if self._has_begun or not _SSML.startswith(start) else start
        self._has_begun = self._has_begun or not _SSML.startswith(start)
        return text.removesuffix(self._held)

    def rest(self) -> str:
        """Return what is held back: nothing follows that would make SSML of it."""
        held, self._held = self._held, ""
        self._has_begun = self._has_begun or bool(held)
        return held


def task_id_of(message: Mapping[str, Any]) -> str:
    """The task that a message is about, even if the message is wrong; "" = it does not say."""
    header = message.get("header")
    name = header.get("task_id") if isinstance(header, dict) else None
    return name if isinstance(name, str) and len(name) <= 100 else ""


def event(
    kind: str,
    task_id: str,
    payload: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A message to the client."""
    header = {"task_id": task_id, "event": kind, "attributes": attributes or {}}
    return {"header": header, "payload": payload or {}}


def failure(problem: Problem, task_id: str) -> dict[str, Any]:
    """The event that tells a client what is wrong; our own code is in its attributes."""
    attributes: dict[str, Any] = {"error": problem.code, "status": problem.status}
    if (retry_after := problem.headers.get("Retry-After")) is not None:
        attributes["retry_after_s"] = int(retry_after)
    message = event(FAILED, task_id, attributes=attributes)
    message["header"] |= {"error_code": code_of(problem), "error_message": _explained(problem)}
    return message


def code_of(problem: Problem) -> str:
    """Their word for one of our errors."""
    if problem.code in _CODES:
        return _CODES[problem.code]
    otherwise = "InternalError" if problem.status >= 500 else "InvalidParameter"
    return _CODES_BY_STATUS.get(problem.status, otherwise)


def render_dashscope(problem: Problem, request_id: str) -> Response:
    """Their form of an error before there is a socket."""
    body = {"code": code_of(problem), "message": _explained(problem), "request_id": request_id}
    return JSONResponse(body, problem.status, dict(problem.headers))


def count_characters(text: str) -> int:
    """Length as the service counts it: ideographs are two, everything else is one."""
    return len(text) + sum(_is_ideograph(character) for character in text)


def out_of_turn(action: str, task_id: str) -> InvalidRequestError:
    """What is wrong with a message about a task that there is not."""
    return InvalidRequestError(
        f"{action} is about the task {task_id[:40]!r}, which was not begun",
        hint=f"send {RUN}, and use its task_id",
    )


def _is_ideograph(character: str) -> bool:
    place = ord(character)
    return 0x3400 <= place <= 0x9FFF or 0xF900 <= place <= 0xFAFF or 0x20000 <= place <= 0x3FFFF


def _unquoted(text: str) -> str:
    """Without the marks that would end a respelling; they make no sound."""
    return text.translate(_QUOTES).strip()


def _explained(problem: Problem) -> str:
    return f"{problem.message} ({problem.solution})" if problem.solution else problem.message
