"""Names that clients of hosted services have built in, and what stands for them here."""

from __future__ import annotations

import re

from mynah.api import TTS
from mynah.errors import ModelNotFoundError
from mynah.server.runtime import Runtime


def own_model(runtime: Runtime, name: str | None, hosted: re.Pattern[str]) -> str:
    """Name of our model that a client means; ``hosted`` names stand for the default one.

    Raises:
        ModelNotFoundError: if there is none of that name.
    """
    names = runtime.model_names()
    if name in names:
        return str(name)
    if not name or hosted.fullmatch(name):
        return runtime.default_model
    raise ModelNotFoundError(
        f"there is no model {name[:80]!r} here", hint=f"choose one of {', '.join(names)}"
    )


def own_voice(
    runtime: Runtime, tts: TTS, name: str, hosted: re.Pattern[str] | None = None
) -> str | None:
    """Name of our voice that a client means; None = the model's own. Reads the voices' folder.

    A voice of that name that is here counts before an alias of the operator's, and that before
    ``hosted`` names, which stand for the model's own voice. Any other name stays as it is.
    """
    aliases = runtime.settings.voice_aliases
    is_hosted = hosted is not None and hosted.fullmatch(name) is not None
    if (name not in aliases and not is_hosted) or name in tts.voices.names():
        return name
    return aliases.get(name) or None
