"""Text tokenizers: ids, errors, special tokens."""

import json
from pathlib import Path

import numpy as np
import pytest

from mynah.errors import (
    InvalidRequestError,
    MarkupError,
    ModelFormatError,
    UnsupportedFeatureError,
)
from mynah.text.mandarin import syllable_symbols
from mynah.text.markup import COSYVOICE2_TAGS
from mynah.text.symbols import SYMBOL_IDS
from mynah.text.tokenizer import BPETokenizer, PhonemeTokenizer, TextTokenizer


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


@pytest.fixture
def qwen2_folder(tmp_path: Path) -> Path:
    """A tiny byte-level vocabulary in the form of a Qwen2 folder."""
    from tokenizers.pre_tokenizers import ByteLevel

    vocab = {symbol: index for index, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    for merge in ("he", "ll", "hell", "hello"):
        vocab[merge] = len(vocab)
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    merges = "#version: 0.2\nh e\nl l\nhe ll\nhell o\n"
    (tmp_path / "merges.txt").write_text(merges, encoding="utf-8")
    return tmp_path


def test_bpe_special_tokens_follow_the_vocabulary(qwen2_folder: Path) -> None:
    tokenizer = BPETokenizer(qwen2_folder)
    assert tokenizer.end_of_prompt == 260 + 3
    assert tokenizer.vocab_size == 260 + 4 + len(COSYVOICE2_TAGS)
    ids = tokenizer.encode("hello [breath]hello")
    first_tag = 264
    assert ids[0] == 259
    assert first_tag in ids
    assert (ids < tokenizer.vocab_size).all()


def test_bpe_text_never_becomes_a_special_token(qwen2_folder: Path) -> None:
    tokenizer = BPETokenizer(qwen2_folder)
    with pytest.raises(MarkupError):
        tokenizer.encode("<|endofprompt|>hello")
    assert (tokenizer.encode(r"hello \[breath]") < 260).all()
    assert tokenizer.count("<|endofprompt|>") > 1


def test_bpe_normalises_and_completes(qwen2_folder: Path) -> None:
    tokenizer = BPETokenizer(qwen2_folder)
    assert tokenizer.encode("hello").tolist() == tokenizer.encode("hello.").tolist()
    pauses = tokenizer.is_pause(tokenizer.encode("hello."))
    assert pauses.tolist() == [False, True]
    with pytest.raises(InvalidRequestError):
        tokenizer.encode("[breath] ...")


def test_bpe_from_tokenizer_json_refuses_a_stock_tokenizer(
    qwen2_folder: Path, tmp_path: Path
) -> None:
    from tokenizers import AddedToken, Tokenizer, models

    stock = Tokenizer(
        models.BPE.from_file(str(qwen2_folder / "vocab.json"), str(qwen2_folder / "merges.txt"))
    )
    stock.add_special_tokens([AddedToken("<|object_ref_start|>", special=True)])
    folder = tmp_path / "stock"
    folder.mkdir()
    stock.save(str(folder / "tokenizer.json"))
    with pytest.raises(ModelFormatError, match="other added tokens"):
        BPETokenizer(folder)


def test_bpe_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="cannot read"):
        BPETokenizer(tmp_path / "nowhere")


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
