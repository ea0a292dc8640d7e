"""Which language each part of a text is written in, judged by its script."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from mynah.text.rules import words

Language = Literal["en", "zh", "ja", "ko", "yue", "other"]

_HAN: Final = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3005\u3007\U00020000-\U0003ffff"
_KANA: Final = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
_HANGUL: Final = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"
_LATIN: Final = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"
_RUNS: Final = re.compile(
    rf"(?P<zh>[{_HAN}]+)|(?P<ja>[{_KANA}]+)|(?P<ko>[{_HANGUL}]+)|(?P<en>[{_LATIN}]+)"
    r"|(?P<other>[^\W\d_\u00b2\u00b3]+)"  # \w takes exponents for letters
)


_JUDGED_CHARACTERS: Final = 4000
_LATIN_WORD: Final = re.compile(rf"[{_LATIN}]+(?:['\u2019][{_LATIN}]+)*")
_FOREIGN_LETTER: Final = re.compile(
    "[\u00df\u00e4\u00f6\u00fc\u00f1\u00e7\u00e8\u00ea\u00e0\u00e2\u00ee\u00f4\u00fb\u0153\u00e6\u00f8\u00e5\u00e3\u00f5\u00ed\u00f3\u00fa\u00e1\u00ec\u00f2\u00f9\u0101-\u024f\u1e00-\u1eff]"
)
_ENGLISH: Final = frozenset(
    words(
        "the of and to a in is that it for was on are as with his they i at be this have from or "
        "had by but not what all were we when your can said there an each which she do how their "
        "if will up about out many then them these so some her would make like him has my me you "
        "no he us our who its now been did get may just over know take than only any did very am "
        "don't it's i'm cost costs paid page number"
    )
)
# They stand in names and titles inside English text: Die Hard, Los Angeles, Van Gogh.
_IN_NAMES: Final = frozenset(
    words(
        "a an am as con da das de del den der des di die do do\u00f1a du el en es et euro euros in "
        "la las le les los me mi na no non o per po por son so to un una van von w y z i"
    )
)
_FOREIGN: Final = tuple(
    frozenset(words(listed))
    for listed in (
        "der die das und ist nicht ich es ein eine einen einem einer zu den dem des mit sich auf "
        "von im in an am als auch wir sie er ihr so wie aus bei nach um oder hat haben wird war "
        "sind kostet uhr euro jahre noch nur aber wenn man mein dein guten tag bis seit",
        "le la les des est et un une du de en que qui pas ne je tu il elle nous vous ils dans sur "
        "pour avec au aux ce cette sont ont plus mais ou a l'an c'est d'un j'ai heures prix",
        "el la los las un una de del en que y es por con para se su al lo como pero no son hay "
        "m\u00e1s este esta tiene a\u00f1os horas euros o me mi",
        "il lo la gli le un una di del della in che \u00e8 e per con non si sono ho ha al alla dei "
        "nel questo questa pi\u00f9 anni ore costa ma anche come",
        "o os as um uma de do da dos das em no na que e \u00e9 por com para n\u00e3o se mais anos "
        "custa este esta",
        "de het een en van is dat op te in niet met voor zijn aan ook er maar om hij ze wij dit "
        "jaar uur kost",
        "och att det som en p\u00e5 \u00e4r av f\u00f6r med den till inte ett jag har vi",
        "w i na z si\u0119 nie do to jest \u017ce o jak po za od ale co ma lat",
        "bir ve bu i\u00e7in da de ile ne var o\u011flu ama gibi",
    )
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
    """The language of most letters (a Chinese character counts as much as four Latin letters).

    Latin letters are English unless more words belong to another language, which is ``other``.
    """
    weights: dict[Language, int] = {}
    for span in language_spans(text):
        letters = sum(c.isalpha() for c in span.text)
        weights[span.language] = weights.get(span.language, 0) + letters * (
            1 if span.language in {"en", "other"} else 4
        )
    nothing: Language = "en"
    chosen = max(weights, key=lambda language: weights[language], default=nothing)
    return "other" if chosen == "en" and is_foreign(text) else chosen


def is_foreign(text: str) -> bool:
    """Whether a text in Latin letters is in another language than English.

    Judged by frequent short words and by letters that English lacks, in the text's beginning.
    """
    found = Counter(_LATIN_WORD.findall(text[:_JUDGED_CHARACTERS].lower()))
    weights = {word: n if word in _IN_NAMES else 2 * n for word, n in found.items()}
    english = sum(weight for word, weight in weights.items() if word in _ENGLISH)
    foreign = max(
        sum(weight for word, weight in weights.items() if word in frequent) for frequent in _FOREIGN
    )
    foreign += sum(n for word, n in found.items() if _FOREIGN_LETTER.search(word))
    return foreign > max(english, 1)
