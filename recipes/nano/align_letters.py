"""Align the letters of words with chunks of zero to two phonemes (hard EM)."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

Chunk = tuple[str, ...]
Alignment = list[Chunk]
MAX_CHUNK = 2
FLOOR = math.log(1e-7)
VOWEL_LETTERS = frozenset("aeiouy")


def _first_guess(letter: str, chunk: Chunk) -> float:
    """Log score before anything is known: vowels with vowels, consonants with consonants."""
    if not chunk:
        return -2.0
    vowels = [phoneme[-1] in "01" for phoneme in chunk]
    agrees = sum(vowel == (letter in VOWEL_LETTERS) for vowel in vowels)
    return -1.0 * len(chunk) - 2.0 * (len(chunk) - agrees)


class Aligner:
    """Scores of (letter, chunk) pairs, improved by repeated best alignment."""

    def __init__(self) -> None:
        """Start from the vowel/consonant guess."""
        self._scores: dict[tuple[str, Chunk], float] = {}

    def _score(self, letter: str, chunk: Chunk) -> float:
        if not self._scores:
            return _first_guess(letter, chunk)
        return self._scores.get((letter, chunk), FLOOR)

    def align(self, word: str, phonemes: Sequence[str]) -> Alignment | None:
        """Best chunks, one per letter; None if the word has too few letters."""
        letters, length = len(word), len(phonemes)
        best = [[-math.inf] * (length + 1) for _ in range(letters + 1)]
        back = [[0] * (length + 1) for _ in range(letters + 1)]
        best[0][0] = 0.0
        for i, letter in enumerate(word):
            for j in range(length + 1):
                if best[i][j] == -math.inf:
                    continue
                for size in range(min(MAX_CHUNK, length - j) + 1):
                    score = best[i][j] + self._score(letter, tuple(phonemes[j : j + size]))
                    if score > best[i + 1][j + size]:
                        best[i + 1][j + size] = score
                        back[i + 1][j + size] = size
        if best[letters][length] == -math.inf:
            return None
        chunks: Alignment = []
        position = length
        for i in range(letters, 0, -1):
            size = back[i][position]
            chunks.append(tuple(phonemes[position - size : position]))
            position -= size
        return chunks[::-1]

    def improve(self, alignments: Iterable[tuple[str, Alignment]]) -> None:
        """Re-estimate the scores from aligned words."""
        counts: Counter[tuple[str, Chunk]] = Counter()
        totals: dict[str, int] = defaultdict(int)
        for word, chunks in alignments:
            for letter, chunk in zip(word, chunks, strict=True):
                counts[letter, chunk] += 1
                totals[letter] += 1
        self._scores = {
            (letter, chunk): math.log(count / totals[letter])
            for (letter, chunk), count in counts.items()
        }


def align_all(
    words: Sequence[tuple[str, Sequence[str]]], rounds: int = 5, rare: int = 10
) -> dict[str, Alignment]:
    """Align a lexicon; words that need a chunk seen fewer than ``rare`` times are left out."""
    aligner = Aligner()
    aligned: list[tuple[str, Alignment]] = []
    for _ in range(rounds):
        candidates = ((word, aligner.align(word, phonemes)) for word, phonemes in words)
        aligned = [(word, chunks) for word, chunks in candidates if chunks is not None]
        aligner.improve(aligned)
    uses = Counter(pair for word, chunks in aligned for pair in zip(word, chunks, strict=True))
    return {
        word: chunks
        for word, chunks in aligned
        if all(uses[pair] >= rare for pair in zip(word, chunks, strict=True))
    }
