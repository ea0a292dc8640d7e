"""Word error rate: what a recogniser heard against what should have been said.

Both sides are brought to the same plain words first: lower case, numbers in words, no punctuation
and no apostrophes (``its`` and ``it's`` sound alike).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mynah.text.numbers_en import cardinal, decimal, ordinal

_ORDINAL = re.compile(r"\b(\d+)(?:st|nd|rd|th)\b")
_DECIMAL = re.compile(r"\d*\.\d+")
_CARDINAL = re.compile(r"\d+(?:,\d{3})*")
_SYMBOLS = {"&": " and ", "%": " percent ", "+": " plus ", "@": " at "}


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Edit operations between a reference and a hypothesis; instances add up."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    num_words: int = 0
    """Words of the reference."""

    @property
    def count(self) -> int:
        """All errors together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference word; may exceed 1. Zero for an empty reference heard as nothing."""
        return self.count / max(self.num_words, 1)

    def __add__(self, other: WordErrors) -> WordErrors:
        return WordErrors(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.num_words + other.num_words,
        )


def normalise(text: str) -> list[str]:
    """Split English text into the plain words that are compared.

    Example:
        >>> normalise("It's 21 - isn't it?")
        ['its', 'twenty', 'one', 'isnt', 'it']
    """
    plain = (
        unicodedata.normalize("NFKD", text).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    )
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    for symbol, word in _SYMBOLS.items():
        plain = plain.replace(symbol, word)
    plain = _ORDINAL.sub(lambda found: f" {ordinal(found[1])} ", plain)
    plain = _DECIMAL.sub(lambda found: f" {decimal(found[0])} ", plain)
    plain = _CARDINAL.sub(lambda found: f" {cardinal(found[0])} ", plain)
    return re.sub(r"[^a-z]+", " ", plain.replace("'", "")).split()


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> WordErrors:
    """Count the fewest edits that turn ``reference`` into ``hypothesis`` (Levenshtein)."""
    # One row of (cost, substitutions, deletions, insertions); tuples compare by cost first.
    row = [(j, 0, 0, j) for j in range(len(hypothesis) + 1)]
    for i, word in enumerate(reference, 1):
        diagonal, row[0] = row[0], (i, 0, i, 0)
        for j, heard in enumerate(hypothesis, 1):
            wrong = int(word != heard)
            best = min(
                _moved(diagonal, wrong, wrong, 0, 0),
                _moved(row[j], 1, 0, 1, 0),
                _moved(row[j - 1], 1, 0, 0, 1),
            )
            diagonal, row[j] = row[j], best
    _, substitutions, deletions, insertions = row[-1]
    return WordErrors(substitutions, deletions, insertions, len(reference))


def word_errors(reference: str, hypothesis: str) -> WordErrors:
    """Compare two texts after ``normalise``."""
    return align(normalise(reference), normalise(hypothesis))


def total(errors: Iterable[WordErrors]) -> WordErrors:
    """Add up the errors of several sentences: long sentences weigh more, as is usual."""
    return sum(errors, WordErrors())


def _moved(
    start: tuple[int, int, int, int], cost: int, substituted: int, deleted: int, inserted: int
) -> tuple[int, int, int, int]:
    return (
        start[0] + cost,
        start[1] + substituted,
        start[2] + deleted,
        start[3] + inserted,
    )
