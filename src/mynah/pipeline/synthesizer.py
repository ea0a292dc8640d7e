"""A session run to its end by its caller: the reference that everything else must equal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np

from mynah.errors import DeadlineError, GenerationLimitError
from mynah.types import Audio, AudioChunk


class Speaking(Protocol):
    """What can be run: a ``Session``, or a ``Conversion``."""

    @property
    def seed(self) -> int:
        """Seed of the random choices."""

    on_change: Callable[[], None] | None
    """Called, from the caller's thread, when text came or it was cancelled: whoever advances it
    can sleep until then."""
    spare_s: Callable[[], float] | None
    """Asked for how many seconds later work may be done now; see ``Session``."""

    @property
    def num_tokens(self) -> int:
        """Speech tokens made so far."""

    @property
    def is_cancelled(self) -> bool:
        """Whether the next step is the last."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""

    @property
    def takes_text(self) -> bool:
        """Whether its text comes in pieces."""

    @property
    def needs_text(self) -> bool:
        """Whether ``advance`` can do nothing before text comes."""

    @property
    def progress(self) -> float:
        """Share of the work that was done, 0 to 1."""

    def text_until(self, seconds: float) -> str:
        """What was spoken in the first seconds of the audio."""

    def feed(self, text: str) -> None:
        """Append a piece of text."""

    def flush(self) -> None:
        """Speak all that was fed."""

    def end_text(self) -> None:
        """Say that no more text comes."""

    def advance(self) -> AudioChunk | None:
        """Make one bounded step."""

    def cancel(self) -> None:
        """Let the next step be the last; from any thread."""

    def close(self) -> None:
        """Free everything; only for the thread that advances."""


def run(
    session: Speaking,
    supply: Callable[[], None] | None = None,
    check: Callable[[], None] | None = None,
) -> Iterator[AudioChunk]:
    """Yield the audio of a session as it is made; closing the iterator cancels it.

    Args:
        session: not yet over.
        supply: called whenever the session needs text; gives it some, or its end, or cancels it.
        check: called before every step; what it raises ends the session.

    Raises:
        SynthesisError: see ``Session.advance``. Where an utterance did not end by itself, all
            audio comes first, then ``GenerationLimitError``.
        ValueError: if the session needs text and there is no ``supply``.
    """
    if session.spare_s is None:
        session.spare_s = lambda: math.inf  # whoever waits here waits for the end
    try:
        while not session.is_over:
            if check is not None:
                check()
            if session.needs_text:
                if supply is None:
                    raise ValueError("the session waits for text, and nobody supplies it")
                supply()
            chunk = session.advance()
            if chunk is not None:
                yield chunk
    finally:
        session.close()


def synthesize(
    session: Speaking,
    text: Iterable[str] | None = None,
    check: Callable[[], None] | None = None,
) -> Audio:
    """Return the whole audio of a session.

    Args:
        session: not yet over.
        text: the pieces of its text, for a session without a text of its own.
        check: see ``run``.

    Raises:
        SynthesisError: see ``Session.advance`` and ``collect``.
        Exception: whatever the iterator of the pieces raises.
    """
    return collect(run(session, None if text is None else supplier(session, text), check))


def collect(chunks: Iterable[AudioChunk]) -> Audio:
    """Take all chunks and put them together.

    Raises:
        GenerationLimitError, DeadlineError: with the audio that was made in ``audio``.
        Exception: whatever else the iterable raises.
    """
    made: list[AudioChunk] = []
    try:
        for chunk in chunks:
            made.append(chunk)
    except (GenerationLimitError, DeadlineError) as error:
        if made:
            error.audio = join(made)
        raise
    return join(made)


def supplier(session: Speaking, text: Iterable[str]) -> Callable[[], None]:
    """Make a ``supply`` for ``run`` that takes one piece whenever it is called."""
    pieces = iter(text)

    def supply() -> None:
        try:
            piece = next(pieces)
        except StopIteration:
            session.end_text()
        else:
            session.feed(piece)

    return supply


def join(chunks: list[AudioChunk]) -> Audio:
    """Put the pieces of a stream together; at least one."""
    samples = np.concatenate([chunk.audio.samples for chunk in chunks])
    return Audio(samples, chunks[0].audio.sample_rate, chunks[0].audio.seed)
