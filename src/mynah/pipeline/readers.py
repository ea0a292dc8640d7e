"""The text sides of the model families: phonemes for the embedded model, BPE for CosyVoice2."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mynah.backends.base import NO_IDS
from mynah.config import ModelConfig
from mynah.errors import InvalidRequestError, UnsupportedFeatureError
from mynah.pipeline.reading import TextReader, Utterance, pause_after
from mynah.text.clean import clean, speakable
from mynah.text.english import Pause, Word, phonemize_tokens, tokenize
from mynah.text.languages import Language, language_spans, main_language
from mynah.text.mandarin import syllable_symbols, tokenize_mandarin
from mynah.text.markup import Hint, PlainText, parse_markup
from mynah.text.normalize import complete_punctuation, normalize
from mynah.text.split import split_text
from mynah.text.symbols import END, PAUSE_IDS, START, SYMBOL_IDS, symbol_id
from mynah.types import TokenArray

_PHONEME_BUDGET, _PHONEME_MINIMUM = 130, 45
"""Symbols of one utterance: 4 to 11 seconds, the lengths that small models are trained on."""
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_DIGIT = re.compile(r"\d")
_LANGUAGE_NAMES = {
    "en": "English",
    "zh": "Mandarin",
    "ja": "Japanese",
    "ko": "Korean",
    "yue": "Cantonese",
    "other": "a script that is neither Latin nor Chinese",
}
_OTHER_MODELS = "the CosyVoice2 models speak Chinese, English, Japanese, Korean and Cantonese"


def build_reader(config: ModelConfig, folder: Path) -> TextReader:
    """The reader of a model; ``folder`` holds its tokenizer, where it needs one."""
    if config.text_frontend == "phonemes":
        return PhonemeReader(config)
    raise UnsupportedFeatureError(f"no tokenizer in {folder}")


class PhonemeReader:
    """Words to the symbols of ``mynah.text.symbols``."""

    def __init__(self, config: ModelConfig) -> None:
        """Read ``config.languages``."""
        self._languages = config.languages

    def check(self, text: str, language: str | None = None) -> None:
        """See ``TextReader``."""
        check_text(text, language, self._languages)
        for piece in parse_markup(text, hints=True):
            if isinstance(piece, Hint):
                _hinted(piece)

    def utterances(self, text: str, language: str | None = None) -> Iterator[Utterance]:
        """See ``TextReader``."""
        for part in split_text(text, _count_symbols, _PHONEME_BUDGET, _PHONEME_MINIMUM):
            ids = self.ids(part, language)
            pauses = np.isin(ids, list(PAUSE_IDS))
            silent = bool(pauses.all())
            yield Utterance(
                text=part,
                ids=NO_IDS if silent else ids,
                pauses=pauses[:0] if silent else pauses,
                pause_s=pause_after(part),
            )

    def ids(self, text: str, language: str | None = None) -> TokenArray:
        """See ``TextReader``."""
        symbols = [START, *phonemize_tokens(_tokens(text, language)), END]
        return np.array([SYMBOL_IDS[symbol] for symbol in symbols], dtype=np.int64)

    def instruction_ids(self, text: str) -> TokenArray:
        """Refuse: such models take no instructions."""
        raise UnsupportedFeatureError(
            f"this model takes no instruction, but got {text[:60]!r}",
            hint="leave it out, or use a CosyVoice2 model",
        )


def check_text(text: str, language: str | None, languages: Sequence[str]) -> None:
    """Refuse texts with nothing to say, and languages that a model does not speak.

    Raises:
        InvalidRequestError: for punctuation or emoji only.
        UnsupportedFeatureError: naming the language and models that speak it.
    """
    cleaned = clean(text)
    if not speakable(cleaned):
        raise InvalidRequestError(
            f"there is nothing to say in {text.strip()[:40]!r}",
            hint="pass a text with letters or digits in it",
        )
    known = {code.split("-")[0].lower() for code in languages}
    if language is not None and language.split("-")[0].lower() not in known:
        raise _unspeakable(f"the language {language!r}", languages)
    for span in language_spans(cleaned, chinese="yue" if language == "yue" else "zh"):
        if span.language not in known and any(c.isalpha() for c in span.text):
            name = _LANGUAGE_NAMES[span.language]
            raise _unspeakable(f"{name} ({span.text.strip()[:20]!r})", languages)


def _unspeakable(what: str, languages: Sequence[str]) -> UnsupportedFeatureError:
    spoken = ", ".join(_LANGUAGE_NAMES.get(code, code) for code in languages)
    return UnsupportedFeatureError(
        f"this model cannot say {what}; it speaks {spoken}", hint=_OTHER_MODELS
    )


def _tokens(text: str, language: str | None) -> list[Word | Pause]:
    pieces = parse_markup(text, hints=True, closed=False)
    chosen = _language(text, language)
    tokens: list[Word | Pause] = []
    for index, piece in enumerate(pieces):
        if isinstance(piece, Hint):
            tokens.extend(_hinted(piece))
        elif isinstance(piece, PlainText):
            plain = normalize(piece.text, chosen)
            if index == len(pieces) - 1:
                plain = complete_punctuation(plain)
            for span in language_spans(plain):
                is_chinese = span.language == "zh"
                tokens.extend(tokenize_mandarin(span.text) if is_chinese else tokenize(span.text))
    return tokens


def _language(text: str, language: str | None) -> Language:
    if language is None:
        return main_language(text)
    return "zh" if language.split("-")[0].lower() == "zh" else "en"


def _hinted(hint: Hint) -> list[Word | Pause]:
    """A word as the caller wants it: ARPAbet symbols, or pinyin syllables."""
    parts = hint.phonemes.split()
    syllables = [syllable_symbols(part) for part in parts]
    found = [symbols for symbols in syllables if symbols is not None]
    if parts and len(found) == len(parts):
        return [Word(hint.word, symbols) for symbols in found]
    for part in parts:
        symbol_id(part)
    return [Word(hint.word, tuple(parts))]


def _count_symbols(text: str) -> int:
    """Roughly how many symbols a text becomes; a digit is a word."""
    han, digits = len(_HAN.findall(text)), len(_DIGIT.findall(text))
    return len(text.strip()) + han + 3 * digits
