"""Chinese text to characters: numbers, dates, times, money, units, symbols.

Rules like those of ``normalize_en``; Latin words inside the text are left to the English side.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from mynah.text import numbers_zh as number
from mynah.text.numbers_en import roman
from mynah.text.rules import Rule, apply_rules, rule

_NUMBER: Final = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "km/h": "公里每小时", "m/s": "米每秒", "km²": "平方公里", "m²": "平方米", "m³": "立方米",
        "cm²": "平方厘米", "cm³": "立方厘米", "km": "公里", "cm": "厘米", "mm": "毫米", "m": "米",
        "nm": "纳米", "kg": "公斤", "mg": "毫克", "g": "克", "t": "吨", "ml": "毫升", "mL": "毫升",
        "L": "升", "l": "升", "kWh": "千瓦时", "kW": "千瓦", "MW": "兆瓦", "W": "瓦", "V": "伏",
        "mAh": "毫安时", "A": "安", "kHz": "千赫兹", "MHz": "兆赫兹", "GHz": "吉赫兹", "Hz": "赫兹",
        "dB": "分贝", "°C": "摄氏度", "°F": "华氏度", "°": "度", "ms": "毫秒", "s": "秒",
        "min": "分钟", "h": "小时", "mph": "英里每小时", "ha": "公顷", "kcal": "千卡",
    }
)  # fmt: skip
CURRENCIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "US$": "美元", "$": "美元", "¥": "元", "￥": "元", "€": "欧元", "£": "英镑", "HK$": "港元",
        "₩": "韩元", "₹": "卢比", "RMB": "元", "CNY": "元",
    }
)  # fmt: skip
_MEASURE_WORDS: Final = (
    "个|位|名(?!单)|只|条|张|本|台|辆|件|家|座|次|遍|天|周|星期|分钟|小时|秒钟|岁|种|部|支|枝|把|双|对|"
    "杯|瓶|碗|块|片|句|页|层|间|栋|艘|架|匹|头|棵|朵|颗|粒|首|篇|封|项|场|届|倍|万|亿|千|公里|公斤|米|元|人|"
    "個|隻|條|張|臺|輛|座|遍|週|小時|歲|種|雙|對|塊|頁|層|間|棟|頭|顆|項|場|屆|萬|億"
)
_CODE_CUES: Final = (
    "电话|手机|号码|热线|拨打|拨|QQ|微信|验证码|密码|编号|房间号?|房号|工号|学号|邮编|航班|车次|"
    "電話|手機|號碼|密碼|編號|郵編"
)
_SYMBOLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "%": "百分号", "&": "和", "@": "艾特", "=": "等于", "+": "加", "×": "乘", "÷": "除以",
        "±": "正负", "°": "度", "²": "平方", "³": "立方", "≈": "约等于", "≤": "小于等于",
        "≥": "大于等于", "≠": "不等于", "<": "小于", ">": "大于", "~": "到", "#": "井号",
        "*": "", "_": "", "^": "", "|": "，", "\\": "", "`": "", "®": "", "©": "",
    }
)  # fmt: skip


def _names(words: Mapping[str, str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _date(match: re.Match[str]) -> str:
    year, month, day = match["y"], str(int(match["m"])), str(int(match["d"]))
    return f"{number.digits(year)}年{number.cardinal(month)}月{number.cardinal(day)}日"


def _time(match: re.Match[str]) -> str:
    hour, minute, second = match["h"], match["m"], match["s"]
    spoken = f"{_clock_hour(hour)}点"
    if int(minute):
        zero = "零" if minute.startswith("0") else ""
        spoken += f"{zero}{number.cardinal(str(int(minute)))}分"
    elif not second:
        spoken += "整"
    if second:
        spoken += f"{number.cardinal(str(int(second)))}秒"
    return spoken


def _clock_hour(hour: str) -> str:
    return number.counting(str(int(hour)))


def _money(match: re.Match[str]) -> str:
    magnitude = match["magnitude"] or ""
    return f"{number.decimal(match['n'])}{magnitude}{CURRENCIES[match['currency']]}"


def _measure(match: re.Match[str]) -> str:
    sign = "负" if match["sign"] else ""
    if match["unit"].startswith("°") and sign:
        return f"零下{number.decimal(match['n'])}{UNITS[match['unit']]}"
    return f"{sign}{number.counting(match['n'])}{UNITS[match['unit']]}"


def _range(match: re.Match[str]) -> str:
    low, high = match[1], match[2]
    if len(low) == 4 and len(high) == 4 and match[3]:
        return f"{number.digits(low)}到{number.digits(high)}{match[3]}"
    return f"{number.decimal(low)}到{number.decimal(high)}{match[3] or ''}"


def _percent(match: re.Match[str]) -> str:
    sign = "负" if match["sign"] else ""
    spoken = f"{sign}百分之{number.decimal(match['n'])}"
    return f"{spoken}到百分之{number.decimal(match['high'])}" if match["high"] else spoken


def _telephone(match: re.Match[str]) -> str:
    return number.digits(match[0], telephone=True)


def _roman(match: re.Match[str]) -> str:
    value = roman(match[0])
    return number.cardinal(str(value)) if value else match[0]


RULES: Final[tuple[Rule, ...]] = (
    rule(r"https?://", ""),
    rule(r"(?<=[A-Za-z0-9])@(?=[A-Za-z0-9])", "艾特"),
    rule(r"(?<=[A-Za-z])\.(?=[A-Za-z0-9])|(?<=[0-9])\.(?=[A-Za-z])", "点"),
    rule(r"No\. ?(?=\d)", "第"),
    rule(r"\b[IVX]{1,4}(?=[期级型类代度])", _roman),
    rule(r"第\s?(\d+)", lambda m: f"第{number.cardinal(m[1])}"),
    # dates and times
    rule(
        r"(?<!\d)(?P<y>\d{4})(?P<sep>[-/.])(?P<m>0?[1-9]|1[0-2])(?P=sep)"
        r"(?P<d>[12]\d|3[01]|0?[1-9])(?!\d)",
        _date,
    ),
    rule(r"(?<!\d)(\d{4})\s?[-~\u2013\u2014到至]\s?(\d{4})(年)", _range),
    rule(r"(?<!\d)(\d{4}|\d{2})\s?(?=年(?!级|龄|薪|利))", lambda m: number.digits(m[1])),
    rule(r"(?<!\d)\d[05](?=后(?!来|面|天|退|悔|果|期|卫|续))", lambda m: number.digits(m[0])),
    rule(r"(?<!\d)\d{4}(?=年代)", lambda m: number.digits(m[0])),
    rule(
        r"(?<![\d:])(?P<h>[01]?\d|2[0-4]):(?P<m>[0-5]\d)(?::(?P<s>[0-5]\d))?(?![\d:])",
        _time,
    ),
    rule(r"(?<![\d.])2(?=点(?!\d)|点钟)", "两"),
    # telephone and other codes
    rule(r"(?<!\d)(?:\+?86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?!\d)", _telephone),
    rule(r"(?<!\d)0\d{2,3}-\d{7,8}(?!\d)", _telephone),
    rule(r"(?<=\d)-(?=\d{3,4}-\d{3,})", ""),
    rule(
        rf"({_CODE_CUES})(号?[是为：: ]{{0,2}})(\d{{3,}})",
        lambda m: f"{m[1]}{m[2]}{number.digits(m[3], telephone=True)}",
    ),
    rule(r"(?<=[A-Z])-?\d{3,4}(?=次|航班|号)", _telephone),
    # percentages, fractions, ratios, money, units
    rule(
        rf"(?P<sign>(?<![A-Za-z0-9.%])[-\u2212])?(?P<n>{_NUMBER})"
        rf"(?:%?\s?[-~\u2013到至]\s?(?P<high>{_NUMBER}))?%",
        _percent,
    ),
    rule(r"(?<![\d/])(\d{1,4})/(\d{1,4})(?![\d/])",
         lambda m: f"{number.cardinal(m[2])}分之{number.cardinal(m[1])}"),
    rule(r"(?<=\d)\s?:\s?(?=\d)", "比"),
    rule(
        rf"(?P<currency>{_names(CURRENCIES)})\s?(?P<n>{_NUMBER})(?P<magnitude>[万亿千])?", _money
    ),
    rule(
        rf"(?<![\d.])({_NUMBER})\s?[-~\u2013\u2014]+\s?({_NUMBER})(?![\d-])({_names(UNITS)})?(?![A-Za-z])",
        lambda m: f"{number.decimal(m[1])}到{number.decimal(m[2])}{UNITS[m[3]] if m[3] else ''}",
    ),
    rule(
        rf"(?P<sign>(?<![A-Za-z0-9.])[-\u2212])?(?<![A-Za-z.\d])(?P<n>{_NUMBER})\s?(?P<unit>{_names(UNITS)})"
        r"(?![A-Za-z/²³])",
        _measure,
    ),
    # plain numbers
    rule(r"(?<=\d)\s?\+\s?(?=\d)", "加"),
    rule(r"(?<=\d)\s?[*×]\s?(?=\d)", "乘"),
    rule(r"(?<=\d)\s?=\s?(?=[\d-])", "等于"),
    rule(r"(?<=\d) ?- ?(?=\d)", "减"),
    rule(r"(?<![A-Za-z0-9)])[-\u2212](?=\d)", "负"),
    rule(r"(?<![\d.,A-Za-z])2(?=\s?(?:多)?(?:" + _MEASURE_WORDS + "))", "两"),
    rule(r"\d+(?:\.\d+){2,}", lambda m: "点".join(number.digits(p) for p in m[0].split("."))),
    rule(rf"(?<![\d.])(?:{_NUMBER})", lambda m: number.decimal(m[0])),
    rule(r"\d+", lambda m: number.cardinal(m[0])),
)  # fmt: skip


def normalize_chinese(text: str, *, cantonese: bool = False) -> str:
    """Write a cleaned Chinese text without digits and symbols; punctuation and Latin words stay.

    Mandarin reads the 1 of a telephone number as 幺, Cantonese as 一.
    """
    written_one = "幺" in text
    text = apply_rules(RULES, text)
    if cantonese and not written_one:
        text = text.replace("幺", "一")
    for symbol, name in _SYMBOLS.items():
        text = text.replace(symbol, name)
    text = re.sub(r"(?<=[\u4e00-\u9fff])\s+(?=[\u4e00-\u9fff])", "", text)
    text = re.sub(r"(?<=[\u4e00-\u9fff])\.(?![\w.])", "。", text)
    return " ".join(text.split())
