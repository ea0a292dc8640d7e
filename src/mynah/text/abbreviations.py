"""English abbreviations and units: what they stand for, and which of them end a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from mynah.text.rules import words

MONTHS: Final = words(
    "January February March April May June July August September October November December"
)

# Written with a full stop; spoken in full wherever they stand.
TITLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Dr": "Doctor", "Prof": "Professor",
        "Sr": "Senior", "Jr": "Junior", "Gen": "General", "Lt": "Lieutenant", "Capt": "Captain",
        "Sgt": "Sergeant", "Cpl": "Corporal", "Col": "Colonel", "Cmdr": "Commander",
        "Rev": "Reverend", "Hon": "Honorable", "Gov": "Governor", "Sen": "Senator",
        "Rep": "Representative", "Maj": "Major", "Adm": "Admiral", "Pres": "President",
        "Messrs": "Messieurs", "Mme": "Madame", "Mlle": "Mademoiselle", "Esq": "Esquire",
    }
)  # fmt: skip
GENERAL: Final[Mapping[str, str]] = MappingProxyType(
    {
        "vs": "versus", "etc": "et cetera", "approx": "approximately", "dept": "department",
        "Dept": "Department", "est": "established", "Inc": "Incorporated", "Ltd": "Limited",
        "Co": "Company", "Corp": "Corporation", "Bros": "Brothers", "Ave": "Avenue",
        "Blvd": "Boulevard", "Rd": "Road", "Mt": "Mount", "Ft": "Fort", "Hwy": "Highway",
        "e.g": "for example", "i.e": "that is", "cf": "compare", "viz": "namely",
        "Ph.D": "PhD", "a.k.a": "also known as", "et al": "et al", "ca": "circa", "al": "al",
        "misc": "miscellaneous", "incl": "including", "min": "minutes", "max": "maximum",
        "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday",
        "Thu": "Thursday", "Thur": "Thursday", "Thurs": "Thursday", "Fri": "Friday",
        "Jan": "January", "Feb": "February", "Mar": "March", "Apr": "April", "Jun": "June",
        "Jul": "July", "Aug": "August", "Sep": "September", "Sept": "September",
        "Oct": "October", "Nov": "November", "Dec": "December",
    }
)  # fmt: skip
# Only abbreviations when a number follows.
BEFORE_NUMBER: Final[Mapping[str, str]] = MappingProxyType(
    {
        "No": "Number", "no": "number", "Nos": "Numbers", "nos": "numbers", "Vol": "Volume",
        "vol": "volume", "Fig": "Figure", "fig": "figure", "Figs": "Figures", "Ch": "Chapter",
        "ch": "chapter", "p": "page", "pp": "pages", "Sec": "Section", "sec": "section",
        "Eq": "Equation", "eq": "equation", "Art": "Article", "Pt": "Part", "Ed": "Edition",
    }
)  # fmt: skip
NEVER_END_SENTENCE: Final = frozenset(
    (
        *(TITLES.keys() - {"Jr", "Sr", "Esq"}),
        *BEFORE_NUMBER,
        *words(
            "St vs e.g i.e cf viz Mt Ft approx ca "
            "Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec"
        ),
    )
)  # fmt: skip
"""Abbreviations (without the last full stop) after which a sentence goes on."""

MONTH_OF: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{month.lower(): month for month in MONTHS},
        **{month[:3].lower(): month for month in MONTHS},
        "sept": "September",
    }
)

# symbol -> (singular, plural); only recognised after a number
UNITS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        symbol: (singular, plural)
        for symbols, singular, plural in (
            ("km", "kilometer", "kilometers"), ("m", "meter", "meters"),
            ("cm", "centimeter", "centimeters"), ("mm", "millimeter", "millimeters"),
            ("nm", "nanometer", "nanometers"), ("µm μm", "micrometer", "micrometers"),
            ("mi", "mile", "miles"), ("ft", "foot", "feet"), ("yd", "yard", "yards"),
            ("kg", "kilogram", "kilograms"), ("g", "gram", "grams"),
            ("mg", "milligram", "milligrams"), ("lb lbs", "pound", "pounds"),
            ("oz", "ounce", "ounces"), ("l L", "liter", "liters"),
            ("ml mL", "milliliter", "milliliters"), ("kB KB", "kilobyte", "kilobytes"),
            ("MB", "megabyte", "megabytes"), ("GB", "gigabyte", "gigabytes"),
            ("TB", "terabyte", "terabytes"), ("Mbps", "megabit per second", "megabits per second"),
            ("Gbps", "gigabit per second", "gigabits per second"), ("Hz", "hertz", "hertz"),
            ("kHz", "kilohertz", "kilohertz"), ("MHz", "megahertz", "megahertz"),
            ("GHz", "gigahertz", "gigahertz"), ("W", "watt", "watts"),
            ("kW", "kilowatt", "kilowatts"), ("MW", "megawatt", "megawatts"),
            ("kWh", "kilowatt hour", "kilowatt hours"), ("V", "volt", "volts"),
            ("mA", "milliampere", "milliamperes"), ("mAh", "milliampere hour", "milliampere hours"),
            ("dB", "decibel", "decibels"), ("cal", "calorie", "calories"),
            ("kcal", "kilocalorie", "kilocalories"), ("J", "joule", "joules"),
            ("kJ", "kilojoule", "kilojoules"), ("ms", "millisecond", "milliseconds"),
            ("s sec secs", "second", "seconds"), ("min mins", "minute", "minutes"),
            ("h hr hrs", "hour", "hours"), ("mph", "mile per hour", "miles per hour"),
            ("kph km/h kmh", "kilometer per hour", "kilometers per hour"),
            ("m/s", "meter per second", "meters per second"), ("rpm", "revolution per minute",
            "revolutions per minute"), ("fps", "frame per second", "frames per second"),
            ("m² m^2", "square meter", "square meters"), ("km² km^2", "square kilometer",
            "square kilometers"), ("ft²", "square foot", "square feet"),
            ("m³ m^3", "cubic meter", "cubic meters"), ("cm³", "cubic centimeter",
            "cubic centimeters"), ("ha", "hectare", "hectares"), ("°", "degree", "degrees"),
            ("°C ℃", "degree Celsius", "degrees Celsius"),
            ("°F ℉", "degree Fahrenheit", "degrees Fahrenheit"), ("px", "pixel", "pixels"),
        )
        for symbol in symbols.split()
    }
)  # fmt: skip

# symbol -> (unit, units, hundredth, hundredths)
CURRENCIES: Final[Mapping[str, tuple[str, str, str, str]]] = MappingProxyType(
    {
        "$": ("dollar", "dollars", "cent", "cents"),
        "US$": ("US dollar", "US dollars", "cent", "cents"),
        "£": ("pound", "pounds", "penny", "pence"),
        "€": ("euro", "euros", "cent", "cents"),
        "¥": ("yen", "yen", "sen", "sen"),
        "₹": ("rupee", "rupees", "paisa", "paise"),
        "₩": ("won", "won", "jeon", "jeon"),
        "₽": ("ruble", "rubles", "kopek", "kopeks"),
    }
)
MAGNITUDES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million",
        "b": "billion", "B": "billion", "bn": "billion", "t": "trillion", "T": "trillion",
        "thousand": "thousand", "million": "million", "billion": "billion",
        "trillion": "trillion",
    }
)  # fmt: skip
