"""Mandarin text to pinyin symbols, with tone sandhi.

Readings come from ``pypinyin`` (imported at first use). Every syllable is a word to the
symbol table: its first symbol carries the word-initial mark, so that *xi an* and *xian* differ.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from mynah.text.english import Pause, Word
from mynah.text.symbols import PINYIN_FINALS, PINYIN_INITIALS, pause_symbol

_INITIALS: Final = tuple(sorted(PINYIN_INITIALS, key=len, reverse=True))
_ZERO_INITIAL: Final = {
    "yi": "i", "ya": "ia", "ye": "ie", "yo": "io", "yao": "iao", "you": "iou", "yan": "ian",
    "yin": "in", "yang": "iang", "ying": "ing", "yong": "iong", "yai": "iai", "yu": "v",
    "yue": "ve", "yuan": "van", "yun": "vn", "wu": "u", "wa": "ua", "wo": "uo", "wai": "uai",
    "wei": "uei", "wan": "uan", "wen": "uen", "wang": "uang", "weng": "ueng", "n": "en",
    "ng": "en", "m": "en", "ê": "eh",
}  # fmt: skip
_SHORTENED: Final = {"iu": "iou", "ui": "uei", "un": "uen", "ue": "ve", "m": "en", "ng": "en"}
_AFTER_JQX: Final = {"u": "v", "ue": "ve", "uan": "van", "un": "vn"}
_SYLLABLE: Final = re.compile(r"(?P<base>[a-zêü]+)(?P<tone>[1-5])")
_NUMERALS: Final = frozenset("零〇一二三四五六七八九十幺点第")


def syllable_symbols(syllable: str) -> tuple[str, ...] | None:
    """Symbols of a pinyin syllable with tone digit (``zhuang1``); None if there is no such one."""
    match = _SYLLABLE.fullmatch(syllable.replace("u:", "v"))
    if match is None:
        return None
    base, tone = match["base"].replace("ü", "v"), match["tone"]
    if base in _ZERO_INITIAL:
        initial, final = "", _ZERO_INITIAL[base]
    else:
        initial = next((i for i in _INITIALS if base.startswith(i)), "")
        final = base[len(initial) :]
        if initial in {"j", "q", "x"}:
            final = _AFTER_JQX.get(final, final)
        final = _SHORTENED.get(final, final)
        if final == "i" and initial in {"z", "c", "s"}:
            final = "ii"
        elif final == "i" and initial in {"zh", "ch", "sh", "r"}:
            final = "iii"
    if final not in PINYIN_FINALS:
        return None
    return (initial, f"{final}{tone}") if initial else (f"{final}{tone}",)


@dataclass
class _Syllable:
    character: str
    base: str
    tone: int
    word: int
    """Number of the word it belongs to."""


def tokenize_mandarin(text: str) -> list[Word | Pause]:
    """Syllables and pauses of a normalised Chinese text; characters without a reading are dropped.

    A digit that normalisation has left over is silent; Latin letters belong to the English side.
    """
    tokens: list[Word | Pause] = []
    for part in re.findall(r"[\u3400-\u4dbf\u4e00-\u9fff\u3007]+|[^\s\w]", text):
        symbol = pause_symbol(part) if len(part) == 1 else None
        if symbol is not None:
            tokens.append(Pause(symbol))
            continue
        for syllable in _sandhi(_read(part)):
            symbols = syllable_symbols(f"{syllable.base}{syllable.tone}")
            if symbols is not None:
                tokens.append(Word(syllable.character, symbols))
    return tokens


def _read(text: str) -> list[_Syllable]:
    """Dictionary readings of Chinese characters, cut into the words of the dictionary."""
    from pypinyin import Style, lazy_pinyin
    from pypinyin.seg.mmseg import seg

    syllables: list[_Syllable] = []
    for number, word in enumerate(seg.cut(text)):
        readings = lazy_pinyin(
            word,
            style=Style.TONE3,
            neutral_tone_with_five=True,
            errors=lambda text: " " * len(text),
        )
        for character, reading in zip(word, readings, strict=False):
            if reading[-1] not in "12345":  # a rare character without a reading
                continue
            syllables.append(_Syllable(character, reading[:-1], int(reading[-1]), number))
    return syllables


def _sandhi(syllables: list[_Syllable]) -> list[_Syllable]:
    """Tone changes of one phrase: 不, 一, then third tones (inside words, then between them)."""
    for index, syllable in enumerate(syllables):
        before = syllables[index - 1] if index else None
        after = syllables[index + 1] if index + 1 < len(syllables) else None
        between_equals = before and after and before.character == after.character
        if syllable.character == "不":
            syllable.tone = 2 if after and after.tone == 4 else 4
            syllable.tone = 5 if between_equals else syllable.tone
        elif syllable.character == "一":
            syllable.tone = 5 if between_equals else _tone_of_one(before, after)
    _third_tones(syllables)
    return syllables


def _third_tones(syllables: list[_Syllable]) -> None:
    """A third tone before another becomes the second.

    Inside words first; a single syllable before a longer word sees that word's changed tone
    (3 2 3), while in a row of single syllables all but the last change (2 2 3).
    """
    lengths = Counter(syllable.word for syllable in syllables)
    original = [syllable.tone for syllable in syllables]
    for a, b in pairwise(syllables):
        if a.word == b.word and a.tone == 3 and b.tone == 3:
            a.tone = 2
    for index, (a, b) in enumerate(pairwise(syllables)):
        following = original[index + 1] if lengths[b.word] == 1 else b.tone
        if a.word != b.word and a.tone == 3 and following == 3:
            a.tone = 2


def _tone_of_one(before: _Syllable | None, after: _Syllable | None) -> int:
    counted = before is not None and before.character in _NUMERALS
    if after is None or counted or after.character in _NUMERALS or after.character in "月号楼":
        return 1
    return 2 if after.tone == 4 or after.character == "个" else 4
