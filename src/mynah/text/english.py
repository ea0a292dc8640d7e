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

# Words that carry no stress inside a phrase; before a pause the dictionary form is used.
_WEAK: Final[Mapping[str, str]] = MappingProxyType(
    {
        "of": "AH0 V", "and": "AH0 N D", "for": "F AO0 R", "an": "AH0 N", "was": "W AH0 Z",
        "from": "F R AH0 M", "can": "K AE0 N", "are": "AA0 R", "or": "AO0 R", "have": "HH AE0 V",
        "has": "HH AE0 Z", "had": "HH AE0 D", "will": "W IH0 L", "would": "W UH0 D",
        "been": "B IH0 N", "were": "W ER0", "than": "DH AE0 N", "as": "AE0 Z", "at": "AE0 T",
        "is": "IH0 Z", "but": "B AH0 T", "by": "B AY0", "with": "W IH0 DH", "in": "IH0 N",
        "on": "AA0 N", "his": "HH IH0 Z", "your": "Y AO0 R", "he": "HH IY0", "she": "SH IY0",
        "we": "W IY0", "they": "DH EY0", "their": "DH EH0 R", "my": "M AY0", "its": "IH0 T S",
        "our": "AW0 ER0", "be": "B IY0", "could": "K UH0 D", "should": "SH UH0 D",
        "must": "M AH0 S T", "that": "DH AE0 T", "if": "IH0 F", "i": "AY0", "into": "IH0 N T UW0",
        "am": "AE0 M", "who": "HH UW0",
    }
)  # fmt: skip
_ALWAYS_WEAK: Final[Mapping[str, str]] = MappingProxyType(
    {
        "it": "IH0 T", "him": "HH IH0 M", "her": "HH ER0", "them": "DH EH0 M", "us": "AH0 S",
        "me": "M IY0", "you": "Y UW0",
    }
)  # fmt: skip


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
    weak = _ALWAYS_WEAK.get(word) or (_WEAK.get(word) if following else None)
    if weak is not None and not (text.isupper() and len(text) > 1):
        return tuple(weak.split())
    pronouncer = _pronouncer()
    chosen = reading(context, pronouncer.lexicon)
    return chosen or pronouncer(text if word in pronouncer.lexicon else text.strip("'"))
