"""English text to words: numbers, dates, times, money, units, abbreviations, symbols.

A fixed list of rules, each a regular expression without nested repetition (linear time), applied in
order. What no rule knows is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from mynah.text import numbers_en as number
from mynah.text.abbreviations import (
    BEFORE_NUMBER,
    CURRENCIES,
    GENERAL,
    MAGNITUDES,
    MONTHS,
    TITLES,
    UNITS,
)
from mynah.text.dates_en import ADDRESS_RULES, DATE_RULES, PHONE_RULES
from mynah.text.rules import Rule, apply_rules, rule, words

_NUMBER: Final = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_REGNAL: Final = (
    "Louis|Henry|Charles|George|Edward|William|James|John|Paul|Elizabeth|Richard|Philip|Napoleon|"
    "Pius|Benedict|Gregory|Leo|Catherine|Alexander|Nicholas|Frederick|Ramses|Francis|Ferdinand|"
    "Felipe|Innocent|Clement|Urban|Mary|Margaret|Christian|Gustav|Ivan|Peter|Wilhelm|Otto"
)
_COUNTED: Final = (
    "[Cc]hapter|[Pp]art|[Vv]olume|[Ss]ection|[Aa]ct|[Ss]cene|War|Book|Phase|Type|Class|Bowl"
)
_YEAR_CUES: Final = "|".join(
    (*words("in since until till by from before after during around circa year of and late"),
     *words("early mid spring summer autumn fall winter"), *MONTHS)
)  # fmt: skip
_SYMBOLS: Final = {
    "&": " and ", "@": " at ", "%": " percent ", "=": " equals ", "+": " plus ", "×": " times ",
    "÷": " divided by ", "±": " plus or minus ", "°": " degrees ", "§": " section ",
    "¢": " cents ", "|": ", ", "•": ", ", "→": ", ", "∞": " infinity ", "√": " square root of ",
    "≈": " approximately ", "≤": " at most ", "≥": " at least ", "≠": " is not ",
    "²": " squared ", "³": " cubed ",
}  # fmt: skip


def _names(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _spoken(text: str) -> str:
    return number.decimal(text.replace(",", ""))


def _counted(amount: str, singular: str, plural: str) -> str:
    return f"{_spoken(amount)} {singular if amount == '1' else plural}"


def _money(match: re.Match[str]) -> str:
    unit, units, part, parts = CURRENCIES[match["currency"]]
    amount, magnitude = match["amount"], match["magnitude"]
    sign = "minus " if match["sign"] else ""
    if magnitude:
        return f"{sign}{_spoken(amount)} {MAGNITUDES[magnitude]} {units}"
    whole, _, cents = amount.partition(".")
    if cents and len(cents) != 2:
        return f"{sign}{_spoken(amount)} {units}"
    spoken = [_counted(whole, unit, units)] if whole.strip("0") or not int(cents or 0) else []
    if cents and int(cents):
        spoken.append(_counted(str(int(cents)), part, parts))
    return sign + " and ".join(spoken)


def _measure(match: re.Match[str]) -> str:
    sign = "minus " if match["sign"] else ""
    singular, plural = UNITS[match["unit"]]
    return sign + _counted(match["n"], singular, singular if match["hyphen"] else plural)


def _general(match: re.Match[str]) -> str:
    ends = match["end"] is not None or (
        match["capital"] is not None and match[1] in {"etc", "Inc", "Ltd", "Co", "Corp"}
    )
    return GENERAL[match[1]] + ("." if ends else "")


def _decade(match: re.Match[str]) -> str:
    text = match["decade"]
    if len(text) == 2:
        return number.plural(number.cardinal(text)) if text[0] != "0" else f"two thousand{text}s"
    if text == "2000":
        return "two thousands"
    if text[2:] == "00":
        return f"{number.cardinal(text[:2])} hundreds"
    return f"{number.cardinal(text[:2])} {number.plural(number.cardinal(text[2:]))}"


def _four_digits(match: re.Match[str]) -> str:
    text = match[0]
    return number.year(text) if "1100" <= text <= "2099" else number.cardinal(text)


def _range(match: re.Match[str]) -> str:
    low, high = match[1], match[2]
    if len(low) == 4 and "1100" <= low <= "2099" and len(high) in {2, 4}:
        end = number.year(high) if len(high) == 4 else number.cardinal(high)
        return f"{number.year(low)} to {end}"
    return f"{_spoken(low)} to {_spoken(high)}"


def _roman(match: re.Match[str]) -> str:
    cue, text = match["cue"], match["roman"]
    regnal = re.fullmatch(_REGNAL, cue) is not None
    counted = re.fullmatch(_COUNTED, cue) is not None
    value = number.roman(text)
    if value is None or (len(text) == 1 and not counted and not (regnal and text in "VX")):
        return match[0]
    spoken = number.cardinal(str(value))
    return f"{cue} the {number.ordinal_of(spoken)}" if regnal else f"{cue} {spoken}"


def _mixed(match: re.Match[str]) -> str:
    whole = f"{number.cardinal(match['whole'])} and " if match["whole"] else ""
    spoken = number.fraction(match["top"], match["bottom"])
    return whole + (spoken.replace("one ", "a ", 1) if whole else spoken)


def _ratio_or_date(match: re.Match[str]) -> str:
    return f"{_spoken(match[1])} to {_spoken(match[2])}"


def _long_digits(match: re.Match[str]) -> str:
    return number.cardinal(match[0])


def _joined_letters(match: re.Match[str]) -> str:
    return match[0].replace(".", "").upper()


# Before a capital their last full stop may end a sentence; after other initials a name goes on.
_MAY_END: Final = r"(?:U\.S|U\.K|E\.U|B\.C|A\.D|D\.C|[AP]\.M)\."
ABBREVIATION_RULES: Final[tuple[Rule, ...]] = (
    rule(r"(?<=[a-z] )St\.(?=\s*$|\s+[A-Z])(?!\s+(?:Louis|Paul|Peter|John|James|Mary))", "Street."),
    rule(r"\bSt\.\s+(?=[A-Z])", "Saint "),
    rule(r"(?<=[a-z] )St\b\.?(?=\s+[a-z]|,)", "Street"),
    rule(rf"\b({_names(BEFORE_NUMBER)})\.\s?(?=\d)", lambda m: f"{BEFORE_NUMBER[m[1]]} "),
    rule(rf"\b({_names(TITLES)})\.(?=[\s,;:!?)]|$)", lambda m: TITLES[m[1]]),
    rule(r"\b(Mr|Mrs|Ms|Dr)(?= [A-Z])", lambda m: TITLES[m[1]]),
    rule(
        rf"(?<![\w.])({_names(GENERAL)})\.(?:(?P<end>\s*$)|(?=(?P<capital>\s+[A-Z]))|(?![\w.]))",
        _general,
    ),
    rule(r"(?<![\w.])(?:[A-Za-z]\.){2,9}(?=\s+[a-z\d]|[,;:?!)])", _joined_letters),
    rule(rf"(?<![\w.])(?!{_MAY_END})(?:[A-Z]\.){{2,9}}(?=\s+[A-Z])", _joined_letters),
    rule(r"(?<=\b[A-HJ-Z])(?<![a-z]\s[A-Z])\.(?=\s[A-Z])", ""),
    rule(r"\b(?P<before>[A-Z][a-z]+ [A-HJ-Z])\.(?=\s[A-Z])", r"\g<before>"),
    rule(
        r"(?<![\w.])[A-Za-z](?:\.[A-Za-z]){1,9}(?!\w)", _joined_letters
    ),
    rule(r"\bw/o\b", "without"),
    rule(r"\bw/(?=[\s\w])", "with "),
    rule(r"\b24/7\b", "twenty four seven"),
    rule(r"\b([A-Za-z]+)/(?=[A-Za-z])", r"\1 "),
    rule(r"(?<=\b[CG])\+\+", " plus plus"),
    rule(r"\b([CF])#", r"\1 sharp"),
)  # fmt: skip
_DASH: Final = r"\s?[-\u2012\u2013]\s?"
NUMBER_RULES: Final[tuple[Rule, ...]] = (
    rule(r"\bv(?=\d)", "version "),
    rule(r"(?<=[A-Za-z]-)\d+(?=s\b)", lambda m: f"{number.plural(number.cardinal(m[0]))}|"),
    rule(r"(?<=\w)\|s\b", ""),
    rule(r"(?<=[A-Za-z])-(?=\d)", " "),
    rule(rf"(?<=\d){_DASH}(?=[{''.join(c for c in CURRENCIES if len(c) == 1)}])", " to "),
    rule(rf"(?<=[%CF\u00b0]){_DASH}(?=\d)", " to "),
    rule(
        rf"(?<![\w.,-])({_NUMBER}){_DASH}(?=(?:{_NUMBER})\s?(?:{_names(UNITS)}|%)(?!\w))",
        lambda m: f"{_spoken(m[1])} to ",
    ),
    rule(
        rf"(?P<sign>(?<![\w.])[-\u2212])?(?P<currency>{_names(CURRENCIES)}) ?(?P<amount>{_NUMBER})"
        rf"(?: ?(?P<magnitude>{_names(MAGNITUDES)})\b)?",
        _money,
    ),
    rule(
        rf"(?P<sign>(?<![\w.])[-\u2212])?(?<![\w.,])(?P<amount>{_NUMBER}) ?"
        r"(?P<currency>[€£])(?P<magnitude>)(?![\w€£])",
        _money,
    ),
    rule(r"\b(\d+)¢", lambda m: _counted(m[1], "cent", "cents")),
    rule(r"'?\b(?P<decade>1[1-9]\d0|20\d0|[2-9]0)'?s\b", _decade),
    rule(r"'00s\b", "two thousands"),
    rule(r"'0(\d)\b(?!')", lambda m: f"oh {number.digits(m[1])}"),
    rule(r"'(\d\d)\b(?!')", lambda m: number.cardinal(m[1])),
    rule(r"(\d)'(\d{1,2})(?:\"|'')", r"\1 foot \2"),
    rule(r"(?<=\d)\s?[x×]\s?(?=\d)", " by "),
    rule(
        rf"(?P<sign>(?<![\w.)])[-\u2212])?(?<![\w.])(?P<n>{_NUMBER})(?:\s|(?P<hyphen>-))?(?P<unit>{_names(UNITS)})"
        r"(?![\w/²³'\u2019])",
        _measure,
    ),
    rule(rf"(?<![\w.,])({_NUMBER})\s?%", lambda m: f"{_spoken(m[1])} percent"),
    rule(r"(?<![\w.,/])(?:(?P<whole>\d+) )?(?P<top>\d{1,3})/(?P<bottom>\d{1,3})(?![\w/])", _mixed),
    rule(r"\b(\d+(?:,\d{3})*)(?:st|nd|rd|th)\b", lambda m: number.ordinal(m[1]), re.IGNORECASE),
    rule(rf"\b(?P<cue>{_REGNAL}|{_COUNTED}|[A-Z][a-z]+) (?P<roman>[IVX]+)\b(?!')", _roman),
    rule(rf"\b(?P<cue>{_REGNAL}) (?P<roman>[IVX]+)(?='s\b)", _roman),
    rule(rf"(?<![\w.,-])({_NUMBER})\s?[-\u2013\u2012]\s?({_NUMBER})(?![\w-]|\.\d)", _range),
    rule(rf"(?<![\w.,:])({_NUMBER}):({_NUMBER})(?![\w:])", _ratio_or_date),
    rule(r"(?<![\w.])\d+(?:\.\d+){2,}(?!\w)",
         lambda m: " point ".join(number.cardinal(part) for part in m[0].split("."))),
    rule(r"#(?=\d)", "number "),
    rule(r"#(?=[A-Za-z])", "hashtag "),
    rule(r"~\s?(?=\d)", "about "),
    rule(r"(?<![\w.)])[-\u2212](?=\.?\d)", "minus "),
    rule(r"(?<=\d)\s?<\s?(?=\d)", " is less than "),
    rule(r"(?<=\d)\s?>\s?(?=\d)", " is greater than "),
    rule(r"(?<=\d) [-\u2212] (?=\d)", " minus "),
    rule(r"(?<=\d)\s?\*\s?(?=\d)", " times "),
    rule(r"(?<=\d)\s?/\s?(?=\d)", " over "),
    rule(rf"\b({_YEAR_CUES}) (1[1-9]\d\d|20\d\d)\b(?![.,]\d)",
         lambda m: f"{m[1]} {number.year(m[2])}", re.IGNORECASE),
    rule(r"(?<![\w.,])(?:1[1-9]\d\d|20\d\d)(?![\w]|[.,]\d)(?! [a-z]+s\b)", _four_digits),
    rule(r"(?<!\d)\.(?=\d)", " point "),
    rule(rf"(?<![\d.])(?:{_NUMBER})(?!\d)", lambda m: f" {_spoken(m[0])} "),
    rule(r"\d+", _long_digits),
)  # fmt: skip
_SPACES_BEFORE: Final = re.compile(r"\s+(?=[,.;:!?)\]}%])|(?<=[(\[{])\s+")


def normalize_english(text: str) -> str:
    """Write a cleaned English text in words; punctuation stays."""
    if (
        text.isupper() and len(re.findall(r"[A-Z]{2,}", text)) > 2
    ):  # shouted: no word of it is an acronym
        text = text.lower()
    text = apply_rules(ADDRESS_RULES, text)
    text = apply_rules(DATE_RULES, text)
    text = apply_rules(ABBREVIATION_RULES, text)
    text = apply_rules(PHONE_RULES, text)
    text = apply_rules(NUMBER_RULES, text)
    for symbol, name in _SYMBOLS.items():
        text = text.replace(symbol, name)
    text = re.sub(r"[*_^~<>#`\\™®©]", " ", text)
    return _SPACES_BEFORE.sub("", " ".join(text.split()))
