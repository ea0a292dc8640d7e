"""Text with markup to the ids of the released models.

The models differ in data only: vocabulary, special tokens, the tags among them, and whether there
are tokens for pronunciations.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from mynah.errors import ModelFormatError
from mynah.text.clean import clean
from mynah.text.languages import Language, main_language
from mynah.text.lexicons import NO_LEXICON, UserLexicon
from mynah.text.markup import Hint, Piece, PlainText, Tag, parse_markup
from mynah.text.normalize import complete_punctuation
from mynah.text.normalize import normalize as normalize_text
from mynah.text.readings import Respelling, homophones, native_tokens, parse_reading
from mynah.text.special_tokens import (
    COSYVOICE1_TAGS,
    COSYVOICE2,
    PRONUNCIATION_TOKENS,
    WHISPER,
)
from mynah.text.templates import MARKER, fill
from mynah.text.tokenizer import BoolArray, TokenArray, require_speech
from mynah.text.vocabularies import RANK_FILE, Qwen2Vocabulary, RankVocabulary, Vocabulary

_NO_MARKERS: Final[Mapping[Language, str]] = MappingProxyType({})
# The README of CosyVoice 1 writes <|jp|>, which is ordinary text to its tokenizer.
_COSYVOICE1_MARKERS: Final[Mapping[Language, str]] = MappingProxyType(
    {"zh": "<|zh|>", "en": "<|en|>", "ja": "<|jp|>", "yue": "<|yue|>", "ko": "<|ko|>"}
)


def qwen2_tokenizer(folder: Path, special_tokens: Sequence[str] | None = None) -> BPETokenizer:
    """The tokenizer of CosyVoice 2 and 3.

    Args:
        folder: With ``vocab.json`` and ``merges.txt``, or ``tokenizer.json``.
        special_tokens: In the order of their ids; None = those of CosyVoice 2.

    Raises:
        ModelFormatError: if the files are missing or damaged, or do not fit the special tokens.
    """
    special = tuple(special_tokens or COSYVOICE2)
    return BPETokenizer(Qwen2Vocabulary(folder, special), special)


def whisper_tokenizer(folder: Path, special_tokens: Sequence[str] | None = None) -> BPETokenizer:
    """The tokenizer of CosyVoice 1: Whisper's, with ``multilingual.tiktoken`` in ``folder``.

    Raises:
        ModelFormatError: if the file is missing or damaged.
    """
    return BPETokenizer(
        RankVocabulary(folder / RANK_FILE),
        tuple(special_tokens or WHISPER),
        tags=COSYVOICE1_TAGS,
        language_markers=_COSYVOICE1_MARKERS,
    )


class BPETokenizer:
    """Byte-pair encoding with special tokens behind the vocabulary."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        special_tokens: Sequence[str] = COSYVOICE2,
        *,
        tags: Sequence[str] | None = None,
        language_markers: Mapping[Language, str] = _NO_MARKERS,
    ) -> None:
        """Number the special tokens on from the vocabulary.

        Args:
            vocabulary: Of plain text.
            special_tokens: In the order of their ids.
            tags: The markup that the model understands; None = the special tokens that are tags.
                A tag without an id is read as text.
            language_markers: What the model reads before a text whose language was named.

        Raises:
            ModelFormatError: if a special token is there twice.
        """
        if len(set(special_tokens)) != len(special_tokens):
            raise ModelFormatError(
                "the special tokens of the text vocabulary are not all different",
                hint="download or convert the model again",
            )
        self._vocabulary = vocabulary
        self._special = {name: vocabulary.size + i for i, name in enumerate(special_tokens)}
        own = tuple(name for name in special_tokens if MARKER.fullmatch(name) is None)
        self.tags: tuple[str, ...] = tuple(tags) if tags is not None else own
        self._pronunciations = frozenset(own) & frozenset(PRONUNCIATION_TOKENS)
        self._language_markers = language_markers
        self._is_pause = functools.lru_cache(maxsize=65536)(self._compute_is_pause)

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return self._vocabulary.size + len(self._special)

    def special_id(self, name: str) -> int | None:
        """Id of a special token; None if the model has none of that name."""
        return self._special.get(name)

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
        """Ids (T,) of a text with tags. See ``TextTokenizer``."""
        parsed = parse_markup(text, self.tags, hints=True, closed=False)
        pieces = self._joined(lexicon.apply(parsed))
        plain = "".join(piece.text for piece in pieces if isinstance(piece, PlainText))
        pronounced = {piece.name for piece in pieces if isinstance(piece, Tag)}
        if whole and not pronounced & self._pronunciations:
            require_speech(plain)
        language = language or main_language(plain)
        last = max((i for i, p in enumerate(pieces) if isinstance(p, PlainText)), default=-1)
        ids: list[int] = []
        for index, piece in enumerate(pieces):
            if isinstance(piece, Tag):
                ids += self._marker_ids(piece.name)
            elif isinstance(piece, PlainText) and normalize:
                spoken = keep_edge_spaces(piece.text, normalize_text(piece.text, language))
                if whole and index == last:
                    spoken = complete_punctuation(spoken)
                ids += self._vocabulary.encode(spoken)
            elif isinstance(piece, PlainText):
                ids += self._vocabulary.encode(keep_edge_spaces(piece.text, clean(piece.text)))
        return np.array(ids, np.int64)

    def language_ids(self, language: Language) -> TokenArray:
        """Ids (T,) of the marker before a text whose language was named; none in most models."""
        marker = self._language_markers.get(language)
        return np.array(self._marker_ids(marker) if marker else [], np.int64)

    def encode_template(self, template: str, text: str | TokenArray = "") -> TokenArray:
        """Ids (T,) of a prompt: a template filled with words as they stand, or with their ids.

        Raises:
            MarkupError: for a control marker in the words.
        """
        words = text if isinstance(text, str) else [int(i) for i in text]
        ids = fill(template, words, self._special, self._vocabulary.encode)
        return np.array(ids, np.int64)

    def _marker_ids(self, name: str) -> list[int]:
        known = self._special.get(name)
        return self._vocabulary.encode(name) if known is None else [known]

    def _hinted(self, hint: Hint) -> list[Piece]:
        """What the model reads for a word whose pronunciation is given.

        Raises:
            MarkupError: if it is no pronunciation, or one that the model cannot be told.
        """
        reading = parse_reading(hint)
        if isinstance(reading, Respelling):
            return [PlainText(reading.text, hint.position)]
        if self._pronunciations:
            names = native_tokens(hint, reading, self._pronunciations)
            return [Tag(name, hint.position) for name in names]
        return [PlainText(homophones(hint, reading), hint.position)]

    def _joined(self, pieces: Sequence[Piece]) -> list[Piece]:
        """The pieces with hints replaced; neighbouring text is one piece again."""
        joined: list[Piece] = []
        for piece in pieces:
            for new in self._hinted(piece) if isinstance(piece, Hint) else [piece]:
                before = joined[-1] if joined else None
                if isinstance(new, PlainText) and isinstance(before, PlainText):
                    joined[-1] = PlainText(before.text + new.text, before.position)
                else:
                    joined.append(new)
        return joined

    def is_pause(self, ids: TokenArray) -> BoolArray:
        """Which ids are punctuation or silence."""
        return np.array([self._is_pause(int(i)) for i in ids], np.bool_)

    def _compute_is_pause(self, token: int) -> bool:
        if token >= self._vocabulary.size:
            return False
        text = self._vocabulary.decode(token)
        return not any(c.isalnum() or c == "\ufffd" for c in text)

    def count(self, text: str) -> int:
        """Number of ids of the text as it is written."""
        return len(self._vocabulary.encode(text))


def keep_edge_spaces(original: str, changed: str) -> str:
    """Normalisation strips; beside a tag or a following part a space is part of the text."""
    if not changed:
        return " " if original.isspace() else ""
    before = " " if original[:1].isspace() else ""
    after = " " if original[-1:].isspace() else ""
    return f"{before}{changed}{after}"
