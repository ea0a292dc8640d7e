"""Korean text with numbers, dates, money, units and symbols written in Hangul.

Rules like those of ``normalize_en``; other words are left as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from mynah.text import numbers_ko as number
from mynah.text.rules import Rule, apply_rules, rule

_NUMBER: Final = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "km/h": "킬로미터 매시", "km": "킬로미터", "cm": "센티미터", "mm": "밀리미터",
        "m²": "제곱미터", "m³": "세제곱미터", "m": "미터", "kg": "킬로그램", "mg": "밀리그램",
        "g": "그램", "t": "톤", "ml": "밀리리터", "mL": "밀리리터", "L": "리터", "l": "리터",
        "kW": "킬로와트", "W": "와트", "V": "볼트", "Hz": "헤르츠", "kHz": "킬로헤르츠",
        "MHz": "메가헤르츠", "GHz": "기가헤르츠", "GB": "기가바이트", "MB": "메가바이트",
        "KB": "킬로바이트", "TB": "테라바이트", "dB": "데시벨", "°C": "도", "°F": "화씨 도",
        "°": "도", "%": "퍼센트",
    }
)  # fmt: skip
CURRENCIES: Final[Mapping[str, str]] = MappingProxyType(
    {"₩": "원", "$": "달러", "US$": "달러", "€": "유로", "£": "파운드", "¥": "엔", "￥": "엔"}
)
_SYMBOLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "%": " 퍼센트", "&": " 앤드 ", "@": " 골뱅이 ", "=": " 는 ", "+": " 더하기 ",
        "×": " 곱하기 ", "÷": " 나누기 ", "±": " 플러스마이너스 ", "#": " 샵 ", "°": "도",
        "₩": "원", "$": "달러", "€": "유로", "£": "파운드", "¥": "엔", "￥": "엔",
        "²": " 제곱", "³": " 세제곱", "*": " ", "_": " ", "^": " ", "|": ", ", "`": " ",
        "\\": " ",
    }
)  # fmt: skip


def _names(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _date(match: re.Match[str]) -> str:
    day = number.cardinal(str(int(match["d"])))
    return f"{number.cardinal(match['y'])}년 {number.month(match['m'])} {day}일"


def _time(match: re.Match[str]) -> str:
    hour = str(int(match["h"]))
    spoken = f"{number.native(hour) if 1 <= int(hour) <= 12 else number.cardinal(hour)} 시"
    if int(match["m"]):
        spoken += f" {number.cardinal(str(int(match['m'])))} 분"
    if match["s"]:
        spoken += f" {number.cardinal(str(int(match['s'])))} 초"
    return spoken


def _hour(match: re.Match[str]) -> str:
    hour = match[1]
    return f"{number.native(hour) if 1 <= int(hour) <= 12 else number.cardinal(hour)} 시"


def _money(match: re.Match[str]) -> str:
    return f"{number.decimal(match['n'])}{match['magnitude'] or ''} {CURRENCIES[match['currency']]}"


def _telephone(match: re.Match[str]) -> str:
    return " ".join(number.digits(part) for part in re.findall(r"\d+", match[0]))


def _measure(match: re.Match[str]) -> str:
    sign = "마이너스 " if match["sign"] else ""
    return f"{sign}{number.decimal(match['n'])} {UNITS[match['unit']]}"


RULES: Final[tuple[Rule, ...]] = (
    rule(r"https?://", ""),
    rule(r"(?<=[A-Za-z0-9])@(?=[A-Za-z0-9])", " 골뱅이 "),
    rule(r"(?<=[A-Za-z])\.(?=[A-Za-z0-9])|(?<=[0-9])\.(?=[A-Za-z])", " 닷 "),
    rule(r"(?<=[A-Za-z])/(?=[A-Za-z])", " 슬래시 "),
    rule(
        r"(?<!\d)(?P<y>\d{4})(?P<sep>[-/.])\s?(?P<m>0?[1-9]|1[0-2])(?P=sep)\s?"
        r"(?P<d>[12]\d|3[01]|0?[1-9])(?!\d)",
        _date,
    ),
    rule(r"(?<!\d)(0?[1-9]|1[0-2])월", lambda m: number.month(m[1])),
    rule(r"(?<![\d:])(?P<h>[01]?\d|2[0-4]):(?P<m>[0-5]\d)(?::(?P<s>[0-5]\d))?(?![\d:])", _time),
    rule(r"(?<![\d.])(\d{1,2})시(?!간)", _hour),
    rule(r"(?<![\d-])0\d{1,2}-\d{3,4}-\d{4}(?![\d-])|(?<!\d)01\d{8,9}(?!\d)", _telephone),
    rule(
        rf"(?P<currency>{_names(CURRENCIES)})\s?(?P<n>{_NUMBER})(?P<magnitude>[천만억조])?", _money
    ),
    rule(
        r"(?<![\d/])(\d{1,4})/(\d{1,4})(?![\d/])",
        lambda m: f"{number.cardinal(m[2])}분의 {number.cardinal(m[1])}",
    ),
    rule(rf"(?<=\d)\s?[~〜\u2013]\s?(?=(?:{_NUMBER}))", "에서 "),
    rule(
        rf"(?P<sign>(?<![A-Za-z0-9.])[-\u2212])?(?<![A-Za-z.\d])(?P<n>{_NUMBER})\s?"
        rf"(?P<unit>{_names(UNITS)})(?![A-Za-z])",
        _measure,
    ),
    rule(
        rf"(?<![\d.,])(\d{{1,2}})\s?({_names(number.NATIVE_COUNTERS)})(?!월)",
        lambda m: f"{number.native(m[1])} {m[2]}",
    ),
    rule(r"\d+(?:\.\d+){2,}", lambda m: " 점 ".join(map(number.cardinal, m[0].split(".")))),
    rule(r"(?<=\d)\s?:\s?(?=\d)", " 대 "),
    rule(r"(?<=\d)\s?[*×x]\s?(?=\d)", " 곱하기 "),
    rule(r"(?<![A-Za-z0-9)])[-\u2212](?=\d)", "마이너스 "),
    rule(r"(?<=\d)-(?=\d)", "에 "),
    rule(rf"(?<![\d.])(?:{_NUMBER})", lambda m: number.decimal(m[0])),
    rule(r"\d+", lambda m: number.cardinal(m[0])),
)


def normalize_korean(text: str) -> str:
    """Write a cleaned Korean text without digits and symbols; punctuation and words stay."""
    text = apply_rules(RULES, text)
    for symbol, name in _SYMBOLS.items():
        text = text.replace(symbol, name)
    return " ".join(text.split())
