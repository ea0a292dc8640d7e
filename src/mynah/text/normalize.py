"""Text normalisation: from what people write to words that can be spoken.

No dependency and no network: the rules are in ``normalize_en`` and its siblings for Chinese,
Japanese and Korean. Other languages, also those in Latin letters, are only cleaned, so nothing of
them is damaged: German digits stay digits.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from mynah.text.clean import clean
from mynah.text.languages import Language, language_spans, main_language
from mynah.text.normalize_en import normalize_english
from mynah.text.normalize_ja import normalize_japanese
from mynah.text.normalize_ko import normalize_korean
from mynah.text.normalize_zh import normalize_chinese

_CLOSERS: Final = "\"')]}\u300d\u300f\u300b\u3011\uff09"
_ENDERS: Final = ".?!\u2026\u3002\uff1f\uff01"
_WEAK_ENDERS: Final = ",;:-\u2013\u2014\uff0c\uff1b\uff1a\u3001 "
_LINE_BREAK: Final = re.compile(r"(?P<before>\S)\s*\n\s*")


def normalize(text: str, language: Language | Literal["auto"] = "auto") -> str:
    """Clean a text and write numbers, dates, abbreviations and symbols in words.

    Args:
        text: One utterance, without markup.
        language: How digits and symbols are read. ``auto`` takes the main language of the text;
            words written in Latin letters inside a Chinese text stay as they are.

    Returns:
        One line of text; empty if nothing was left after cleaning.
    """
    text = _join_lines(clean(text))
    if not text:
        return ""
    chosen = main_language(text) if language == "auto" else language
    if chosen != "en":
        return _normalize_span(chosen, text)
    spans = language_spans(text)
    if len(spans) == 1:
        return normalize_english(text)
    # In an English text a foreign name leaves the digits beside it English.
    parts = (
        normalize_english(span.text)
        if span.language == "other"
        else _normalize_span(span.language, span.text)
        for span in spans
    )
    return " ".join(part for part in parts if part)


def complete_punctuation(text: str) -> str:
    """Add the final punctuation that a sentence lacks.

    A trailing comma or dash becomes a full stop. A text without letters and digits stays as it is.
    """
    body = text.rstrip()
    tail = len(body) - len(body.rstrip(_CLOSERS + " "))
    inner, closers = (body[:-tail], body[-tail:]) if tail else (body, "")
    if not any(c.isalnum() for c in inner) or inner[-1] in _ENDERS:
        return body
    chinese = main_language(inner) in {"zh", "yue", "ja"}
    return inner.rstrip(_WEAK_ENDERS) + ("\u3002" if chinese else ".") + closers


def _normalize_span(language: Language, text: str) -> str:
    match language:
        case "en":
            return normalize_english(text)
        case "zh" | "yue":
            return normalize_chinese(text, cantonese=language == "yue")
        case "ja":
            return normalize_japanese(text)
        case "ko":
            return normalize_korean(text)
        case "other":
            return " ".join(text.split())


def _join_lines(text: str) -> str:
    """Line breaks end a sentence unless punctuation stands there already."""

    def replacement(match: re.Match[str]) -> str:
        before = match["before"]
        if not before.isalnum() and before not in _CLOSERS:
            return f"{before} "
        return f"{before}\u3002" if ord(before) >= 0x3000 else f"{before}. "

    return _LINE_BREAK.sub(replacement, text)
