"""What a client asks for: what to say, in which manner, and what it gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mynah.audio.encoders import FORMATS, StreamEncoder, open_encoder
from mynah.errors import InvalidRequestError
from mynah.server.numbers import FrameMs, SaysRange, Speed, Strength, TopK, TopP
from mynah.types import Mode

M = TypeVar("M", bound=BaseModel)

NEUTRAL = "neutral"
MIN_STRENGTH = 0.25
"""The models know an emotion or do not: below this strength it is left out."""

_Word: TypeAlias = Annotated[str, Field(min_length=1, max_length=100)]
_Pronunciation: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]
Lexicon: TypeAlias = Annotated[
    dict[_Word, _Pronunciation],
    Field(
        max_length=1000,
        examples=[{"nginx": '"engine x"'}],
        description="Words with their pronunciation, before those of the voice and of the server.",
    ),
]
"""As for ``mynah.text.lexicons.UserLexicon``, within limits."""
Timeout: TypeAlias = Annotated[
    float,
    Field(
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description="Seconds after which the request is given up with the error deadline.",
    ),
    SaysRange(),
]


class Manner(BaseModel):
    """How something is said, by whom: everything but the text."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )

    model: str | None = None
    """Name of a model; None = the server's default."""
    voice: str | None = None
    """Name of a voice, never a path; None = the model's own."""
    reference_audio: bytes | None = Field(default=None, repr=False)
    """A sound file of the voice instead of a name."""
    reference_text: str = Field(default="", repr=False)
    """The words of that recording; "" = unknown."""
    mode: Mode | None = None
    instruction: str | None = Field(default=None, repr=False)
    emotion: str | None = None
    emotion_strength: Strength = 1.0
    dialect: str | None = None
    style: str | None = None
    language: str | None = None
    speed: Speed = 1.0
    seed: Annotated[int, Field(ge=0), SaysRange()] | None = None
    normalize: bool = True
    top_p: TopP | None = None
    top_k: TopK | None = None
    lexicon: Lexicon | None = Field(default=None, repr=False)

    @property
    def strength_used(self) -> float | None:
        """What became of ``emotion_strength``: 0 or 1; None = no emotion was asked for."""
        if self.emotion is None:
            return None
        return float(self.emotion_strength >= MIN_STRENGTH)


class SpeechParameters(Manner):
    """One whole request."""

    text: str = Field(repr=False)
    split: bool = True
    timeout_s: Timeout | None = None
    """From the request on; of a job from when it is begun."""


class Encoding(BaseModel):
    """What the listener gets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = "wav"
    """A key of ``mynah.audio.encoders.FORMATS``."""
    sample_rate: int | None = None
    """In Hz; None = the model's, or the nearest that the format can hold."""
    bit_rate: int | None = None
    """In bits per second, for mp3, opus and aac."""
    frame_ms: FrameMs | None = None
    """Length of the pieces of pcm, mulaw and alaw; None = as the server is set."""

    @property
    def content_type(self) -> str:
        """MIME type."""
        return FORMATS[self.format].content_type

    def open(self, source_rate: int) -> StreamEncoder:
        """Begin a stream; see ``mynah.audio.encoders.open_encoder`` for what it raises."""
        return open_encoder(
            self.format, source_rate, sample_rate=self.sample_rate, bit_rate=self.bit_rate
        )


def validated(kind: type[M], values: Mapping[str, Any]) -> M:
    """Make a model of what a client sent.

    Raises:
        InvalidRequestError: naming the first field that is wrong.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:80] or "the message"
        raise InvalidRequestError(
            f"{where}: {first['msg']}", hint="see docs/reference for what each field takes"
        ) from None  # the cause would show what the user wrote
