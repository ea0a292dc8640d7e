"""The phoneme tokenizer: symbols, errors, hints."""

import numpy as np
import pytest

from mynah.errors import (
    InvalidRequestError,
    MarkupError,
    UnsupportedFeatureError,
)
from mynah.text.mandarin import syllable_symbols
from mynah.text.phoneme_tokenizer import PhonemeTokenizer
from mynah.text.symbols import SYMBOL_IDS
from mynah.text.tokenizer import TextTokenizer


def test_phonemes_of_a_sentence() -> None:
    tokenizer: TextTokenizer = PhonemeTokenizer()
    ids = tokenizer.encode("Dr. Smith paid $5")
    assert ids.dtype == np.int64
    assert ids[0] == SYMBOL_IDS["<s>"]
    assert ids[-1] == SYMBOL_IDS["</s>"]
    assert ids[-2] == SYMBOL_IDS["."]
    assert tokenizer.is_pause(ids).tolist() == [True, *[False] * (len(ids) - 3), True, True]


def test_hint() -> None:
    symbols = PhonemeTokenizer().symbols("a [tomato](T AH0 M AA T OW2) plant")
    assert " ".join(symbols[2:8]) == "_T AH0 M AA0 T OW1"


@pytest.mark.parametrize("text", ["", " \n", "...", "?!", "😀😀", "\u200b", "—"])
def test_nothing_to_speak(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"nothing to speak|empty"):
        PhonemeTokenizer(("en", "zh")).encode(text)


@pytest.mark.parametrize(
    ("text", "named"),
    [("Hi こんにちは", "こんにちは"), ("안녕", "안녕"), ("Привет", "Привет"), ("你好", "你好")],
)
def test_other_scripts_are_named(text: str, named: str) -> None:
    with pytest.raises(UnsupportedFeatureError, match=named) as caught:
        PhonemeTokenizer().encode(text)
    assert "CosyVoice2" in caught.value.hint


@pytest.mark.parametrize("text", ["<|endofprompt|> hi", "hi [laughter]", "[x](QQ)", "[x](,)"])
def test_markup_errors(text: str) -> None:
    with pytest.raises(MarkupError):
        PhonemeTokenizer().encode(text)


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("老虎", "_l ao2 _h u3"),
        ("展览馆", "_zh an2 _l an2 _g uan3"),
        ("一个", "_i2 _g e4"),
        ("第一次", "_d i4 _i1 _c ii4"),
        ("一起", "_i4 _q i3"),
        ("看一看", "_k an4 _i5 _k an4"),
        ("不是", "_b u2 _sh iii4"),
        ("不好", "_b u4 _h ao3"),
        ("银行行长", "_in2 _h ang2 _h ang2 _zh ang3"),
        ("女儿去月球", "_n v3 _er2 _q v4 _ve4 _q iou2"),
        ("说OK 3个", "_sh uo1 _OW1 K EY1 _s an1 _g e4"),
        ("[重](chong2)做", "_ch ong2 _z uo4"),
        ("银行{háng}吗", "_in2 _h ang2 _m a5"),
        ('说X{"爱克斯"}', "_sh uo1 _ai4 _k e4 _s ii1"),
    ],
)
def test_mandarin(text: str, symbols: str) -> None:
    assert " ".join(PhonemeTokenizer(("en", "zh")).symbols(text)[1:-2]) == symbols


@pytest.mark.parametrize(
    ("syllable", "symbols"),
    [
        ("zhuang1", ("zh", "uang1")),
        ("yuan2", ("van2",)),
        ("lü4", ("l", "v4")),
        ("jun1", ("j", "vn1")),
        ("si4", ("s", "ii4")),
        ("er2", ("er2",)),
        ("xyz1", None),
        ("ma", None),
    ],
)
def test_syllables(syllable: str, symbols: tuple[str, ...] | None) -> None:
    assert syllable_symbols(syllable) == symbols


def test_importing_the_package_is_cheap() -> None:
    """No dictionary, no third-party package is loaded until it is needed."""
    import subprocess
    import sys

    code = (
        "import sys, mynah.text, mynah.text.split, mynah.text.normalize\n"
        "heavy = {'numpy', 'pypinyin', 'tokenizers'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
