"""Unicode clean-up shared by all languages.

The result is NFKC text with plain quotes, one kind of dash, single spaces, and without control
characters, invisible characters, emoji and private-use characters. Tags in square or angle brackets
survive; full-width CJK punctuation stays full-width.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_KEPT_FULL_WIDTH: Final = "，。！？；：（）、"
_GUARD: Final = {ord(c): chr(0xF0000 + i) for i, c in enumerate(_KEPT_FULL_WIDTH)}
_UNGUARD: Final = {ord(chr(0xF0000 + i)): c for i, c in enumerate(_KEPT_FULL_WIDTH)}
_PLAIN: Final = str.maketrans(
    {
        "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201b": "'", "\u2032": "'", "\u00b4": "'",
        "\u02bc": "'", "\uff07": "'",
        "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u201f": '"', "\u2033": '"', "\u00ab": '"',
        "\u00bb": '"', "\u2039": '"', "\u203a": '"',
        "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2043": "-", "\u2212": "-",
        "\u2013": "\u2013", "\u2014": "\u2014", "\u2015": "\u2014", "\u2044": "/",
    }
)  # fmt: skip
_THOUSANDS: Final = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_VULGAR: Final = re.compile(r"(?<=\d)(?=[\u00bc-\u00be\u2150-\u215e])")
# Superscripts and signs that NFKC would turn into plain digits or letters.
_BEFORE_NFKC: Final = str.maketrans(
    {
        "²": "\U000f0100", "³": "\U000f0101", "…": "\U000f0102", "№": "No. ", "™": "", "℠": "",
        "℃": "°C", "℉": "°F",
    }
)  # fmt: skip
_AFTER_NFKC: Final = str.maketrans({"\U000f0100": "²", "\U000f0101": "³", "\U000f0102": "…"})
_REMOVED_CATEGORIES: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Cn"))
_EMOJI: Final = re.compile(
    "[\U0001f000-\U0001faff\U0001fb00-\U0001fbff\u2600-\u27bf\u2b00-\u2bff\u231a\u231b"
    "\u2328\u23cf\u23e9-\u23fa\u20e3\ufe00-\ufe0f\U000e0000-\U000e007f\u3030\u303d]+"
)
_LINES: Final = re.compile(r"[^\S\n]*\n[^\S\n]*")


def clean(text: str) -> str:
    """Clean a text; line breaks stay (runs of blank lines become one break).

    Returns:
        The cleaned text; it may be empty.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n")
    text = text.replace("\u2029", "\n").replace("\t", " ")
    if not text.isascii():
        text = _VULGAR.sub(" ", _THOUSANDS.sub(",", text))
        text = text.translate(_GUARD).translate(_BEFORE_NFKC)
        text = unicodedata.normalize("NFKC", text)
        text = text.translate(_AFTER_NFKC).translate(_UNGUARD).translate(_PLAIN)
        text = _EMOJI.sub(" ", text)
    text = "".join(
        c for c in text if c == "\n" or unicodedata.category(c) not in _REMOVED_CATEGORIES
    )
    text = re.sub(r"[^\S\n]+", " ", text)
    return re.sub(r"\n+", "\n", _LINES.sub("\n", text)).strip()


def speakable(text: str) -> bool:
    """Whether anything in the text can be spoken: a letter or a digit of any script."""
    return any(c.isalnum() for c in text)
