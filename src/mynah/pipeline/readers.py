"""From a request's text to utterances of ids, with the tokenizer of a model."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mynah.backends.base import NO_IDS
from mynah.config import ModelConfig
from mynah.errors import InvalidRequestError, MarkupError, UnsupportedFeatureError
from mynah.pipeline.reading import (
    PromptKind,
    PromptText,
    TextInput,
    TextReader,
    Utterance,
    pause_after,
)
from mynah.pipeline.text_inputs import Limits, SentenceInput, TurnInput
from mynah.text.bpe_tokenizer import (
    BPETokenizer,
    keep_edge_spaces,
    qwen2_tokenizer,
    whisper_tokenizer,
)
from mynah.text.clean import clean, speakable
from mynah.text.languages import Language, language_spans, main_language
from mynah.text.lexicons import NO_LEXICON, UserLexicon
from mynah.text.markup import PlainText, Tag, parse_markup
from mynah.text.normalize import normalize
from mynah.text.phoneme_tokenizer import PhonemeTokenizer
from mynah.text.readings import Respelling, parse_reading
from mynah.text.special_tokens import END_OF_PROMPT, PRONUNCIATION_TOKENS
from mynah.text.split import Splitter
from mynah.text.tokenizer import TextTokenizer
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
_OTHER_SCRIPTS = frozenset(("ru", "uk", "bg", "el", "ar", "he", "hi", "th", "vi"))
"""Languages whose letters ``language_spans`` does not tell apart."""
_OTHER_MODELS = "the CosyVoice2 models speak Mandarin, English, Japanese, Korean and Cantonese"


# About 3 to 10 s: the lengths that the models are trained on.
_LIMITS = {
    "phonemes": Limits(110, 36),
    "qwen2-bpe": Limits(80, 20),
    "whisper-bpe": Limits(80, 20),
}


def build_reader(config: ModelConfig, folder: Path) -> TextReader:
    """Make the reader of a model; ``folder`` holds its tokenizer, where it needs one.

    Raises:
        ModelFormatError: if the tokenizer is missing or damaged.
    """
    if config.text_frontend == "phonemes":
        return TokenizerReader(config, PhonemeTokenizer(config.languages))
    load = qwen2_tokenizer if config.text_frontend == "qwen2-bpe" else whisper_tokenizer
    return TokenizerReader(config, load(folder / TOKENIZER_FOLDER, config.special_tokens))


class TokenizerReader:
    """``TextReader`` on a tokenizer of ``mynah.text``."""

    def __init__(self, config: ModelConfig, tokenizer: TextTokenizer) -> None:
        """Read the languages of ``config``."""
        self._languages = config.languages
        self._takes_instruction = config.instruct is not None
        self._takes_turns = config.lm.text_speech_mix is not None
        self._templates = config.templates
        self.limits = _LIMITS[config.text_frontend]
        self._tokenizer = tokenizer
        self._lexicon = NO_LEXICON

    def with_lexicon(self, lexicon: UserLexicon) -> TokenizerReader:
        """See ``TextReader``."""
        reader = copy.copy(self)
        reader._lexicon = self._lexicon | lexicon
        return reader

    def check(self, text: str, language: str | None = None) -> None:
        """See ``TextReader``."""
        require_words(text)
        self.check_part(text, language, closed=True)

    def check_part(self, text: str, language: str | None, *, closed: bool = False) -> None:
        """Refuse what the model cannot say in a part of a text, which may hold no word.

        ``closed``: whether every span that is opened must be closed.
        """
        check_languages(text, language, self._languages)
        self._tokenizer.check(text, self._lexicon, closed=closed)

    @property
    def tags(self) -> tuple[str, ...]:
        """See ``TextReader``."""
        return tuple(tag for tag in self._tokenizer.tags if tag not in PRONUNCIATION_TOKENS)

    def in_words(self, text: str, language: str | None = None) -> str:
        """See ``TextReader``."""
        chosen = self.language_of(text, language)
        parts: list[str] = []
        parsed = parse_markup(text, self._tokenizer.tags, hints=True, closed=False)
        for piece in self._lexicon.apply(parsed):
            if isinstance(piece, PlainText):
                parts.append(keep_edge_spaces(piece.text, normalize(piece.text, chosen)))
            elif isinstance(piece, Tag):
                parts.append(piece.name)
            else:
                reading = parse_reading(piece)
                parts.append(reading.text if isinstance(reading, Respelling) else piece.word)
        return "".join(parts).strip()

    def utterances(
        self,
        text: str,
        language: str | None = None,
        *,
        normalize: bool = True,
        split: bool = True,
    ) -> Iterator[Utterance]:
        """See ``TextReader``."""
        chosen = self.language_of(text, language)
        for part in self._split(text) if split else (text,):
            yield self.utterance(part, chosen, normalize=normalize)

    def open(self, language: str | None = None, *, normalize: bool = True) -> TextInput:
        """See ``TextReader``."""
        check_languages("", language, self._languages)
        if self._takes_turns:
            return TurnInput(self, language, normalize=normalize)
        return SentenceInput(self, language, normalize=normalize)

    def utterance(
        self,
        text: str,
        language: Language,
        *,
        normalize: bool,
        whole: bool = True,
        continues: bool = False,
    ) -> Utterance:
        """Read one utterance, or with ``whole`` = False a part of one."""
        ids = self._ids_or_none(text, language, normalize=normalize, whole=whole)
        pauses = self._tokenizer.is_pause(ids)
        return Utterance(text, ids, pauses, pause_after(text), continues)

    def language_of(self, text: str, language: str | None) -> Language:
        """The language by whose rules digits and symbols are read."""
        base = None if language is None else _base(language)
        match base:
            case "en" | "zh" | "ja" | "ko" | "yue":
                return base
            case None:
                return main_language(text)
            case _:
                return "other"

    @property
    def phrases(self) -> Iterable[str]:
        """Words of the lexicon; text that comes in pieces keeps them whole."""
        return self._lexicon.entries

    def count(self, text: str) -> int:
        """About how many ids a text has."""
        return self._tokenizer.count(text)

    def ids(self, text: str, language: str | None = None) -> TokenArray:
        """See ``TextReader``."""
        return self._tokenizer.encode(text, self.language_of(text, language), lexicon=self._lexicon)

    def prompt_text(
        self, kind: PromptKind, text: str = "", language: str | None = None
    ) -> PromptText:
        """See ``TextReader``."""
        if kind == "instruction" and not self._takes_instruction:
            raise UnsupportedFeatureError(
                f"this model takes no instruction, but got {text[:60]!r}",
                hint="leave it out, or use a model that follows instructions",
            )
        tokenizer, templates = self._tokenizer, self._templates
        spoken = self.ids(text) if kind == "transcript" and text.strip() else NO_IDS
        if not isinstance(tokenizer, BPETokenizer):
            return PromptText(spoken)
        match kind:
            case "transcript":
                ids = tokenizer.encode_template(templates.transcript, spoken)
            case "instruction":
                ids = tokenizer.encode_template(templates.instruction, text)
            case "no_transcript":
                ids = tokenizer.encode_template(templates.no_transcript)
                if language is not None:
                    named = tokenizer.language_ids(self.language_of("", language))
                    ids = np.concatenate([ids, named])
        marks = np.flatnonzero(ids == tokenizer.special_id(END_OF_PROMPT))
        return PromptText(ids, int(marks[-1]) + 1 if len(marks) else 0)

    def _split(self, text: str) -> Iterator[str]:
        """Cut a text bit by bit, so that a book does not delay its first sentence."""
        splitter = Splitter(self.count, self.limits.budget, self.limits.minimum)
        for start in range(0, len(text), _READ_CHARACTERS):
            yield from splitter.feed(text[start : start + _READ_CHARACTERS])
        yield from splitter.finish()

    def _ids_or_none(
        self, text: str, language: Language, *, normalize: bool, whole: bool
    ) -> TokenArray:
        """Ids, or none where a part of a longer text holds nothing to say."""
        if not (speakable(text) if whole else text.strip()):
            return NO_IDS
        try:
            return self._tokenizer.encode(
                text, language, normalize=normalize, lexicon=self._lexicon, whole=whole
            )
        except (MarkupError, UnsupportedFeatureError):
            raise
        except InvalidRequestError:  # letters that have no sound
            return NO_IDS


def require_words(text: str) -> None:
    """Refuse texts with nothing to say.

    Raises:
        InvalidRequestError: for punctuation or emoji only.
    """
    if not speakable(clean(text)):
        raise InvalidRequestError(
            f"there is nothing to say in {text.strip()[:40]!r}",
            hint="pass a text with letters or digits in it",
        )


def check_languages(text: str, language: str | None, languages: Sequence[str]) -> None:
    """Refuse languages that a model does not speak.

    Raises:
        UnsupportedFeatureError: naming the language and models that speak it.
    """
    cleaned = clean(text)
    known = {_base(code) for code in languages}
    if language is not None and _base(language) not in known:
        raise _unspeakable(f"the language {language!r}", languages)
    cantonese = language is not None and _base(language) == "yue"
    for span in language_spans(cleaned, chinese="yue" if cantonese else "zh"):
        known_script = span.language == "other" and known & _OTHER_SCRIPTS
        if span.language not in known and not known_script and any(map(str.isalpha, span.text)):
            what = f"{_NAMES[span.language]} ({span.text.strip()[:20]!r})"
            raise _unspeakable(what, languages)


def _unspeakable(what: str, languages: Sequence[str]) -> UnsupportedFeatureError:
    spoken = ", ".join(_NAMES.get(_base(code), code) for code in languages)
    return UnsupportedFeatureError(
        f"this model cannot say {what}; it speaks {spoken}", hint=_OTHER_MODELS
    )


def _base(code: str) -> str:
    return code.split("-")[0].lower()
