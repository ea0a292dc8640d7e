"""From the text of one utterance to the ids a language model reads."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt

from mynah.errors import (
    InvalidRequestError,
    MarkupError,
    ModelFormatError,
    UnsupportedFeatureError,
)
from mynah.text.clean import speakable
from mynah.text.english import Pause, Word, phonemize_tokens, tokenize
from mynah.text.languages import Language, language_spans, main_language
from mynah.text.mandarin import syllable_symbols, tokenize_mandarin
from mynah.text.markup import (
    COSYVOICE2_TAGS,
    Hint,
    PlainText,
    Tag,
    parse_markup,
    refuse_control_markers,
)
from mynah.text.normalize import complete_punctuation, normalize
from mynah.text.symbols import (
    END,
    ENGLISH_PHONEMES,
    ENGLISH_VOWELS,
    NUM_SYMBOLS,
    PAUSE_IDS,
    START,
    SYMBOL_IDS,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TokenArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_LANGUAGE_NAMES: Final = {"zh": "Chinese", "ja": "Japanese", "ko": "Korean", "en": "Latin"}


class TextTokenizer(Protocol):
    """Turns the text of one utterance, markup included, into ids."""

    @property
    def vocab_size(self) -> int:
        """Number of ids; every id is below it."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Markup tags that the model understands."""

    @property
    def hints(self) -> bool:
        """Whether pronunciation hints are understood."""

    def encode(self, text: str, language: Language | None = None) -> TokenArray:
        """Ids (T,) of an utterance; ``language`` is how digits are read, None = the text's own.

        Raises:
            InvalidRequestError: if nothing in the text can be spoken.
            MarkupError: for a control marker, an unknown tag or a wrong hint.
            UnsupportedFeatureError: for a script that the model cannot say.
        """

    def is_pause(self, ids: TokenArray) -> BoolArray:
        """Which ids (T,) are silence or punctuation: (T,) bool."""

    def count(self, text: str) -> int:
        """About how many ids a text has; cheap, for splitting. Never raises."""


def require_speech(text: str) -> None:
    """Refuse text without anything to say.

    Raises:
        InvalidRequestError: if there is no letter and no digit.
    """
    if not speakable(text):
        raise _nothing_to_speak(text)


def _nothing_to_speak(text: str) -> InvalidRequestError:
    shown = f"there is nothing to speak in {text[:40]!r}" if text.strip() else "the text is empty"
    return InvalidRequestError(shown, hint="give at least one word, number or letter")


class PhonemeTokenizer:
    """Phoneme symbols (``mynah.text.symbols``) for the embedded model."""

    tags: tuple[str, ...] = ()
    hints = True
    vocab_size = NUM_SYMBOLS

    def __init__(self, languages: Sequence[str] = ("en",)) -> None:
        """Take the languages that the model speaks: ``en``, ``zh`` or both."""
        self.languages = tuple(languages)

    def encode(self, text: str, language: Language | None = None) -> TokenArray:
        """Ids (T,): silence, phonemes and pauses, silence. See ``TextTokenizer``."""
        return np.array([SYMBOL_IDS[symbol] for symbol in self.symbols(text, language)], np.int64)

    def symbols(self, text: str, language: Language | None = None) -> list[str]:
        """The symbols behind ``encode``, for looking at."""
        pieces = parse_markup(text, self.tags, hints=self.hints, closed=False)
        words = "".join(p.text if isinstance(p, PlainText) else "" for p in pieces)
        language = language or main_language(words)
        tokens: list[Word | Pause] = []
        for piece in pieces:
            if isinstance(piece, PlainText):
                tokens += self._tokens(normalize(piece.text, language))
            elif isinstance(piece, Hint):
                tokens += hinted_words(piece)
        symbols = phonemize_tokens(tokens)
        if not symbols:
            raise _nothing_to_speak(text)
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


def hinted_words(hint: Hint) -> list[Word | Pause]:
    """The words of a pronunciation hint: ARPAbet phonemes, or pinyin syllables.

    Raises:
        MarkupError: if they are neither.
    """
    parts = hint.phonemes.split()
    syllables = [symbols for part in parts if (symbols := syllable_symbols(part))]
    if parts and len(syllables) == len(parts):
        return [Word(hint.word, symbols) for symbols in syllables]
    vowels = sum(part.rstrip("012") in ENGLISH_VOWELS for part in parts)
    default = "1" if vowels == 1 else "0"
    phonemes = []
    for part in parts:
        bare = part.rstrip("012")
        stressed = bare in ENGLISH_VOWELS
        phoneme = bare + (part[len(bare) :].replace("2", "1") or default) if stressed else part
        if phoneme not in ENGLISH_PHONEMES:
            raise MarkupError(
                f"{part!r} in the pronunciation of {hint.word!r} at character {hint.position} "
                "is no phoneme",
                hint=f"use ARPAbet ({' '.join(ENGLISH_PHONEMES[:6])} ... with stress 0 or 1 on "
                "vowels) or pinyin with tone digits (zhong1 guo2)",
                position=hint.position,
            )
        phonemes.append(phoneme)
    if not phonemes:
        raise MarkupError(
            f"empty pronunciation of {hint.word!r} at character {hint.position}",
            hint="write phonemes between the parentheses",
            position=hint.position,
        )
    return [Word(hint.word, tuple(phonemes))]


