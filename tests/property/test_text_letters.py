"""No letter disappears silently, in any language, and any input is read in linear time."""

import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.errors import InvalidRequestError
from mynah.text.clean import clean
from mynah.text.languages import Language
from mynah.text.lexicons import UserLexicon
from mynah.text.markup import parse_markup
from mynah.text.normalize import normalize
from mynah.text.phoneme_tokenizer import PhonemeTokenizer

LANGUAGES: tuple[Language, ...] = ("en", "zh", "yue", "ja", "ko", "other")
WORDS = st.sampled_from(
    [
        "straße", "Größe", "école", "naïve", "łódź", "İstanbul", "привет", "мир", "שלום", "مرحبا",
        "東京", "カタカナ", "ｶﾅ", "한국어", "粵語", "龘", "word", "Hello", "ﬁn", "Ångström", "ǆ",
        "ªº", "𝒜𝓑", "é", "e\u0301", "α", "Ω", "हिन्दी", "ไทย", "ñandú",
    ]
)  # fmt: skip
BETWEEN = st.sampled_from([" ", ", ", ". ", "! ", "\n", " — ", "。", "，", " (", ") "])
MIXED = st.lists(st.tuples(WORDS, BETWEEN), min_size=1, max_size=12).map(
    lambda parts: "".join(word + gap for word, gap in parts)
)
ANYTHING = st.text(max_size=60)


def letters(text: str) -> Counter[str]:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return Counter(c for c in folded if unicodedata.category(c)[0] in "LM")


@given(MIXED, st.sampled_from(LANGUAGES))
@settings(max_examples=300)
def test_every_letter_is_read(text: str, language: Language) -> None:
    missing = letters(text) - letters(normalize(text, language))
    assert not missing


@given(ANYTHING, st.sampled_from(LANGUAGES))
@settings(max_examples=300)
def test_letters_beyond_ascii_survive_anything_around_them(text: str, language: Language) -> None:
    """Latin letters may be parts of units and abbreviations, which are written out."""
    foreign = {c for c in letters(clean(text)) if ord(c) > 0x24F}
    missing = letters(clean(text)) - letters(normalize(text, language))
    assert not {c for c in missing if c in foreign and unicodedata.category(c) != "Mn"}


@given(ANYTHING | MIXED, st.sampled_from(("ja", "ko", "zh", "yue", "en")))
def test_no_digit_is_left(text: str, language: Language) -> None:
    assert not any(c in "0123456789" for c in normalize(text + " 12", language))


@given(ANYTHING)
def test_normalising_plain_words_twice_changes_nothing(text: str) -> None:
    once = normalize(text, "other")
    assert normalize(once, "other") == once


@pytest.mark.parametrize(
    "unit",
    ["a1 ", "1-", "1.", "1,", "$1", "a@", "1/", "1:", "好1", "あ1", "1月", "가1 ", "1개", "‮א"],
)
@pytest.mark.parametrize("language", ["ja", "ko", "yue", "other"])
def test_linear_time(unit: str, language: Language) -> None:
    normalize(unit * 10_000, language)


@pytest.mark.parametrize(
    "unit", ["a", "1", "好", "[", "]", "<", "{", "a{", "[5](", "\\", "😀", "\u200b"]
)
def test_endless_markup(unit: str) -> None:
    text = unit * (200_000 // len(unit))
    parse_markup(text, hints=True)
    UserLexicon({"aa": '"b"', "好好": "hao3 hao3"}).apply(parse_markup(text, hints=True))
    clean(text)


@pytest.mark.parametrize("text", ["a", "1", "好", "1.", "Ω?", "İ"])
def test_one_character(text: str) -> None:
    assert normalize(text)


@pytest.mark.parametrize(
    "text", ["", " ", "\n", "...", "?!", "😀", "\u200b\u2060", "—", "[", "\ud83d"]
)
def test_nothing_to_say(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        PhonemeTokenizer().encode(text)
