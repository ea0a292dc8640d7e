"""English: dictionary, homographs, function words, unknown words."""

import pytest

from mynah.text.english import phonemize_english, unknown_words
from mynah.text.letter_to_sound import LetterToSound
from mynah.text.lexicon import Lexicon, encode_entry
from mynah.text.pronounce import Pronouncer
from mynah.text.symbols import SYMBOL_IDS


def spoken(text: str) -> str:
    return " ".join(phonemize_english(text))


def test_sentence() -> None:
    assert spoken("Hello, world!") == "<s> _HH AH0 L OW1 , _W ER1 L D ! </s>"


def test_pauses_are_merged_and_never_first() -> None:
    assert spoken('... "Yes"?!') == "<s> _Y EH1 S ? </s>"


def test_a_dash_is_a_pause_and_a_hyphen_is_not() -> None:
    assert "," in phonemize_english("well - no")
    assert "," not in phonemize_english("well-known")


@pytest.mark.parametrize(
    ("text", "phonemes"),
    [
        ("the record", "_R EH1 K ER0 D"),
        ("to record", "_R IH0 K AO1 R D"),
        ("I will read", "_R IY1 D"),
        ("she has read", "_R EH1 D"),
        ("we live here", "_L IH1 V"),
        ("a live show", "_L AY1 V"),
        ("lead pipes", "_L EH1 D"),
        ("they lead", "_L IY1 D"),
        ("the use of", "_Y UW1 S"),
        ("to use it", "_Y UW1 Z"),
        ("I used to", "_Y UW1 S T"),
        ("was used to", "_Y UW1 Z D"),
        ("an object", "_AA1 B JH EH0 K T"),
        ("they object", "_AH0 B JH EH1 K T"),
        ("to separate", "_S EH1 P ER0 EY1 T"),
        ("a separate room", "_S EH1 P ER0 IH0 T"),
        ("the close of", "_K L OW1 Z"),
        ("close to home", "_K L OW1 S"),
    ],
)
def test_homographs(text: str, phonemes: str) -> None:
    assert phonemes in spoken(text)


@pytest.mark.parametrize(
    ("text", "phonemes"),
    [
        ("the apple", "_DH IY0 _AE1"),
        ("the unit", "_DH AH0 _Y"),
        ("a hat", "_AH0 _HH"),
        ("grade A", "_EY1 </s>"),
        ("go to bed", "_T AH0 _B"),
        ("where to?", "_T UW1 ?"),
    ],
)
def test_function_words(text: str, phonemes: str) -> None:
    assert phonemes in spoken(text)


@pytest.mark.parametrize(
    ("word", "phonemes"),
    [
        ("NASA", "N AE1 S AH0"),
        ("XKCD", "EH1 K S K EY1 S IY1 D IY1"),
        ("US", "Y UW1 EH1 S"),
        ("AM", "EY1 EH1 M"),
        ("API", "EY1 P IY1 AY1"),
        ("us", "AH1 S"),
        ("DVDs", "D IY1 V IY1 D IY1 Z"),
        ("iPhone", "AY1 F OW1 N"),
        ("Caslon's", "K AE1 S L AH0 N Z"),
        ("the boys'", "B OY1 Z"),
        ("naïve", "N AY1 IY1 V"),
        ("don't", "D OW1 N T"),
    ],
)
def test_words(word: str, phonemes: str) -> None:
    pronounce = Pronouncer(Lexicon.english())
    assert " ".join(pronounce(word.split()[-1])) == phonemes


def test_unknown_words_are_listed() -> None:
    assert unknown_words("The Schoeffer walked") == ["Schoeffer"]


def test_lexicon_keeps_variants_in_order() -> None:
    lexicon = Lexicon(dict([encode_entry("x", [("EH1", "K", "S"), ("K", "S")]).split("\t", 1)]))
    assert lexicon.pronunciations("x") == [("EH1", "K", "S"), ("K", "S")]
    assert lexicon.first("y") is None
    assert len(Lexicon.english()) > 120_000


@pytest.mark.parametrize("word", ["blorptastic", "x" * 500, "'", "zzz"])
def test_letter_to_sound_answers_everything(word: str) -> None:
    assert all(phoneme in SYMBOL_IDS for phoneme in LetterToSound.english()(word))


def test_letter_to_sound_is_good() -> None:
    """Words made up for this test, one clear pronunciation each."""
    model = LetterToSound.english()
    assert " ".join(model("flamber")) == "F L AE1 M B ER0"
    assert " ".join(model("strinkle")) == "S T R IH1 NG K AH0 L"
