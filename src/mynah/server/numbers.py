"""Numbers in requests: whoever sends a wrong one reads which, and what is allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from pydantic import Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from mynah.types import MAX_SPEED, MIN_SPEED

OUTSIDE = frozenset(
    ["greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"]
)
"""Pydantic's types of error about a number with bounds."""
_NO_NUMBER = frozenset(
    ["float_type", "float_parsing", "int_type", "int_parsing", "int_parsing_size", "int_from_float"]
)
_LONGEST = 40


@dataclass(frozen=True)
class SaysRange:
    """Marks a number with bounds, behind its ``Field``: an error names its value and all bounds.

    Pydantic alone names the bound that was missed, and for NaN any.
    """

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Wrap the check of the number."""
        inner = handler(source)
        allowed = _allowed(inner)

        def check(given: Any, validate: Any) -> Any:
            try:
                return validate(given)
            except ValidationError as error:
                raise _explained(error, given, allowed) from None

        return core_schema.no_info_wrap_validator_function(check, inner)


def _allowed(schema: Any) -> str:
    """All that a schema takes, in words."""
    low, high = schema.get("ge"), schema.get("le")
    above = schema.get("gt")
    kind = "a whole number" if schema["type"] == "int" else "a number"
    if above is not None:
        kind += f" above {above:.12g}"
    elif low is not None:
        kind += f" from {_shown(low)}"
    if high is None:
        return kind
    joint = " and up to " if above is not None else " to "
    return f"{kind}{joint}{_shown(high)}"


def _explained(error: ValidationError, given: Any, allowed: str) -> Exception:
    kind = error.errors(include_url=False, include_input=False)[0]["type"]
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if kind in OUTSIDE or (kind in _NO_NUMBER and is_number):
        facts = {"value": repr(given) if isinstance(given, float) else _shown(given)}
        facts["allowed"] = allowed
        return PydanticCustomError(
            "out_of_range", "{value} is not possible, it takes {allowed}", facts
        )
    if kind in _NO_NUMBER:  # what was sent instead may be anything: it is not repeated
        return PydanticCustomError("no_number", "it takes {allowed}", {"allowed": allowed})
    return error


def _shown(value: Any) -> str:
    """A number as it was meant; of a query it still is a string."""
    if isinstance(value, float):
        return f"{value:.12g}"
    return str(value).strip()[:_LONGEST]


Speed: TypeAlias = Annotated[float, Field(ge=MIN_SPEED, le=MAX_SPEED), SaysRange()]
"""1 = normal."""
Seed: TypeAlias = Annotated[int, Field(ge=0, le=(1 << 63) - 1), SaysRange()]
Strength: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0), SaysRange()]
"""Of an emotion."""
TopP: TypeAlias = Annotated[float, Field(gt=0.0, le=1.0), SaysRange()]
TopK: TypeAlias = Annotated[int, Field(ge=1), SaysRange()]
FrameMs: TypeAlias = Annotated[int, Field(ge=5, le=1000), SaysRange()]
"""Length of the pieces of a raw stream, in milliseconds."""
SampleRate: TypeAlias = Annotated[int, Field(ge=4000, le=192_000), SaysRange()]
"""In Hz."""
BitRate: TypeAlias = Annotated[int, Field(ge=1000, le=1_000_000), SaysRange()]
"""In bits per second."""
