"""Errors that a session can end with."""

from __future__ import annotations

from collections.abc import Sequence

from mynah.errors import GenerationError, GenerationLimitError, InvalidRequestError

_MOST_SHOWN = 60


def nothing_to_say() -> InvalidRequestError:
    """The text has no words."""
    return InvalidRequestError("there is nothing to say", hint="pass at least one word")


def no_audio() -> GenerationError:
    """Not one sample came out."""
    return GenerationError(
        "the model made no audio for this text", hint="try another seed or a longer text"
    )


def cut_off(texts: Sequence[str], num_utterances: int) -> GenerationLimitError:
    """Utterances with these texts, at least one, did not end by themselves."""
    first = " ".join(texts[0].split())
    shown = first if len(first) <= _MOST_SHOWN else first[: _MOST_SHOWN - 3] + "..."
    return GenerationLimitError(
        f"{len(texts)} of {num_utterances} utterances did not end within the length limit, "
        f"first {shown!r}",
        hint="the audio up to the limit was kept; try another seed or a shorter text",
    )
