"""Text that arrives in pieces of any size, handed on in segments that can be read at once.

A language model types text a few characters at a time; a speech model that listens along wants
every word as soon as it is certain. A segment ends only where nothing that is still to come can
change how it is normalised or tokenised: before the space after a word, or behind a Chinese or
Japanese character. These stay together:

* a word, an address, a character with its punctuation and its combining marks;
* markup: ``[laughter]``, ``[重](chong2)``, ``行{háng}``, ``<strong>``, escapes, control markers;
* a number with the words that decide how it is read: ``$5 million``, ``May 5, 2024``, ``第3名``;
* an abbreviation with the next word, and the words of a lexicon entry.

The segments are always the shortest ones, so they do not depend on how the text was cut before.
Little is held back, at most about ``2 * _LONGEST`` characters, so any input takes linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from mynah.text.abbreviations import BEFORE_NUMBER, GENERAL, MAGNITUDES, MONTH_OF, TITLES, UNITS
from mynah.text.rules import words

_LONGEST: Final = 256
"""Longest segment; what holds no boundary for so long is no text and is cut anywhere."""
_WIDE: Final = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3005\u3007\U00020000-\U0003ffff"  # fmt: skip # noqa: E501
_OPEN: Final = "<\uff1c\ufe64"
_CLOSE: Final = ">\uff1e\ufe65"
_OPENERS: Final = "([\u300c\u300e\u300a\u3010\uff08\u3008\u201c\u2018\"'$\u00a5\uffe5-"
_TOKEN: Final = re.compile(
    rf"""
      (?P<escape>\\(?:[\[\]<>{{}}\\]|\Z)?)
    | (?P<group>
          \[[^\[\]\n]{{1,64}}\](?:\([^()\n]{{1,200}}\))?
        | [{_OPEN}][^{_CLOSE}\n]{{0,100}}[{_CLOSE}]
        | \{{[^{{}}\n]{{1,200}}\}})
    | (?P<open>
          \[[^\[\]\n]{{0,64}}\Z | \[[^\[\]\n]{{1,64}}\]\([^()\n]{{0,200}}\Z
        | [{_OPEN}][^{_CLOSE}\n]{{0,100}}\Z | \{{[^{{}}\n]{{0,200}}\Z)
    | (?P<space>\s+)
    | (?P<wide>[{_WIDE}])
    | (?P<word>[^\s\\\[{{{_OPEN}{_WIDE}]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_NUMERIC: Final = re.compile(r"[\d$€£¥￥₩₹¢%#\u00bc-\u00be\u2150-\u215e]|\A[+\-\u2212~'.]\Z")
_NUMBER_BEGINS: Final = re.compile(
    r"[^\w\s]{0,3}[\d$\u20ac\u00a3\u00a5\uffe5\u20a9\u20b9\u00bc-\u00be\u2150-\u215e]"
)
_UNDECIDED: Final = re.compile(r"[^\w\s]{1,3}")
_ROMAN: Final = re.compile(r"[IVX]+")
_WORDS_BEFORE: Final = frozenset(
    (*words("in since until till by from before after during around circa year of and late early"),
     *words("mid spring summer autumn fall winter no version about"),
     *MONTH_OF, *(name.lower().rstrip(".") for name in BEFORE_NUMBER))
)  # fmt: skip
_WORDS_AFTER: Final = frozenset(
    (*words("a.m p.m am pm bc ad bce ce o'clock to and - – — x × * / : = < > + kst utc gmt"),
     *(name.lower() for name in (*MONTH_OF, *MAGNITUDES, *UNITS)))
)  # fmt: skip
_ABBREVIATIONS: Final = frozenset((*BEFORE_NUMBER, *GENERAL, *TITLES, "St"))
_INITIALS: Final = re.compile(r"(?:[A-Za-z]\.)+")
_WIDE_REACH: Final = 3
"""Characters behind a number that decide how it is read (90后来, 2公里)."""
_CUES: Final = (
    "第", "电话", "手机", "号码", "热线", "拨打", "微信", "验证码", "密码", "编号", "房间号",
    "房号", "工号", "学号", "邮编", "航班", "车次", "電話", "電話番号", "郵便番号", "午前", "午後",
)  # fmt: skip
_PARTS_OF_CUES: Final = sorted({c[:n] for c in _CUES for n in range(1, len(c))}, key=len)[::-1]
_CUE: Final = re.compile(
    f"(?:QQ|{'|'.join(_CUES)})(?:号码|号|號碼)?[是为は：:\\s]{{0,2}}(?=\\d|\\Z)"
    f"|(?:{'|'.join(_PARTS_OF_CUES)})\\Z|[上下负負到至約约、：/.,-](?=\\d|\\Z)"
)
"""Announces a number, or may do so once more text is known."""


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    end: int

    @property
    def numeric(self) -> bool:
        return self.kind == "word" and _NUMERIC.search(self.text) is not None

    @property
    def bare(self) -> str:
        return self.text.strip(",;:!?()\"'").rstrip(".").lower()


class TextFeed:
    """Cuts text as it comes. Not safe to share between threads.

    The segments and what ``finish`` returns join to the whole text.
    """

    def __init__(self, phrases: Iterable[str] = ()) -> None:
        """Keep also these phrases whole (entries of a lexicon)."""
        self._phrases: dict[str, list[str]] = {}
        for phrase in phrases:
            folded = phrase.casefold()
            if len(folded) == len(phrase) > 1:
                self._phrases.setdefault(folded[0], []).append(folded)
        self._longest_phrase = max((len(p) for ps in self._phrases.values() for p in ps), default=0)
        self.held = ""
        """What came and waits for more."""

    def feed(self, piece: str) -> list[str]:
        """Add text; the segments that can be read now."""
        segments: list[str] = []
        for start in range(0, len(piece), _LONGEST):
            self.held += piece[start : start + _LONGEST]
            segments += self._cut()
        return segments

    def finish(self) -> list[str]:
        """What is left, in no segment or one; afterwards the feed is as new."""
        rest = [self.held] if self.held else []
        self.held = ""
        return rest

    def _cut(self) -> list[str]:
        segments = []
        while len(self.held) > 1:
            ends = self._boundaries()
            if not ends or ends[0] > _LONGEST:
                if len(self.held) <= 2 * _LONGEST:
                    break
                ends = [_LONGEST]
            segments += [self.held[start:end] for start, end in pairwise([0, *ends])]
            self.held = self.held[ends[-1] :]
        return segments

    def _boundaries(self) -> list[int]:
        """All places where the held text can be cut."""
        tokens = [_Token(m.lastgroup or "", m[0], m.end()) for m in _TOKEN.finditer(self.held)]
        closed = _closed_by_numbers(tokens)
        cues = [m.span() for m in _CUE.finditer(self.held)]
        return [
            tokens[index].end
            for index in range(len(tokens) - 1)
            if _separable(tokens[index], tokens[index + 1])
            and not closed[index]
            and not any(start < tokens[index].end <= stop for start, stop in cues)
            and not self._inside_phrase(tokens[index].end)
        ]

    def _inside_phrase(self, end: int) -> bool:
        if not self._phrases:
            return False
        first = max(0, end - self._longest_phrase)
        around = self.held[first : end + self._longest_phrase].casefold()
        for start in range(end - first):
            for phrase in self._phrases.get(around[start], ()):
                known = around[start : start + len(phrase)]
                if start + len(phrase) > end - first and phrase.startswith(known):
                    return True
        return False


def _separable(before: _Token, after: _Token) -> bool:
    """Whether tokenisers see a boundary between two neighbours, whatever they mean."""
    if before.kind in {"open", "escape"} or after.kind == "open" or after.text.startswith("{"):
        return False
    if after.kind == "space":
        return before.kind != "space"
    if after.kind == "group":
        return before.kind != "space"
    if before.kind == "wide":
        return after.kind == "wide" or (after.kind == "word" and after.text[0].isalnum())
    if after.kind == "wide":
        return before.kind in {"group", "word"} and before.text[-1] not in _OPENERS
    return before.kind == "group" and after.kind == "word" and after.text[0].isalnum()


def _closed_by_numbers(tokens: list[_Token]) -> list[bool]:
    """For the boundary behind each token: whether a number or an abbreviation reaches across it."""
    closed = [False] * len(tokens)
    spoken = [index for index, token in enumerate(tokens) if token.kind != "space"]
    for here, following in pairwise([*spoken, len(tokens)]):
        known = following < len(tokens)
        if _needs_next(tokens[here], tokens[following] if known else None):
            for index in range(here, min(following, len(tokens))):
                closed[index] = True
    _close_behind_numbers(tokens, spoken, closed)
    return closed


def _needs_next(token: _Token, following: _Token | None) -> bool:
    """Whether a word and the one after it are read together, if that one is known."""
    if token.kind != "word" or (following is not None and following.kind == "wide"):
        return False
    if token.text.endswith(".") and (
        token.text.rstrip(".") in _ABBREVIATIONS or _INITIALS.fullmatch(token.text)
    ):
        return True
    announces = token.bare in _WORDS_BEFORE or token.text.isupper()
    if not announces and not token.text[:1].isupper():
        return False
    if following is None or following.kind == "open" or _UNDECIDED.fullmatch(following.text):
        return True
    if announces and _NUMBER_BEGINS.match(following.text):
        return True
    # Henry VIII, Baker St.
    return token.text[:1].isupper() and (
        _ROMAN.match(following.text) is not None or following.text.rstrip(".,") in {"S", "St"}
    )


def _close_behind_numbers(tokens: list[_Token], spoken: list[int], closed: list[bool]) -> None:
    """A number is read with the next word, or with the next characters of a wide script."""
    reach = 0
    for position, index in enumerate(spoken):
        token = tokens[index]
        following = spoken[position + 1] if position + 1 < len(spoken) else len(tokens)
        if token.numeric or (reach and token.bare in _WORDS_AFTER):
            reach = _WIDE_REACH
        elif reach:
            # an unfinished last word may still become a unit
            unfinished = index == len(tokens) - 1 and token.kind == "word"
            reach = reach - 1 if token.kind == "wide" else _WIDE_REACH if unfinished else 0
        if reach:
            for between in range(index, following):
                closed[between] = True
