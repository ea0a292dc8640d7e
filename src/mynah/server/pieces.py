"""What is said when: the audio of a speech with the text that is spoken in it.

The models say how much of an utterance is spoken, not when each word begins. So all times inside
a piece are estimates: its characters are spread evenly over it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from mynah.server.spoken import SpokenStream
from mynah.types import FloatArray


@dataclass(frozen=True, eq=False)
class Piece:
    """Some audio; pieces join without overlap."""

    samples: FloatArray = field(repr=False)
    """float32 (num_samples,); may be empty at the end."""
    start_s: float
    duration_s: float
    utterance: int
    """Number of the utterance (about a sentence), from 0."""
    text: str = field(default="", repr=False)
    """What is spoken in it, by estimate; the pieces' texts join to the whole text."""


@dataclass(frozen=True)
class Spoken:
    """A character or word, and its estimated place."""

    text: str = field(repr=False)
    start_s: float
    end_s: float


async def pieces_of(spoken: SpokenStream) -> AsyncIterator[Piece]:
    """Take all chunks of a speech; raises what it raises."""
    said = ""
    async for chunk in spoken:
        # the estimate may step back a little; what was said stays said
        now = spoken.spoken_text
        new = now[len(said) :] if now.startswith(said) else ""
        said += new
        audio = chunk.audio
        yield Piece(audio.samples, chunk.start_s, audio.duration_s, chunk.utterance, new)


def characters(piece: Piece) -> list[Spoken]:
    """Spread a piece's characters over its time."""
    count = len(piece.text)
    edges = [piece.start_s + piece.duration_s * i / max(count, 1) for i in range(count + 1)]
    return [Spoken(text, edges[i], edges[i + 1]) for i, text in enumerate(piece.text)]


def words(piece: Piece) -> list[Spoken]:
    """Join the characters to words: between blanks, or one by one where a script has none.

    Without the punctuation around them, which may be in another piece.
    """
    found: list[Spoken] = []
    is_open = False
    for part in characters(piece):
        if part.text.isspace():
            is_open = False
        elif is_open and not _stands_alone(part.text):
            found[-1] = Spoken(found[-1].text + part.text, found[-1].start_s, part.end_s)
        else:
            found.append(part)
            is_open = not _stands_alone(part.text)
    bare = [Spoken(_bare(word.text), word.start_s, word.end_s) for word in found]
    return [word for word in bare if word.text]


def _bare(word: str) -> str:
    kept = [i for i, character in enumerate(word) if character.isalnum()]
    return word[kept[0] : kept[-1] + 1] if kept else ""


def _stands_alone(character: str) -> bool:
    """Whether it is a word of a script without blanks (ideographs, kana); not punctuation."""
    return 0x3040 <= ord(character) <= 0x9FFF and character.isalpha()
