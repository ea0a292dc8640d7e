"""Chinese words for numbers."""

from __future__ import annotations

from typing import Final

_DIGITS: Final = "零一二三四五六七八九"
_PLACES: Final = ("", "十", "百", "千")
_GROUPS: Final = ("", "万", "亿", "兆")
LONGEST_CARDINAL: Final = 16
"""Longer digit strings are read digit by digit."""


def digits(text: str, *, telephone: bool = False) -> str:
    """Digit by digit; ``telephone`` reads 1 as 幺."""
    spoken = "".join(_DIGITS[int(c)] for c in text if c in "0123456789")
    return spoken.replace("一", "幺") if telephone else spoken


def _group(value: int) -> str:
    """1..9999; 2000 -> 两千, 205 -> 二百零五."""
    spoken, pending_zero = "", False
    for place in (3, 2, 1, 0):
        digit = value // 10**place % 10
        if digit == 0:
            pending_zero = bool(spoken)
            continue
        if pending_zero:
            spoken += "零"
            pending_zero = False
        name = "两" if digit == 2 and place == 3 else _DIGITS[digit]
        spoken += name + _PLACES[place]
    return spoken


def cardinal(text: str) -> str:
    """A whole number given by its digits (thousands separators allowed)."""
    plain = text.replace(",", "").replace("\uff0c", "")
    if len(plain) > LONGEST_CARDINAL or (len(plain) > 1 and plain.startswith("0")):
        return digits(plain)
    value = int(plain)
    if value == 0:
        return "零"
    spoken = ""
    for index in range(3, -1, -1):
        group = value // 10_000**index % 10_000
        if group == 0:
            continue
        if spoken and (group < 1000 or value // 10_000 ** (index + 1) % 10_000 == 0):
            spoken += "零"
        name = "两" if group == 2 and index else _group(group)
        spoken += name + _GROUPS[index]
    return spoken[1:] if spoken.startswith("一十") else spoken


def decimal(text: str) -> str:
    """A number with an optional fraction: 3.14 -> 三点一四."""
    whole, point, fraction = text.replace(",", "").partition(".")
    return cardinal(whole or "0") + (f"点{digits(fraction)}" if point else "")


def counting(text: str) -> str:
    """A number before a measure word: 2 is 两."""
    return "两" if text == "2" else decimal(text)
