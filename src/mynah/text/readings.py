r"""What a pronunciation hint says, in the terms of each kind of model.

One syntax for all models (``mynah.text.markup``); the pronunciation is one of

* pinyin, with tone marks or tone digits: ``háng``, ``hang2``, ``chong2 qing4``; no tone is neutral;
* CMU phones: ``T AH0 M EY1 T OW2`` (stress may be left out);
* a respelling in quotes, in kana or in Hangul: ``"engine x"``, ``かんじ``: read instead.

A model with pronunciation tokens reads pinyin and phones as such. A model without reads a common
character of the same sound (``data/homophones_zh.txt``), and refuses phones. Nothing is ignored.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from mynah.errors import MarkupError
from mynah.text.markup import Hint
from mynah.text.special_tokens import PHONES

_TONE_OF_MARK: Final = {"\u0304": 1, "\u0301": 2, "\u030c": 3, "\u0300": 4}
_MARKS: Final = ("", "\u0304", "\u0301", "\u030c", "\u0300", "")
_INITIALS: Final = re.compile(r"zh|ch|sh|[bpmfdtnlgkhjqxrzcsyw]")
_QUOTED: Final = re.compile(r"[\"\u201c](?P<text>[^\"\u201c\u201d]+)[\"\u201d]")
_KANA_OR_HANGUL: Final = re.compile(r"[\u3041-\u30ff\u31f0-\u31ff\u1100-\u11ff\uac00-\ud7af\s]+")
_HAN: Final = re.compile(r"[\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
HELP: Final = (
    'write pinyin (háng or hang2), CMU phones (T AH0) or a respelling in quotes ("engine x")'
)


@dataclass(frozen=True)
class Syllable:
    """A Mandarin syllable as pinyin spells it, ``ü`` as ``v``; tone 5 is neutral."""

    base: str
    tone: int

    def __str__(self) -> str:
        return f"{self.base}{self.tone}"


@dataclass(frozen=True)
class Pinyin:
    """A pronunciation in Mandarin syllables."""

    syllables: tuple[Syllable, ...]


@dataclass(frozen=True)
class Phones:
    """A pronunciation in CMU phones, stress marks as written."""

    phones: tuple[str, ...]


@dataclass(frozen=True)
class Respelling:
    """Text that is read instead."""

    text: str


Reading = Pinyin | Phones | Respelling


def parse_reading(hint: Hint) -> Reading:
    """What a hint says.

    Raises:
        MarkupError: naming the part that is neither pinyin nor a phone, or a number of syllables
            that does not fit the characters.
    """
    written = hint.phonemes.strip()
    quoted = _QUOTED.fullmatch(written)
    if quoted is not None:
        return Respelling(quoted["text"].strip())
    parts = written.split()
    if not parts:
        raise _error(hint, f"empty pronunciation of {hint.word!r}")
    if _KANA_OR_HANGUL.fullmatch(written):
        return Respelling(written)
    if all(part in PHONES for part in parts):
        return Phones(tuple(parts))
    where = f"in the pronunciation of {hint.word!r}"
    syllables = []
    phones = 0
    for part in parts:
        syllable = parse_syllable(part)
        if syllable is not None:
            syllables.append(syllable)
        elif part in PHONES:
            phones += 1
        else:
            raise _error(hint, f"{part!r} {where} is no syllable and no phoneme")
    if phones:
        raise _error(hint, f"{written!r} {where} mixes syllables and phonemes")
    characters = len(_HAN.findall(hint.word))
    if characters == len(hint.word) != len(syllables):
        raise _error(hint, f"{hint.word!r} has {characters} characters, but {written!r} does not")
    return Pinyin(tuple(syllables))


def parse_syllable(written: str) -> Syllable | None:
    """``háng``, ``hang2`` or ``hang`` (neutral); None if Mandarin has no such syllable."""
    tone, base = 5, ""
    for character in unicodedata.normalize("NFD", written.lower().replace("u:", "v")):
        if character in _TONE_OF_MARK:
            tone = _TONE_OF_MARK[character]
        elif character == "\u0308":
            base = base[:-1] + "v"
        else:
            base += character
    if base[-1:].isdecimal():  # not superscripts, which are no numbers to Python
        tone = int(base[-1]) or 5
        base = base[:-1]
    if base[:1] in {"j", "q", "x", "y"}:
        base = base.replace("v", "u")
    elif base in {"lue", "nue"}:
        base = base[0] + "ve"
    return Syllable(base, tone) if base in _bases() and tone <= 5 else None


def native_tokens(hint: Hint, reading: Pinyin | Phones, known: Collection[str]) -> list[str]:
    """The model's own pronunciation tokens, brackets included (``[h]``, ``[áng]``).

    Raises:
        MarkupError: for a syllable that the model's token list cannot write.
    """
    if isinstance(reading, Phones):
        names = [f"[{phone}]" for phone in reading.phones]
    else:
        names = [name for syllable in reading.syllables for name in _syllable_tokens(syllable)]
    for name in names:
        if name not in known:
            raise _error(
                hint,
                f"the pronunciation of {hint.word!r} needs the token {name}, which this model "
                "does not have",
                cure="give the syllable another tone, or " + HELP,
            )
    return names


def _syllable_tokens(syllable: Syllable) -> list[str]:
    initial = _INITIALS.match(syllable.base)
    start = initial[0] if initial else ""
    final = _marked(syllable.base[len(start) :], syllable.tone)
    return [f"[{part}]" for part in (start, final) if part]


def _marked(final: str, tone: int) -> str:
    """A final with its tone mark in the place where pinyin writes it (``üe`` stays ``vè``)."""
    place = next((final.index(vowel) for vowel in "aeo" if vowel in final), len(final) - 1)
    while place > 0 and final[place] not in "aeiouv":
        place -= 1
    letter = "ü" if final == "v" else final[place]
    marked = f"{final[:place]}{letter}{_MARKS[tone]}{final[place + 1 :]}"
    return unicodedata.normalize("NFC", marked)


def homophones(hint: Hint, reading: Pinyin | Phones) -> str:
    """Characters that sound like the hint, for a model without pronunciation tokens.

    Raises:
        MarkupError: if the reading cannot be written so.
    """
    if isinstance(reading, Phones):
        raise _error(
            hint,
            f"this model reads no phones, but {hint.word!r} is given as {hint.phonemes!r}",
            cure='write how it sounds, in quotes: {"..."}',
        )
    table, characters = _table(), []
    words = hint.word if len(hint.word) == len(reading.syllables) else ""
    for index, syllable in enumerate(reading.syllables):
        if words and usual_reading(words[index]) == str(syllable):
            characters.append(words[index])
            continue
        character = table.get(str(syllable))
        if not character:
            raise _error(
                hint,
                f"no common character sounds like {syllable} for {hint.word!r}",
                cure='write characters that sound like it, in quotes: {"..."}',
            )
        characters.append(character)
    return "".join(characters)


def usual_reading(character: str) -> str:
    """What a Chinese character is read as without context, such as ``hang2``."""
    from pypinyin import Style, lazy_pinyin

    readings = lazy_pinyin(character, style=Style.TONE3, neutral_tone_with_five=True)
    return str(readings[0]).replace("ü", "v") if readings else ""


@functools.cache
def _table() -> dict[str, str]:
    """Syllable with tone digit -> character of that sound, empty where there is none."""
    data = importlib.resources.files("mynah.text") / "data" / "homophones_zh.txt"
    pairs = (line.partition(" ") for line in data.read_text(encoding="utf-8").splitlines())
    return {syllable: character for syllable, _, character in pairs}


@functools.cache
def _bases() -> frozenset[str]:
    return frozenset(syllable[:-1] for syllable in _table()) - {"hng"}


def _error(hint: Hint, message: str, *, cure: str = HELP) -> MarkupError:
    return MarkupError(f"{message} (character {hint.position})", hint=cure, position=hint.position)
