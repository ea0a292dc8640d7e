"""Names for what a released model can be converted to. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mynah.errors import InvalidRequestError

DEFAULT_PRECISION = "int8"
RL = "rl"

SIZES: Mapping[str, float] = {
    "float32": 2.1,
    "float16": 1.1,
    "bf16": 0.6,
    "int8": 0.5,
    "int4": 0.4,
}
"""Precision -> about how large the result is, compared with the release."""


def check_precision(name: str) -> str:
    """Return the name.

    Raises:
        InvalidRequestError: if there is no such precision.
    """
    if name not in SIZES:
        raise InvalidRequestError(
            f"there is no variant {name!r}", hint=f"choose one of {', '.join(SIZES)}"
        )
    return name


def parse_variants(words: Iterable[str]) -> tuple[str, bool]:
    """Read ``--variant`` options: a precision, ``rl``, or both.

    Raises:
        InvalidRequestError: for another word, or two precisions.
    """
    given = list(words)
    rl = RL in given
    precisions = [word for word in given if word != RL]
    unknown = [word for word in precisions if word not in SIZES]
    if unknown or len(precisions) > 1:
        raise InvalidRequestError(
            f"--variant {' --variant '.join(given)} is not understood",
            hint=f"give one of {', '.join(SIZES)}, and {RL} for the other language model",
        )
    return (precisions or [DEFAULT_PRECISION])[0], rl


def installed_name(model: str, precision: str = DEFAULT_PRECISION, *, rl: bool = False) -> str:
    """Name of the converted model: ``cosyvoice3-0.5b-rl-float16``."""
    parts = [model, *([RL] if rl else []), *([precision] * (precision != DEFAULT_PRECISION))]
    return "-".join(parts)
