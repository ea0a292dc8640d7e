"""English words for numbers (American usage: no "and" inside a number)."""

from __future__ import annotations

import re
from typing import Final

from mynah.text.rules import words

_UNITS: Final = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
_TENS: Final = words("_ _ twenty thirty forty fifty sixty seventy eighty ninety")
_SCALES: Final = ("", "thousand", "million", "billion", "trillion", "quadrillion", "quintillion")
_IRREGULAR_ORDINALS: Final = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_ROMAN_VALUES: Final = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_ROMAN: Final = re.compile(
    r"M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})", re.ASCII
)
LONGEST_CARDINAL: Final = 15
"""Longer digit strings are read digit by digit."""


def digits(text: str) -> str:
    """Digit by digit; other characters are dropped."""
    return " ".join(_UNITS[int(c)] for c in text if c in "0123456789")


def _below_thousand(value: int) -> list[str]:
    words: list[str] = []
    if value >= 100:
        words += [_UNITS[value // 100], "hundred"]
        value %= 100
    if value >= 20:
        words.append(_TENS[value // 10])
        value %= 10
        if value:
            words.append(_UNITS[value])
    elif value:
        words.append(_UNITS[value])
    return words


def cardinal(text: str) -> str:
    """A whole number given by its digits (thousands separators allowed)."""
    plain = text.replace(",", "")
    if len(plain) > LONGEST_CARDINAL or (len(plain) > 1 and plain.startswith("0")):
        return digits(plain)
    value = int(plain)
    if value == 0:
        return "zero"
    groups: list[int] = []
    while value:
        value, group = divmod(value, 1000)
        groups.append(group)
    words: list[str] = []
    for index in range(len(groups) - 1, -1, -1):
        if groups[index]:
            words += _below_thousand(groups[index])
            words += [_SCALES[index]] if index else []
    return " ".join(words)


def decimal(text: str) -> str:
    """A number with an optional fraction: ``3.14`` -> three point one four."""
    whole, point, fraction = text.partition(".")
    words = cardinal(whole) if whole else ""
    return f"{words} point {digits(fraction)}".strip() if point else words


def ordinal_of(words: str) -> str:
    """The ordinal of a number in words: twenty one -> twenty first."""
    *head, last = words.split()
    if last in _IRREGULAR_ORDINALS:
        last = _IRREGULAR_ORDINALS[last]
    else:
        last = last[:-1] + "ieth" if last.endswith("y") else last + "th"
    return " ".join((*head, last))


def ordinal(text: str) -> str:
    """The ordinal of a whole number given by its digits."""
    return ordinal_of(cardinal(text))


def year(text: str) -> str:
    """A year of three or four digits: 1905 -> nineteen oh five, 2000 -> two thousand."""
    value = int(text)
    if len(text) != 4 or value % 1000 < 10 or value < 1000:
        return cardinal(text)
    head, tail = divmod(value, 100)
    if tail == 0:
        return f"{cardinal(str(head))} hundred"
    return f"{cardinal(str(head))} {'oh ' if tail < 10 else ''}{cardinal(str(tail))}"


def plural(words: str) -> str:
    """The plural of the last word: nineteen ninety -> nineteen nineties."""
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith(("x", "s", "z")) else "s")


def fraction(numerator: str, denominator: str) -> str:
    """A fraction: 1/2 -> one half, 3/4 -> three quarters, 7/16 -> seven sixteenths."""
    top, bottom = int(numerator), int(denominator)
    if bottom == 0 or bottom == 1 or bottom > 100:
        return f"{cardinal(numerator)} over {cardinal(denominator)}"
    name = {2: "half", 4: "quarter"}.get(bottom) or ordinal(str(bottom))
    if top != 1:
        name = "halves" if bottom == 2 else name + "s"
    return f"{cardinal(str(top))} {name}"


def roman(text: str) -> int | None:
    """Value of a canonical upper-case Roman numeral; None if it is none."""
    if not text or not _ROMAN.fullmatch(text):
        return None
    values = [_ROMAN_VALUES[c] for c in text]
    return sum(
        -v if following > v else v for v, following in zip(values, [*values[1:], 0], strict=True)
    )
