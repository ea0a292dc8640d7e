"""Japanese readings of numbers and counters, in katakana.

Kana and not kanji, so that the reading is certain (四月 is シガツ, 四人 ヨニン).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from mynah.text.rules import words

DIGITS: Final = words("ゼロ イチ ニ サン ヨン ゴ ロク ナナ ハチ キュウ")
_HUNDREDS: Final = words(
    "_ ヒャク ニヒャク サンビャク ヨンヒャク ゴヒャク ロッピャク ナナヒャク ハッピャク キュウヒャク"
)
_THOUSANDS: Final = words(
    "_ セン ニセン サンゼン ヨンセン ゴセン ロクセン ナナセン ハッセン キュウセン"
)
_GROUPS: Final = ("", "マン", "オク", "チョウ", "ケイ")
LONGEST_CARDINAL: Final = 20
_DAYS: Final = words("_ ツイタチ フツカ ミッカ ヨッカ イツカ ムイカ ナノカ ヨウカ ココノカ トオカ")
_THINGS: Final = words("_ ヒトツ フタツ ミッツ ヨッツ イツツ ムッツ ナナツ ヤッツ ココノツ")

# What the last digit becomes before a counter, by the counter's first sound.
_SHORT: Final = {"1": "イッ", "8": "ハッ", "0": "ジュッ"}
_BEFORE_K: Final = {**_SHORT, "6": "ロッ"}
_FOUR_SEVEN_NINE: Final = {"4": "ヨ", "7": "シチ", "9": "ク"}
COUNTERS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = MappingProxyType(
    {
        "年": ("ネン", {"4": "ヨ"}), "月": ("ガツ", {"4": "シ", "7": "シチ", "9": "ク"}),
        "時間": ("ジカン", _FOUR_SEVEN_NINE), "時": ("ジ", _FOUR_SEVEN_NINE),
        "分間": ("フンカン", _BEFORE_K), "分": ("フン", _BEFORE_K), "秒": ("ビョウ", {}),
        "円": ("エン", {"4": "ヨ"}), "人": ("ニン", {"4": "ヨ", "7": "シチ"}),
        "名": ("メイ", {}), "個": ("コ", _BEFORE_K), "回": ("カイ", _BEFORE_K),
        "階": ("カイ", _BEFORE_K), "か月": ("カゲツ", _BEFORE_K), "カ月": ("カゲツ", _BEFORE_K),
        "ヶ月": ("カゲツ", _BEFORE_K), "週間": ("シュウカン", _SHORT), "歳": ("サイ", _SHORT),
        "才": ("サイ", _SHORT), "冊": ("サツ", _SHORT), "本": ("ホン", _BEFORE_K),
        "匹": ("ヒキ", _BEFORE_K), "杯": ("ハイ", _BEFORE_K), "枚": ("マイ", {}),
        "台": ("ダイ", {}), "度": ("ド", {}), "番": ("バン", {}), "号": ("ゴウ", {}),
        "倍": ("バイ", {}), "点": ("テン", _SHORT), "世紀": ("セイキ", _SHORT),
        "日間": ("ニチカン", {}), "ページ": ("ページ", {}), "キロ": ("キロ", {"6": "ロッ"}),
    }
)  # fmt: skip


def digits(text: str) -> str:
    """Digit by digit."""
    return "".join(DIGITS[int(c)] for c in text if c in "0123456789")


def cardinal(text: str) -> str:
    """A whole number given by its digits (thousands separators allowed)."""
    plain = text.replace(",", "")
    if len(plain) > LONGEST_CARDINAL or (len(plain) > 1 and plain.startswith("0")):
        return digits(plain)
    value = int(plain)
    if value == 0:
        return DIGITS[0]
    spoken = ""
    for index in range(len(_GROUPS) - 1, -1, -1):
        group = value // 10_000**index % 10_000
        if group:
            spoken += _grouped(group, index)
    return spoken


def _grouped(group: int, index: int) -> str:
    spoken = _group(group)
    if index and group // 1000 == 1:
        spoken = "イッ" + spoken
    if _GROUPS[index] in {"チョウ", "ケイ"}:
        for long, short in (("イチ", "イッ"), ("ハチ", "ハッ"), ("ジュウ", "ジュッ")):
            if spoken.endswith(long):
                spoken = spoken[: -len(long)] + short
    return spoken + _GROUPS[index]


def _group(value: int) -> str:
    thousands, hundreds, tens, ones = (value // 10**place % 10 for place in (3, 2, 1, 0))
    return "".join(
        (
            _THOUSANDS[thousands] if thousands else "",
            _HUNDREDS[hundreds] if hundreds else "",
            (DIGITS[tens] if tens > 1 else "") + "ジュウ" if tens else "",
            DIGITS[ones] if ones else "",
        )
    )


def decimal(text: str) -> str:
    """A number with an optional fraction: 3.14 -> サンテンイチヨン."""
    whole, point, fraction = text.replace(",", "").partition(".")
    if not point:
        return cardinal(whole)
    return f"{'レイ' if whole in {'', '0'} else cardinal(whole)}テン{digits(fraction)}"


def counted(text: str, counter: str) -> str:
    """A number with its counter, by the sound changes between them."""
    name, changes = COUNTERS[counter]
    plain = text.replace(",", "")
    if counter == "人" and plain in {"1", "2"}:
        return "ヒトリ" if plain == "1" else "フタリ"
    spoken = decimal(plain)
    last = plain[-1]
    if spoken.endswith("ャク") and "6" in changes:
        return f"{spoken[:-1]}ッ{_voiced(name, counter, last)}"
    if "." in plain or (last == "0" and not spoken.endswith("ジュウ")):
        return spoken + name
    if last in changes:
        regular = "ジュウ" if last == "0" else DIGITS[int(last)]
        if spoken.endswith(regular):
            spoken = spoken[: -len(regular)] + changes[last]
    return spoken + _voiced(name, counter, last)


def _voiced(name: str, counter: str, last: str) -> str:
    """The counter's first sound behind the last digit: ホン, ポン, ボン."""
    if counter in {"分", "分間"}:
        return name.replace("フ", "プ", 1) if last in "134680" else name
    if counter == "階" and last == "3":
        return "ガイ"
    if counter in {"本", "匹", "杯"}:
        plain = name[0]
        if last == "3":
            return {"ホ": "ボ", "ヒ": "ビ", "ハ": "バ"}[plain] + name[1:]
        if last in "1680":
            return {"ホ": "ポ", "ヒ": "ピ", "ハ": "パ"}[plain] + name[1:]
    return name


def day(text: str) -> str:
    """A day of the month: 1 is ツイタチ."""
    value = int(text)
    if value <= 10:
        return _DAYS[value]
    if value == 20:
        return "ハツカ"
    if value in {14, 24}:
        return cardinal(str(value - 4)) + "ヨッカ"
    if value % 10 in {7, 9}:
        return cardinal(str(value - value % 10)) + ("シチニチ" if value % 10 == 7 else "クニチ")
    return cardinal(text.lstrip("0")) + "ニチ"


def things(text: str) -> str:
    """一つ to 九つ."""
    return _THINGS[int(text)]
