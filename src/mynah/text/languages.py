"""Which language each part of a text is written in, judged by its script."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

Language = Literal["en", "zh", "ja", "ko", "yue", "other"]

_HAN: Final = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3005\u3007\U00020000-\U0003ffff"
_KANA: Final = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
_HANGUL: Final = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"
_LATIN: Final = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"
_RUNS: Final = re.compile(
    rf"(?P<zh>[{_HAN}]+)|(?P<ja>[{_KANA}]+)|(?P<ko>[{_HANGUL}]+)|(?P<en>[{_LATIN}]+)"
    r"|(?P<other>[^\W\d_]+)"
)


@dataclass(frozen=True)
class Span:
    """A stretch of text in one language; spans of a text join to the whole text."""

    language: Language
    text: str


def language_spans(text: str, chinese: Literal["zh", "yue"] = "zh") -> list[Span]:
    """Cut a text into spans of one language.

    Digits, spaces and punctuation belong to the span before them, at the start of the text to the
    first span, except that digits beside a Chinese character belong to the Chinese.

    Args:
        text: Any text.
        chinese: What Chinese characters are: Mandarin, or Cantonese on request. In a text with kana
            they are Japanese.

    Returns:
        Spans; a text without letters is one span of English.
    """
    runs = list(_RUNS.finditer(text))
    if not runs:
        return [Span("en", text)] if text else []
    japanese = any(run.lastgroup == "ja" for run in runs)
    labels: list[Language] = [_label(run, japanese=japanese, chinese=chinese) for run in runs]
    starts = [0]
    for before, after in pairwise(range(len(runs))):
        gap = text[runs[before].end() : runs[after].start()]
        cut = len(gap)
        if labels[after] in {"zh", "yue", "ja"} and labels[before] not in {"zh", "yue", "ja"}:
            cut = len(gap) - len(re.search(r"[$¥£€+-]?[\d.,:/%]*\s?\Z", gap)[0])  # type: ignore[index]
            cut = cut if any(c.isdigit() for c in gap[cut:]) else len(gap)
        starts.append(runs[before].end() + cut)
    starts.append(len(text))
    spans: list[Span] = []
    for label, (start, end) in zip(labels, pairwise(starts), strict=True):
        if spans and spans[-1].language == label:
            spans[-1] = Span(label, spans[-1].text + text[start:end])
        else:
            spans.append(Span(label, text[start:end]))
    return spans


def _label(run: re.Match[str], *, japanese: bool, chinese: Literal["zh", "yue"]) -> Language:
    if run["zh"]:
        return "ja" if japanese else chinese
    if run["ja"]:
        return "ja"
    if run["ko"]:
        return "ko"
    return "en" if run["en"] else "other"


def main_language(text: str) -> Language:
    """The language of most letters (a Chinese character counts as much as four Latin letters)."""
    weights: dict[Language, int] = {}
    for span in language_spans(text):
        letters = sum(c.isalpha() for c in span.text)
        weights[span.language] = weights.get(span.language, 0) + letters * (
            1 if span.language in {"en", "other"} else 4
        )
    return max(weights, key=lambda language: weights[language], default="en")
