"""Text to speech with cloned voices. Importing this loads nothing heavy and configures nothing."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mynah.api import TTS
    from mynah.errors import (
        BackendError,
        BackendUnavailableError,
        CancelledError,
        ConversionError,
        DeadlineError,
        GenerationError,
        GenerationLimitError,
        InvalidRequestError,
        MarkupError,
        ModelDownloadError,
        ModelError,
        ModelFormatError,
        ModelNotFoundError,
        OfflineError,
        OutOfMemoryError,
        OutputError,
        OverloadedError,
        PromptAudioError,
        SynthesisError,
        UnknownVoiceError,
        UnsupportedFeatureError,
    )
    from mynah.text.lexicons import UserLexicon
    from mynah.types import Audio, AudioChunk, SynthesisRequest, Voice

__version__ = "0.1.0"

__all__ = [
    "TTS",
    "Audio",
    "AudioChunk",
    "BackendError",
    "BackendUnavailableError",
    "CancelledError",
    "ConversionError",
    "DeadlineError",
    "GenerationError",
    "GenerationLimitError",
    "InvalidRequestError",
    "MarkupError",
    "ModelDownloadError",
    "ModelError",
    "ModelFormatError",
    "ModelNotFoundError",
    "OfflineError",
    "OutOfMemoryError",
    "OutputError",
    "OverloadedError",
    "PromptAudioError",
    "SynthesisError",
    "SynthesisRequest",
    "UnknownVoiceError",
    "UnsupportedFeatureError",
    "UserLexicon",
    "Voice",
    "__version__",
]

_ELSEWHERE = {
    "TTS": "mynah.api",
    "Audio": "mynah.types",
    "AudioChunk": "mynah.types",
    "SynthesisRequest": "mynah.types",
    "UserLexicon": "mynah.text.lexicons",
    "Voice": "mynah.types",
}

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_ELSEWHERE.get(name, "mynah.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names too, loaded or not."""
    return sorted({*globals(), *__all__})
