"""English text to phoneme symbols.

The text is expected to be normalised (numbers written out, see ``normalize``); digits that are
still there are read one by one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mynah.text.homographs import Context, reading
from mynah.text.lexicon import Lexicon, Pronunciation
from mynah.text.pronounce import Pronouncer, fold
from mynah.text.symbols import END, START, WORD_INITIAL, is_english_vowel, pause_symbol

_TOKEN: Final = re.compile(
    r"(?P<word>'?[^\W_]+(?:['\u2019][^\W_]+)*(?:(?<=[sS])['\u2019](?![^\W_]))?)|(?P<other>\S)"
)
_PAUSE_STRENGTH: Final = {",": 0, ".": 1, "!": 2, "?": 3}

# Where the dictionary lists another form first: the forms that the training speech has.
_USUAL: Final[Mapping[str, str]] = MappingProxyType(
    {"and": "AE1 N D", "with": "W IH1 DH", "were": "W ER0", "her": "HH ER0", "into": "IH0 N T UW1"}
)


@dataclass(frozen=True)
class Word:
    """A word of the text; ``phonemes`` are set when the caller prescribes the pronunciation."""

    text: str
    phonemes: Pronunciation | None = None


@dataclass(frozen=True)
class Pause:
    """A pause symbol."""

    symbol: str


def tokenize(text: str) -> list[Word | Pause]:
    """Words and pauses of a text; quotes and other silent characters are dropped."""
    tokens: list[Word | Pause] = []
    for match in _TOKEN.finditer(text):
        if match["word"]:
            tokens.append(Word(match["word"].strip("'") if match["word"] == "'" else match["word"]))
            continue
        symbol = pause_symbol(match["other"])
        spaced = text[max(0, match.start() - 1)] == " " or match.start() == 0
        if match["other"] == "-" and spaced:  # a dash, not a hyphen inside a word
            symbol = ","
        if symbol is not None:
            tokens.append(Pause(symbol))
    return tokens


@functools.cache
def _pronouncer() -> Pronouncer:
    return Pronouncer(Lexicon.english())


def unknown_words(text: str) -> list[str]:
    """Words whose pronunciation is neither in the dictionary nor regularly derived from it."""
    pronouncer = _pronouncer()
    words = [token.text for token in tokenize(text) if isinstance(token, Word)]
    return [word for word in words if not pronouncer.known(word.strip("'"))]


def phonemize_english(text: str) -> list[str]:
    """Symbols of a normalised English text.

    Returns:
        ``<s>``, phonemes (the first one of each word with the word-initial mark), pauses, ``</s>``.
    """
    return [START, *phonemize_tokens(tokenize(text)), END]


def phonemize_tokens(tokens: Iterable[Word | Pause]) -> list[str]:
    """Symbols of words and pauses, without ``<s>`` and ``</s>``; no pause comes first or twice."""
    merged = _merge_pauses(tokens)
    pronunciations = _pronounce_all(merged)
    symbols: list[str] = []
    for token, phonemes in zip(merged, pronunciations, strict=True):
        if isinstance(token, Pause):
            symbols.append(token.symbol)
        elif phonemes:
            symbols.append(WORD_INITIAL + phonemes[0])
            symbols.extend(phonemes[1:])
    return symbols


def _merge_pauses(tokens: Iterable[Word | Pause]) -> list[Word | Pause]:
    merged: list[Word | Pause] = []
    for token in tokens:
        if isinstance(token, Word):
            merged.append(token)
        elif merged and isinstance(last := merged[-1], Pause):
            if _PAUSE_STRENGTH[token.symbol] > _PAUSE_STRENGTH[last.symbol]:
                merged[-1] = token
        elif merged:
            merged.append(token)
    return merged


def _pronounce_all(tokens: list[Word | Pause]) -> list[Pronunciation]:
    """Pronunciations of the tokens (empty for pauses), from last to first: ``the`` looks ahead."""
    result: list[Pronunciation] = []
    contexts = _contexts(tokens)
    following: Pronunciation = ()
    for token, context in zip(reversed(tokens), reversed(contexts), strict=True):
        if isinstance(token, Pause):
            following = ()
        elif token.phonemes is not None:
            following = token.phonemes
        else:
            following = _pronounce(token.text, context, following)
        result.append(following)
    return result[::-1]


def _contexts(tokens: list[Word | Pause]) -> list[Context]:
    contexts: list[Context] = []
    sentence: list[str] = []
    lowered = [fold(t.text).lower() if isinstance(t, Word) else "" for t in tokens]
    for index, token in enumerate(tokens):
        if isinstance(token, Pause):
            if token.symbol != ",":
                sentence = []
            contexts.append(Context(""))
            continue
        contexts.append(
            Context(
                word=lowered[index],
                before=lowered[index - 1] if index else "",
                after=lowered[index + 1] if index + 1 < len(tokens) else "",
                capitalised=bool(sentence) and token.text[0].isupper(),
                earlier=tuple(sentence[-16:]),
            )
        )
        sentence.append(lowered[index])
    return contexts


def _pronounce(text: str, context: Context, following: Pronunciation) -> Pronunciation:
    """One word; ``following`` are the phonemes of the next word, empty before a pause."""
    word = context.word
    before_vowel = bool(following) and is_english_vowel(following[0])
    letter = context.capitalised and text == "A"
    if word == "a":
        return ("EY1",) if letter or not following else ("AH0",)
    if word == "the":
        return ("DH", "IY0") if before_vowel else ("DH", "AH0")
    if word == "to":
        if not following:
            return ("T", "UW1")
        return ("T", "UW0") if before_vowel else ("T", "AH0")
    if word in _USUAL:
        return tuple(_USUAL[word].split())
    pronouncer = _pronouncer()
    chosen = reading(context, pronouncer.lexicon)
    return chosen or pronouncer(text if word in pronouncer.lexicon else text.strip("'"))
