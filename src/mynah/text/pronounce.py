"""Pronunciation of single English words: dictionary, then word formation, then letters."""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Final

from mynah.text.letter_to_sound import LetterToSound
from mynah.text.lexicon import Lexicon, Pronunciation
from mynah.text.rules import words

_VOICELESS: Final = frozenset(("P", "T", "K", "F", "TH"))
_SIBILANT: Final = frozenset(("S", "Z", "SH", "ZH", "CH", "JH"))
_DIGITS: Final = words("zero one two three four five six seven eight nine")
_CAMEL: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_VOWEL_LETTERS: Final = frozenset("aeiouy")
_PLURAL_ACRONYM: Final = re.compile(r"[A-Z]{2,}s")
# Acronyms that would otherwise be read as the word spelled alike, or as a name.
_SPELLED: Final = frozenset(
    words("US UK EU AM PM AI IT ID PC TV DJ CEO CFO CTO HR PR OS UI UX IP ATM API CD DVD USA PHD")
)


def add_s(phonemes: Pronunciation) -> Pronunciation:
    """The plural, possessive or third person of a word."""
    if phonemes[-1] in _SIBILANT:
        return (*phonemes, "IH0", "Z")
    return (*phonemes, "S" if phonemes[-1] in _VOICELESS else "Z")


def add_ed(phonemes: Pronunciation) -> Pronunciation:
    """The past tense of a regular verb."""
    if phonemes[-1] in {"T", "D"}:
        return (*phonemes, "IH0", "D")
    return (*phonemes, "T" if phonemes[-1] in _VOICELESS | {"S", "SH", "CH"} else "D")


def spell(letters: str, lexicon: Lexicon) -> Pronunciation:
    """Letter and digit names; every other character is silent."""
    phonemes: list[str] = []
    for character in letters.lower():
        name = _DIGITS[int(character)] if character in "0123456789" else character
        phonemes.extend(("EY1",) if name == "a" else lexicon.first(name) or ())
    return tuple(phonemes)


def fold(word: str) -> str:
    """The word in plain Latin letters: accents dropped, typographic apostrophes straightened."""
    word = word.replace("\u2019", "'").replace("ß", "ss").replace("æ", "ae").replace("ø", "o")
    decomposed = unicodedata.normalize("NFKD", word)
    return "".join(c for c in decomposed if not unicodedata.combining(c))


class Pronouncer:
    """Pronounces any English word. Immutable apart from a bounded cache; thread-safe."""

    def __init__(self, lexicon: Lexicon) -> None:
        """Use this dictionary."""
        self.lexicon = lexicon
        self._cached = functools.lru_cache(maxsize=4096)(self._pronounce)

    def known(self, word: str) -> Pronunciation | None:
        """Pronunciation by dictionary and regular endings; None if the word is unknown."""
        word = fold(word).lower()
        direct = self.lexicon.first(word)
        if direct is not None:
            return direct
        return self._possessive(word) or self._inflected(word)

    def __call__(self, word: str) -> Pronunciation:
        """Pronunciation of one word without spaces; empty if nothing in it can be spoken."""
        return self._cached(fold(word))

    def _pronounce(self, word: str) -> Pronunciation:
        if word.upper() in _SPELLED and word[1:] != word[1:].lower():
            return spell(word, self.lexicon)
        known = self.known(word)
        if known is not None:
            return known
        if _PLURAL_ACRONYM.fullmatch(word):
            return add_s(self(word[:-1]))
        parts = re.findall(r"[A-Za-z]+(?:'[A-Za-z]+)*|\d", word)
        if len(parts) > 1 or (parts and parts[0] != word):
            return tuple(phoneme for part in parts for phoneme in self(part))
        camel = _CAMEL.findall(word)
        if len(camel) > 1 and "'" not in word:
            return tuple(phoneme for part in camel for phoneme in self(part))
        return self._unknown(word)

    def _possessive(self, word: str) -> Pronunciation | None:
        if word.endswith("'s"):
            base = self.known(word[:-2])
            return add_s(base) if base else None
        return self.known(word[:-1]) if word.endswith("'") else None

    def _inflected(self, word: str) -> Pronunciation | None:
        """Regular inflections of dictionary words."""
        first = self.lexicon.first
        if word.endswith("s") and len(word) > 3 and (base := first(word[:-1])):
            return add_s(base)
        if word.endswith("es") and (base := first(word[:-2])) and base[-1] in _SIBILANT:
            return add_s(base)
        if word.endswith("ies") and (base := first(word[:-3] + "y")):
            return add_s(base)
        if word.endswith("ed") and len(word) > 4 and (base := self._stem(word[:-2])):
            return add_ed(base)
        if word.endswith("ing") and len(word) > 5 and (base := self._stem(word[:-3])):
            return (*base, "IH0", "NG")
        if word.endswith("ly") and len(word) > 4 and (base := first(word[:-2])):
            return (*base, "L", "IY0") if base[-1] != "L" else (*base, "IY0")
        if word.endswith("ness") and (base := first(word[:-4])):
            return (*base, "N", "AH0", "S")
        if word.endswith("less") and (base := first(word[:-4])):
            return (*base, "L", "AH0", "S")
        return None

    def _stem(self, stem: str) -> Pronunciation | None:
        """A verb before -ed or -ing: walk, bak(e), stop(p)."""
        base = self.lexicon.first(stem + "e") or self.lexicon.first(stem)
        if base is None and len(stem) > 3 and stem[-1] == stem[-2]:
            base = self.lexicon.first(stem[:-1])
        return base

    def _unknown(self, word: str) -> Pronunciation:
        lower = word.lower()
        acronym = word.isupper() and len(word) <= 3
        if acronym or not _VOWEL_LETTERS & set(lower):
            return spell(word, self.lexicon)
        return LetterToSound.english()(lower)
