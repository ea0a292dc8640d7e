"""Japanese text with numbers, dates, money, units and symbols written in katakana.

Rules like those of ``normalize_en``. Kanji and kana are left as they are: how kanji are read is
for the model, or for a lexicon.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from mynah.text import numbers_ja as number
from mynah.text.rules import Rule, apply_rules, rule

_NUMBER: Final = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "km/h": "キロメートル毎時", "km": "キロメートル", "cm": "センチメートル",
        "mm": "ミリメートル", "m²": "平方メートル", "m³": "立方メートル", "m": "メートル",
        "kg": "キログラム", "mg": "ミリグラム", "g": "グラム", "t": "トン", "ml": "ミリリットル",
        "mL": "ミリリットル", "L": "リットル", "l": "リットル", "kW": "キロワット", "W": "ワット",
        "V": "ボルト", "Hz": "ヘルツ", "kHz": "キロヘルツ", "MHz": "メガヘルツ",
        "GHz": "ギガヘルツ", "GB": "ギガバイト", "MB": "メガバイト", "KB": "キロバイト",
        "TB": "テラバイト", "dB": "デシベル", "°C": "ド", "°F": "カシド", "°": "ド",
        "%": "パーセント",
    }
)  # fmt: skip
CURRENCIES: Final[Mapping[str, str]] = MappingProxyType(
    {"¥": "円", "￥": "円", "$": "ドル", "US$": "ドル", "€": "ユーロ", "£": "ポンド", "₩": "ウォン"}
)
_MAGNITUDES: Final[Mapping[str, str]] = MappingProxyType(
    {"千": "セン", "万": "マン", "億": "オク", "兆": "チョウ"}
)
_ZEROS: Final[Mapping[str, int]] = MappingProxyType({"千": 3, "万": 4, "億": 8, "兆": 12})
_SYMBOLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "%": "パーセント", "&": "アンド", "@": "アットマーク", "=": "イコール", "+": "プラス",
        "×": "カケル", "÷": "ワル", "±": "プラスマイナス", "#": "シャープ", "°": "ド",
        "¥": "円", "￥": "円", "$": "ドル", "€": "ユーロ", "£": "ポンド", "²": "ノニジョウ",
        "³": "ノサンジョウ", "≈": "ヤク", "*": " ", "_": " ", "^": " ", "|": "、", "`": " ",
        "\\": " ",
    }
)  # fmt: skip


def _names(words: Mapping[str, object]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _date(match: re.Match[str]) -> str:
    month = number.counted(str(int(match["m"])), "月")
    return f"{number.counted(match['y'], '年')}{month}{number.day(match['d'])}"


def _time(match: re.Match[str]) -> str:
    spoken = number.counted(str(int(match["h"])), "時")
    if int(match["m"]):
        spoken += number.counted(str(int(match["m"])), "分")
    if match["s"]:
        spoken += number.counted(str(int(match["s"])), "秒")
    return spoken


def _money(match: re.Match[str]) -> str:
    magnitude = _MAGNITUDES.get(match["magnitude"] or "", "")
    unit = CURRENCIES[match["currency"]]
    if unit == "円" and not magnitude:
        return number.counted(match["n"], "円")
    return f"{number.decimal(match['n'])}{magnitude}{'エン' if unit == '円' else unit}"


def _telephone(match: re.Match[str]) -> str:
    return "ノ".join(number.digits(part) for part in re.findall(r"\d+", match[0]))


def _counted(match: re.Match[str]) -> str:
    return number.counted(match["n"], match["counter"])


def _days(match: re.Match[str]) -> str:
    """A day of the month, or for one day and for more than 31 their number."""
    value = int(match["n"])
    return number.day(match["n"]) if 2 <= value <= 31 else f"{number.cardinal(str(value))}ニチ"


def _great(match: re.Match[str]) -> str:
    plain, magnitude = match["n"].replace(",", ""), match["magnitude"]
    if "." in plain:
        return number.decimal(plain) + _MAGNITUDES[magnitude]
    return number.cardinal(plain.lstrip("0") + "0" * _ZEROS[magnitude])


def _measure(match: re.Match[str]) -> str:
    sign = "マイナス" if match["sign"] else ""
    return f"{sign}{number.decimal(match['n'])}{UNITS[match['unit']]}"


RULES: Final[tuple[Rule, ...]] = (
    rule(r"https?://", ""),
    rule(r"(?<=[A-Za-z0-9])@(?=[A-Za-z0-9])", "アットマーク"),
    rule(r"(?<=[A-Za-z])\.(?=[A-Za-z0-9])|(?<=[0-9])\.(?=[A-Za-z])", "ドット"),
    rule(r"(?<=[A-Za-z])/(?=[A-Za-z])", "スラッシュ"),
    rule(
        r"(?<!\d)(?P<y>\d{4})(?P<sep>[-/.])(?P<m>0?[1-9]|1[0-2])(?P=sep)"
        r"(?P<d>[12]\d|3[01]|0?[1-9])(?!\d)",
        _date,
    ),
    rule(
        r"(?<!\d)(?P<m>0?[1-9]|1[0-2])月(?P<d>[12]\d|3[01]|0?[1-9])日",
        lambda m: number.counted(str(int(m["m"])), "月") + number.day(m["d"]),
    ),
    rule(r"(?<![\d:])(?P<h>[01]?\d|2[0-4]):(?P<m>[0-5]\d)(?::(?P<s>[0-5]\d))?(?![\d:])", _time),
    rule(r"(?<![\d-])0\d{1,4}-\d{1,4}-\d{3,4}(?![\d-])", _telephone),
    rule(r"(?<=〒)\d{3}-\d{4}", _telephone),
    rule(
        rf"(?P<currency>{_names(CURRENCIES)})\s?(?P<n>{_NUMBER})(?P<magnitude>[千万億兆])?", _money
    ),
    rule(
        r"(?<![\d/])(\d{1,4})/(\d{1,4})(?![\d/])",
        lambda m: f"{number.cardinal(m[2])}ブンノ{number.cardinal(m[1])}",
    ),
    rule(rf"(?<=\d)\s?[~〜～\u2013]\s?(?=(?:{_NUMBER}))", "カラ"),
    rule(
        rf"(?P<sign>(?<![A-Za-z0-9.])[-\u2212])?(?<![A-Za-z.\d])(?P<n>{_NUMBER})\s?"
        rf"(?P<unit>{_names(UNITS)})(?![A-Za-z])",
        _measure,
    ),
    rule(r"(?<!\d)(?P<n>[1-9])つ", lambda m: number.things(m["n"])),
    rule(r"(?<![\d.])(?P<n>\d{1,3})日(?!間|本)", _days),
    rule(rf"(?P<n>{_NUMBER})(?P<magnitude>[千万億兆])", _great),
    rule(rf"(?P<n>{_NUMBER})\s?(?P<counter>{_names(number.COUNTERS)})", _counted),
    rule(r"\d+(?:\.\d+){2,}", lambda m: "テン".join(map(number.cardinal, m[0].split(".")))),
    rule(r"(?<=\d)\s?:\s?(?=\d)", "タイ"),
    rule(r"(?<=\d)\s?[*×x]\s?(?=\d)", "カケル"),
    rule(r"(?<![A-Za-z0-9)])[-\u2212](?=\d)", "マイナス"),
    rule(r"(?<=\d)-(?=\d)", "ノ"),
    rule(rf"(?<![\d.])(?:{_NUMBER})", lambda m: number.decimal(m[0])),
    rule(r"\d+", lambda m: number.cardinal(m[0])),
)


def normalize_japanese(text: str) -> str:
    """Write a cleaned Japanese text without digits and symbols; punctuation and words stay."""
    text = apply_rules(RULES, text)
    for symbol, name in _SYMBOLS.items():
        text = text.replace(symbol, name)
    return " ".join(text.split())
