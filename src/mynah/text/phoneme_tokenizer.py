"""Text to the phoneme symbols of the embedded model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from mynah.errors import MarkupError, UnsupportedFeatureError
from mynah.text.clean import clean
from mynah.text.english import Pause, Word, phonemize_tokens, tokenize
from mynah.text.languages import Language, language_spans, main_language
from mynah.text.lexicons import NO_LEXICON, UserLexicon
from mynah.text.mandarin import syllable_symbols, tokenize_mandarin
from mynah.text.markup import Hint, PlainText, parse_markup
from mynah.text.normalize import normalize as normalize_text
from mynah.text.readings import HELP, Phones, Pinyin, parse_reading
from mynah.text.symbols import (
    END,
    ENGLISH_PHONEMES,
    ENGLISH_VOWELS,
    NUM_SYMBOLS,
    PAUSE_IDS,
    START,
    SYMBOL_IDS,
)
from mynah.text.tokenizer import BoolArray, TokenArray, nothing_to_speak

_LANGUAGE_NAMES: Final = {"zh": "Chinese", "ja": "Japanese", "ko": "Korean", "en": "Latin"}


class PhonemeTokenizer:
    """Phoneme symbols (``mynah.text.symbols``) for the embedded model."""

    tags: tuple[str, ...] = ()
    vocab_size = NUM_SYMBOLS

    def __init__(self, languages: Sequence[str] = ("en",)) -> None:
        """Take the languages that the model speaks: ``en``, ``zh`` or both."""
        self.languages = tuple(languages)

    def check(self, text: str, lexicon: UserLexicon = NO_LEXICON, *, closed: bool = True) -> None:
        """Refuse markup that is wrong. See ``TextTokenizer``."""
        for piece in lexicon.apply(parse_markup(text, self.tags, hints=True, closed=closed)):
            if isinstance(piece, Hint):
                self._hinted(piece)

    def encode(
        self,
        text: str,
        language: Language | None = None,
        *,
        normalize: bool = True,
        lexicon: UserLexicon = NO_LEXICON,
        whole: bool = True,
    ) -> TokenArray:
        """Ids (T,): silence, phonemes and pauses, silence. See ``TextTokenizer``.

        Phonemes are made of words, so what is not normalised is read sign by sign. A part of an
        utterance is read like a whole one.
        """
        symbols = self.symbols(text, language, normalize=normalize, lexicon=lexicon)
        return np.array([SYMBOL_IDS[symbol] for symbol in symbols], np.int64)

    def symbols(
        self,
        text: str,
        language: Language | None = None,
        *,
        normalize: bool = True,
        lexicon: UserLexicon = NO_LEXICON,
    ) -> list[str]:
        """The symbols behind ``encode``, for looking at."""
        pieces = lexicon.apply(parse_markup(text, self.tags, hints=True, closed=False))
        words = "".join(p.text if isinstance(p, PlainText) else "" for p in pieces)
        language = language or main_language(words)
        if language == "other":
            language = "en"  # Latin letters are read as English
        tokens: list[Word | Pause] = []
        for piece in pieces:
            if isinstance(piece, PlainText):
                spoken = normalize_text(piece.text, language) if normalize else clean(piece.text)
                tokens += self._tokens(spoken)
            elif isinstance(piece, Hint):
                tokens += self._hinted(piece)
        symbols = phonemize_tokens(tokens)
        if not symbols:
            raise nothing_to_speak(text)
        if SYMBOL_IDS[symbols[-1]] not in PAUSE_IDS:
            symbols.append(".")
        return [START, *symbols, END]

    def _tokens(self, text: str) -> list[Word | Pause]:
        tokens: list[Word | Pause] = []
        for span in language_spans(text):
            if span.language not in self.languages and any(c.isalpha() for c in span.text):
                self._refuse(span.language, span.text)
            tokens += tokenize_mandarin(span.text) if span.language == "zh" else tokenize(span.text)
        return tokens

    def _hinted(self, hint: Hint) -> list[Word | Pause]:
        """The words of a pronunciation hint.

        Raises:
            MarkupError: if it is no pronunciation.
        """
        reading = parse_reading(hint)
        if isinstance(reading, Pinyin):
            return [self._syllable(hint, str(syllable)) for syllable in reading.syllables]
        if isinstance(reading, Phones):
            return [Word(hint.word, _arpabet(reading))]
        return self._tokens(normalize_text(reading.text, main_language(reading.text)))

    def _syllable(self, hint: Hint, syllable: str) -> Word:
        symbols = syllable_symbols(syllable)
        if symbols is None:
            raise MarkupError(
                f"the model has no symbols for {syllable!r} of {hint.word!r} "
                f"(character {hint.position})",
                hint=HELP,
                position=hint.position,
            )
        return Word(hint.word, symbols)

    def _refuse(self, language: str, text: str) -> None:
        characters = "".join(dict.fromkeys(c for c in text if c.isalpha()))[:10]
        script = _LANGUAGE_NAMES.get(language)
        speaks = " and ".join(_LANGUAGE_NAMES.get(name, name) for name in self.languages)
        raise UnsupportedFeatureError(
            f"this model cannot say {characters!r}{f' ({script} script)' if script else ''}",
            hint=f"it reads {speaks} letters; the CosyVoice2 and CosyVoice3 models speak "
            "Chinese, Japanese, Korean and more",
        )

    def is_pause(self, ids: TokenArray) -> BoolArray:
        """Which ids are silence or punctuation."""
        return np.isin(ids, list(PAUSE_IDS))

    def count(self, text: str) -> int:
        """Estimate: a letter is a phoneme, a digit four, a Chinese character two."""
        return sum(4 if c.isdigit() else 2 if ord(c) >= 0x3000 else 1 for c in text if c.isalnum())


def _arpabet(reading: Phones) -> tuple[str, ...]:
    """The phones as symbols: secondary stress is stress, the only vowel is stressed."""
    vowels = sum(phone.rstrip("012") in ENGLISH_VOWELS for phone in reading.phones)
    default = "1" if vowels == 1 else "0"
    phonemes = []
    for phone in reading.phones:
        bare = phone.rstrip("012")
        stress = phone[len(bare) :].replace("2", "1") or default
        phonemes.append(bare + stress if bare in ENGLISH_VOWELS else phone)
    assert all(phoneme in ENGLISH_PHONEMES for phoneme in phonemes)
    return tuple(phonemes)
