"""The symbol table is part of every trained model: it may grow at its end, never change."""

import hashlib

import pytest

from mynah.errors import InvalidRequestError
from mynah.text.symbols import (
    ENGLISH_PHONEMES,
    NUM_SYMBOLS,
    PAD_ID,
    PAUSE_IDS,
    SYMBOL_IDS,
    SYMBOLS,
    is_english_vowel,
    is_pause,
    pause_symbol,
    symbol_id,
)


def test_order_is_frozen() -> None:
    """A changed table would make shipped weights speak nonsense."""
    assert SYMBOLS[:7] == ("<pad>", "<s>", "</s>", ",", ".", "?", "!")
    digest = hashlib.sha256("\n".join(SYMBOLS[:557]).encode()).hexdigest()
    assert digest == "08a2885fe24adee04afe9b9eecd4cfb5f3bf57a52c8e1460151517280c18f851"


def test_ids_are_positions_and_symbols_are_unique() -> None:
    assert len(SYMBOL_IDS) == NUM_SYMBOLS == len(SYMBOLS)
    assert all(SYMBOLS[index] == symbol for symbol, index in SYMBOL_IDS.items())


def test_every_english_phoneme_has_a_word_initial_twin() -> None:
    assert all(f"_{phoneme}" in SYMBOL_IDS for phoneme in ENGLISH_PHONEMES)


def test_pauses() -> None:
    assert {SYMBOLS[index] for index in PAUSE_IDS} == {"<s>", "</s>", ",", ".", "?", "!"}
    assert is_pause(symbol_id("?"))
    assert not is_pause(symbol_id("_K"))
    assert not is_pause(PAD_ID)


def test_unknown_symbol_is_named() -> None:
    with pytest.raises(InvalidRequestError, match="'QQ'"):
        symbol_id("QQ")


@pytest.mark.parametrize(
    ("character", "pause"), [("。", "."), ("？", "?"), ("；", ","), ("—", ","), ("x", None)]
)
def test_pause_of_punctuation(character: str, pause: str | None) -> None:
    assert pause_symbol(character) == pause


def test_vowels() -> None:
    assert is_english_vowel("_AH0")
    assert is_english_vowel("ER1")
    assert not is_english_vowel("K")
    assert not is_english_vowel("_a1")
