"""The English pronunciation dictionary that ships with the package.

The file holds one line per word: the word, then each pronunciation, separated by tabs; a phoneme is
one character (``CODES``). It is derived from the CMU Pronouncing Dictionary, see
``data/lexicon_en.LICENSE``.
"""

from __future__ import annotations

import functools
import gzip
import importlib.resources
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from mynah.text.symbols import ENGLISH_PHONEMES

Pronunciation = tuple[str, ...]
"""English phonemes without word-initial marks, for example ``("K", "AE1", "T")``."""

CODES: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqr"
_PHONEME_OF_CODE: Final = dict(zip(CODES, ENGLISH_PHONEMES, strict=True))
_CODE_OF_PHONEME: Final = {phoneme: code for code, phoneme in _PHONEME_OF_CODE.items()}


def encode_entry(word: str, pronunciations: Iterable[Sequence[str]]) -> str:
    """One line of the lexicon file."""
    codes = ("".join(_CODE_OF_PHONEME[p] for p in phonemes) for phonemes in pronunciations)
    return "\t".join((word, *codes))


def _decode(codes: str) -> Pronunciation:
    return tuple(_PHONEME_OF_CODE[code] for code in codes)


class Lexicon:
    """Pronunciations by lower-case word. Immutable; safe to share between threads."""

    def __init__(self, entries: Mapping[str, str]) -> None:
        """Take encoded entries: word -> pronunciations separated by tabs."""
        self._entries = entries

    @classmethod
    @functools.cache
    def english(cls) -> Lexicon:
        """The lexicon of the package, read at the first call (about 0.1 s, 126,000 words)."""
        data = importlib.resources.files("mynah.text") / "data" / "lexicon_en.txt.gz"
        lines = gzip.decompress(data.read_bytes()).decode("ascii").splitlines()
        return cls(dict(line.split("\t", 1) for line in lines))

    def __contains__(self, word: str) -> bool:
        """Whether a lower-case word is in the dictionary."""
        return word in self._entries

    def __len__(self) -> int:
        """Number of words."""
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        """All words, in alphabetical order."""
        return iter(self._entries)

    def pronunciations(self, word: str) -> list[Pronunciation]:
        """All pronunciations of a lower-case word, the usual one first; empty if unknown."""
        entry = self._entries.get(word)
        return [_decode(codes) for codes in entry.split("\t")] if entry else []

    def first(self, word: str) -> Pronunciation | None:
        """The usual pronunciation; None if the word is unknown."""
        entry = self._entries.get(word)
        return _decode(entry.split("\t", 1)[0]) if entry else None
