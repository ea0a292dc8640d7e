"""A session run to its end, without threads: the reference that everything else must equal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mynah.errors import GenerationLimitError
from mynah.pipeline.session import Session
from mynah.types import Audio, AudioChunk


def run(session: Session) -> Iterator[AudioChunk]:
    """Yield the audio of a session as it is made; closing the iterator cancels it.

    Raises:
        SynthesisError: see ``Session.advance``. Where an utterance did not end by itself, all
            audio comes first, then ``GenerationLimitError``.
    """
    try:
        while not session.is_over:
            chunk = session.advance()
            if chunk is not None:
                yield chunk
    finally:
        session.close()


def synthesize(session: Session) -> Audio:
    """Return the whole audio of a session.

    Raises:
        SynthesisError: see ``Session.advance``. A ``GenerationLimitError`` carries the audio that
            was made in ``audio``.
    """
    chunks: list[AudioChunk] = []
    try:
        for chunk in run(session):
            chunks.append(chunk)
    except GenerationLimitError as error:
        if chunks:
            error.audio = join(chunks)
        raise
    return join(chunks)


def join(chunks: list[AudioChunk]) -> Audio:
    """Put the pieces of a stream together; at least one."""
    samples = np.concatenate([chunk.audio.samples for chunk in chunks])
    return Audio(samples, chunks[0].audio.sample_rate)
