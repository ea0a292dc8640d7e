"""English rules for addresses, dates, times and telephone numbers."""

from __future__ import annotations

import re
from typing import Final

from mynah.text import numbers_en as number
from mynah.text.abbreviations import MONTH_OF, MONTHS
from mynah.text.rules import Rule, rule

_MONTH: Final = "|".join(sorted(map(str.capitalize, MONTH_OF), key=len, reverse=True))
_DAY: Final = r"(?P<day>[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?"
_SIGN_NAMES: Final = {
    ".": "dot", "/": "slash", "@": "at", "-": "dash", "_": "underscore", ":": "colon",
    "?": "question mark", "=": "equals", "&": "and", "#": "hash", "%": "percent", "~": "tilde",
    "+": "plus",
}  # fmt: skip


def _address(match: re.Match[str]) -> str:
    """URL or e-mail address: dots, slashes and the like get names."""
    text = re.sub(r"^(?:https?|ftp)://", "", match[0], flags=re.IGNORECASE)
    trailing = text[len(text.rstrip(".,;:!?)")) :]
    text = text.rstrip(".,;:!?)/")
    text = re.sub(r"\bwww\.", "WWW.", text, flags=re.IGNORECASE)
    text = re.sub(r"\b(?:uk|us|eu|io|ai|tv)\b", lambda m: m[0].upper(), text)
    text = re.sub(r"\d+", lambda m: f" {number.digits(m[0])} ", text)
    spoken = re.sub(r"[^\w\s]|_", lambda m: f" {_SIGN_NAMES.get(m[0], '')} ", text)
    return f" {' '.join(spoken.split())}{trailing} "


def _date(month: str, day: str, year: str | None, *, british: bool = False) -> str:
    ordinal = number.ordinal(str(int(day)))
    spoken = f"the {ordinal} of {month}" if british else f"{month} {ordinal}"
    return f"{spoken}, {number.year(year)}" if year else spoken


def _iso_date(match: re.Match[str]) -> str:
    year, month, day = match.groups()
    return _date(MONTHS[int(month) - 1], day, year)


def _month_day(match: re.Match[str]) -> str:
    return _date(MONTH_OF[match["month"].lower()], match["day"], match["year"])


def _day_month(match: re.Match[str]) -> str:
    return _date(MONTH_OF[match["month"].lower()], match["day"], match["year"], british=True)


def _slash_date(match: re.Match[str]) -> str:
    """American order unless the first number can only be a day."""
    first, second, year = match.groups()
    month, day = (first, second) if int(first) <= 12 else (second, first)
    return _date(MONTHS[int(month) - 1], day, year) if int(month) <= 12 else match[0]


def _clock(match: re.Match[str]) -> str:
    hour, minute = str(int(match["h"])), match["m"]
    half = f" {match['half'][0].upper()}M" if match["half"] else ""
    spoken = number.cardinal(hour)
    if int(minute):
        spoken += f" {'oh ' if minute.startswith('0') else ''}{number.cardinal(str(int(minute)))}"
    elif not half:
        spoken += " o'clock" if 0 < int(hour) <= 12 else " hundred hours"
    return spoken + half


def _duration(match: re.Match[str]) -> str:
    def counted(amount: str, unit: str) -> str:
        value = int(amount)
        return f"{number.cardinal(str(value))} {unit}{'' if value == 1 else 's'}"

    hours, minutes, seconds = match.groups()
    return (
        f"{counted(hours, 'hour')}, {counted(minutes, 'minute')}, and {counted(seconds, 'second')}"
    )


def _phone(match: re.Match[str]) -> str:
    plus = "plus " if match[0].startswith("+") else ""
    return plus + ", ".join(number.digits(group) for group in re.findall(r"\d+", match[0]))


ADDRESS_RULES: Final[tuple[Rule, ...]] = (
    rule(r"(?:https?://|\bwww\.)[^\s<>\"]+", _address, re.IGNORECASE),
    rule(r"\b[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+", _address),
    rule(
        r"(?<![\w.-])(?:[a-z0-9-]{1,63}\.){1,5}(?:com|org|net|edu|gov|io|ai|dev|co\.uk)\b"
        r"(?:/[^\s<>\"]*)?",
        _address,
        re.IGNORECASE,
    ),
)
DATE_RULES: Final[tuple[Rule, ...]] = (
    rule(r"\b(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])\b", _iso_date),
    rule(r"\b(0?[1-9]|[12]\d|3[01])/(0?[1-9]|[12]\d|3[01])/(\d{4})\b", _slash_date),
    rule(
        rf"\b(?P<month>{_MONTH})\b\.? {_DAY}\b(?![:.,]\d)(?:,? (?P<year>\d{{4}})\b)?",
        _month_day,
    ),
    rule(
        rf"\b(?:the )?{_DAY}(?: of)? (?P<month>{_MONTH})\b\.?(?:,? (?P<year>\d{{4}})\b)?",
        _day_month,
    ),
    rule(r"\b(\d{1,2}):([0-5]\d):([0-5]\d)\b", _duration),
    rule(
        r"\b(?P<h>[01]?\d|2[0-4]):(?P<m>[0-5]\d)(?![:\d])"
        r"(?:\s?(?P<half>[ap](?:m\b|\.\s?m\b)(?:\.(?!\s+(?-i:[A-Z])|\s*$))?))?",
        _clock,
        re.IGNORECASE,
    ),
    rule(
        r"\b(1[0-2]|[1-9])(?:(?=-\d{1,2} ?[ap]m\b)|\s?([ap])(?:m\b|\.\s?m\b)"
        r"(?:\.(?!\s+(?-i:[A-Z])|\s*$))?)",
        lambda m: number.cardinal(m[1]) + (f" {m[2].upper()}M" if m[2] else ""),
        re.IGNORECASE,
    ),
    rule(r"(?<=\b[AP]M)\s?[-\u2013]\s?(?=\w)", " to "),
)
PHONE_RULES: Final[tuple[Rule, ...]] = (
    rule(r"\+\d{1,3}[ -]?\(?\d{2,4}\)?(?:[ -]\d{2,4}){1,4}\b", _phone),
    rule(r"(?:\(\d{3}\) ?|\b\d{3}[-. ])\d{3}[-.]\d{4}\b", _phone),
    rule(r"(?<![\d-])\d{3}-\d{4}(?![\d-])", _phone),
)
