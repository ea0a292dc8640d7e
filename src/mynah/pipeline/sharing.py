"""Streams that share calls of networks: what goes wrong with one leaves the others alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from mynah.backends.base import FloatArray
from mynah.errors import GenerationError

Made: TypeAlias = FloatArray | GenerationError
"""What one of several streams gets from a shared call: its result, or what is wrong with it."""


def unwrapped(made: Made) -> FloatArray:
    """The result of a stream; raises what is wrong with it."""
    if isinstance(made, GenerationError):
        raise made
    return made


@dataclass(eq=False)
class Share:
    """The part of one stream in a shared call."""

    error: GenerationError | None = field(default=None, init=False)
    """What is wrong with this stream; it takes no part any more then."""

    @contextmanager
    def keeping_error(self) -> Iterator[None]:
        """Context whose ``GenerationError`` is this stream's own."""
        try:
            yield
        except GenerationError as error:
            self.error = error
