"""What can be passed to everything that speaks."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable
from typing import TypeAlias, TypedDict

from mynah.api.lexicons import LexiconLike
from mynah.types import Mode, Voice

VoiceLike: TypeAlias = Voice | str | os.PathLike[str] | None
"""A voice, its name, the path of a voice file or of a recording; None = the model's own voice."""

Text: TypeAlias = str | Iterable[str]
"""A text, or its pieces of any size, taken as the speech needs them."""

AsyncText: TypeAlias = Text | AsyncIterable[str]
"""The same, or pieces that come asynchronously."""


class SpeakOptions(TypedDict, total=False):
    """Keyword arguments of everything that speaks; see ``TTS.synthesize``."""

    mode: Mode | None
    instruction: str | None
    emotion: str | None
    dialect: str | None
    style: str | None
    language: str | None
    speed: float
    seed: int | None
    top_p: float | None
    top_k: int | None
    normalize: bool
    split: bool
    lexicon: LexiconLike
    timeout_s: float | None