class BPETokenizer:
    """Qwen2 byte-pair encoding with the special tokens of CosyVoice2, from its folder."""

    tags: tuple[str, ...] = COSYVOICE2_TAGS
    hints = False
    _BASE_SPECIAL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    _END_OF_PROMPT: Final = "<|endofprompt|>"

    def __init__(self, folder: Path) -> None:
        """Read ``vocab.json`` and ``merges.txt``, or ``tokenizer.json``.

        Raises:
            ModelFormatError: if the files are missing or damaged, or if the vocabulary already has
                other added tokens (a stock Qwen2.5 tokenizer does: its ids would be wrong).
        """
        self._tokenizer = _load_qwen2(folder)
        base = self._tokenizer.get_vocab_size(with_added_tokens=False)
        special = (*self._BASE_SPECIAL, self._END_OF_PROMPT, *self.tags)
        for name in special:
            _add_special(self._tokenizer, name)
        self._ids = {name: base + index for index, name in enumerate(special)}
        if any(self._tokenizer.token_to_id(name) != i for name, i in self._ids.items()):
            raise ModelFormatError(
                f"the tokenizer in {folder} has other added tokens than CosyVoice2",
                hint="use the folder CosyVoice-BlankEN of the model",
            )
        self._tokenizer.encode_special_tokens = True  # text never becomes a special token
        self._is_pause = functools.cache(self._compute_is_pause)

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return self._tokenizer.get_vocab_size()

    @property
    def end_of_prompt(self) -> int:
        """Id of the marker that ends an instruction."""
        return self._ids[self._END_OF_PROMPT]

    def encode_instruction(self, text: str) -> TokenArray:
        """Ids (T,) of an instruction as it stands, with the marker that ends it.

        Raises:
            MarkupError: for a control marker in the text.
        """
        refuse_control_markers(text)
        return np.array([*self._plain_ids(text), self.end_of_prompt], np.int64)

    def encode(self, text: str, language: Language | None = None) -> TokenArray:
        """Ids (T,) of normalised text with tags. See ``TextTokenizer``."""
        pieces = parse_markup(text, self.tags, hints=self.hints, closed=False)
        plain = [p.text for p in pieces if isinstance(p, PlainText)]
        require_speech("".join(plain))
        language = language or main_language("".join(plain))
        ids: list[int] = []
        for index, piece in enumerate(pieces):
            if isinstance(piece, Tag):
                ids.append(self._ids[piece.name])
            elif isinstance(piece, PlainText):
                spoken = _keep_edge_spaces(piece.text, normalize(piece.text, language))
                last = not any(isinstance(p, PlainText) for p in pieces[index + 1 :])
                ids += self._plain_ids(complete_punctuation(spoken) if last else spoken)
        return np.array(ids, np.int64)

    def _plain_ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def is_pause(self, ids: TokenArray) -> BoolArray:
        """Which ids are punctuation or silence."""
        return np.array([self._is_pause(int(i)) for i in ids], np.bool_)

    def _compute_is_pause(self, token: int) -> bool:
        if token in self._ids.values():
            return False
        text = self._tokenizer.decode([token])
        return not any(c.isalnum() or c == "\ufffd" for c in text)

    def count(self, text: str) -> int:
        """Number of ids of the text as it is written."""
        return len(self._plain_ids(text))


def _keep_edge_spaces(original: str, normalized: str) -> str:
    """Normalisation strips; beside a tag a space is part of the text."""
    if not normalized:
        return ""
    before = " " if original[:1].isspace() else ""
    after = " " if original[-1:].isspace() else ""
    return f"{before}{normalized}{after}"


def _add_special(tokenizer: Tokenizer, name: str) -> None:
    from tokenizers import AddedToken

    if tokenizer.token_to_id(name) is None:
        tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True)])


_QWEN2_WORDS: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _load_qwen2(folder: Path) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    vocab, merges, whole = folder / "vocab.json", folder / "merges.txt", folder / "tokenizer.json"
    try:
        if not vocab.exists():
            return Tokenizer.from_file(str(whole))
        tokenizer = Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    except Exception as error:  # the library raises bare Exception
        raise ModelFormatError(
            f"cannot read the text tokenizer in {folder}: {error}",
            hint="vocab.json and merges.txt, or tokenizer.json, must be there; download again",
        ) from error
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
