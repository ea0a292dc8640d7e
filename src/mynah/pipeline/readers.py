"""From a request's text to utterances of ids, with the tokenizer of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mynah.backends.base import NO_IDS
from mynah.config import ModelConfig
from mynah.errors import InvalidRequestError, MarkupError, UnsupportedFeatureError
from mynah.pipeline.reading import TextReader, Utterance, pause_after
from mynah.text.clean import clean, speakable
from mynah.text.languages import Language, language_spans, main_language
from mynah.text.markup import Hint, parse_markup
from mynah.text.split import Splitter
from mynah.text.tokenizer import BPETokenizer, PhonemeTokenizer, TextTokenizer, hinted_words
from mynah.types import TokenArray

TOKENIZER_FOLDER = "tokenizer"
"""Folder of a BPE tokenizer's files inside a model folder."""

_READ_CHARACTERS = 2000
_NAMES: dict[str, str] = {
    "en": "English",
    "zh": "Mandarin",
    "ja": "Japanese",
    "ko": "Korean",
    "yue": "Cantonese",
    "other": "another script",
}
_OTHER_MODELS = "the CosyVoice2 models speak Mandarin, English, Japanese, Korean and Cantonese"


@dataclass(frozen=True)
class Limits:
    """Sizes of an utterance, in what the tokenizer counts."""

    budget: int
    """The most."""
    minimum: int
    """Shorter sentences are spoken together with the next one."""


# About 3 to 10 s: the lengths that the models are trained on.
_LIMITS = {"phonemes": Limits(110, 36), "qwen2-bpe": Limits(80, 20)}


def build_reader(config: ModelConfig, folder: Path) -> TextReader:
    """Make the reader of a model; ``folder`` holds its tokenizer, where it needs one.

    Raises:
        ModelFormatError: if the tokenizer is missing or damaged.
    """
    if config.text_frontend == "phonemes":
        return TokenizerReader(config, PhonemeTokenizer(config.languages))
    return TokenizerReader(config, BPETokenizer(folder / TOKENIZER_FOLDER))


class TokenizerReader:
    """``TextReader`` on a tokenizer of ``mynah.text``."""

    def __init__(self, config: ModelConfig, tokenizer: TextTokenizer) -> None:
        """Read the languages of ``config``."""
        self._languages = config.languages
        self._takes_instruction = config.instruct is not None
        self._limits = _LIMITS[config.text_frontend]
        self._tokenizer = tokenizer

    def check(self, text: str, language: str | None = None) -> None:
        """See ``TextReader``."""
        check_text(text, language, self._languages)
        for piece in parse_markup(text, self._tokenizer.tags, hints=self._tokenizer.hints):
            if isinstance(piece, Hint):
                hinted_words(piece)

    def utterances(self, text: str, language: str | None = None) -> Iterator[Utterance]:
        """See ``TextReader``."""
        chosen = _main_language(text, language)
        for part in self._split(text):
            ids = self._ids_or_none(part, chosen)
            yield Utterance(part, ids, self._tokenizer.is_pause(ids), pause_after(part))

    def ids(self, text: str, language: str | None = None) -> TokenArray:
        """See ``TextReader``."""
        return self._tokenizer.encode(text, _main_language(text, language))

    def instruction_ids(self, text: str) -> TokenArray:
        """See ``TextReader``."""
        if not self._takes_instruction or not isinstance(self._tokenizer, BPETokenizer):
            raise UnsupportedFeatureError(
                f"this model takes no instruction, but got {text[:60]!r}",
                hint="leave it out, or use a CosyVoice2 model",
            )
        return self._tokenizer.encode_instruction(text)

    def _split(self, text: str) -> Iterator[str]:
        """Cut a text bit by bit, so that a book does not delay its first sentence."""
        limits = self._limits
        splitter = Splitter(self._tokenizer.count, limits.budget, limits.minimum)
        for start in range(0, len(text), _READ_CHARACTERS):
            yield from splitter.feed(text[start : start + _READ_CHARACTERS])
        yield from splitter.finish()

    def _ids_or_none(self, text: str, language: Language) -> TokenArray:
        """Ids, or none where a part of a longer text holds nothing to say."""
        if not speakable(text):
            return NO_IDS
        try:
            return self._tokenizer.encode(text, language)
        except (MarkupError, UnsupportedFeatureError):
            raise
        except InvalidRequestError:  # letters that have no sound
            return NO_IDS


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
    known = {_base(code) for code in languages}
    if language is not None and _base(language) not in known:
        raise _unspeakable(f"the language {language!r}", languages)
    cantonese = language is not None and _base(language) == "yue"
    for span in language_spans(cleaned, chinese="yue" if cantonese else "zh"):
        if span.language not in known and any(c.isalpha() for c in span.text):
            what = f"{_NAMES[span.language]} ({span.text.strip()[:20]!r})"
            raise _unspeakable(what, languages)


def _unspeakable(what: str, languages: Sequence[str]) -> UnsupportedFeatureError:
    spoken = ", ".join(_NAMES.get(_base(code), code) for code in languages)
    return UnsupportedFeatureError(
        f"this model cannot say {what}; it speaks {spoken}", hint=_OTHER_MODELS
    )


def _base(code: str) -> str:
    return code.split("-")[0].lower()


def _main_language(text: str, language: str | None) -> Language:
    """The language by whose rules digits and symbols are read."""
    base = None if language is None else _base(language)
    match base:
        case "en" | "zh" | "ja" | "ko" | "yue":
            return base
        case _:
            return main_language(text)
