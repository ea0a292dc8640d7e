"""Splitting: where utterances end."""

import time

import pytest

from mynah.errors import InvalidRequestError
from mynah.text.split import Splitter, split_text


def letters(text: str) -> int:
    return sum(c.isalnum() for c in text)


@pytest.mark.parametrize(
    "pieces",
    [
        ["One two. ", "Three four! ", "Five?"],
        ["Dr. Smith paid $3.14 to J. K. Rowling, i.e. her. ", "Yes."],
        ['"Really?" he asked. ', '"Yes." ', "She left... ", "No. 5 is here. ", "No. ", "I do."],
        ["It ended at 5 p.m. ", "Then it rained. ", "(He said so.) ", "The U.S. Army."],
        ["Visit example.com today.\n", "New line here\n\n", "End"],
        ["他说：“你好。”", "然后走了。", "「真的吗？」", "我问！", "好；的，了。"],
        ["... Hello."],
        ["你好！", "Hello. ", "再见"],
    ],
)
def test_sentences(pieces: list[str]) -> None:
    assert split_text("".join(pieces), letters, budget=100) == pieces


def test_short_sentences_are_joined_up_to_the_minimum() -> None:
    assert split_text("Yes. No. Perhaps. Well.", letters, 100, minimum=8) == [
        "Yes. No. Perhaps. ",
        "Well.",
    ]


def test_a_long_sentence_is_cut_at_a_clause_then_at_a_word() -> None:
    text = "one two three four, five six seven eight nine ten eleven"
    assert split_text(text, letters, 22) == [
        "one two three four, ",
        "five six seven eight nine ",
        "ten eleven",
    ]


def test_a_very_long_word_is_cut() -> None:
    pieces = split_text("a" * 1000, letters, 30)
    assert "".join(pieces) == "a" * 1000
    assert max(map(len, pieces)) <= 30


def test_a_pronunciation_hint_stays_whole() -> None:
    text = "aaa bbb ccc [live music](L AY1 V M Y UW1 Z IH0 K) ddd"
    pieces = split_text(text, letters, 32)
    assert len(pieces) == 2
    assert any("[live music](L AY1 V M Y UW1 Z IH0 K)" in piece for piece in pieces)


def test_too_long_text_is_refused_at_once() -> None:
    start = time.perf_counter()
    with pytest.raises(InvalidRequestError, match=r"10,000,000 characters.*1,000,000"):
        split_text("a" * 10_000_000, letters, 100)
    assert time.perf_counter() - start < 0.5


def test_the_limit_counts_everything_fed() -> None:
    splitter = Splitter(letters, 100, max_characters=10)
    splitter.feed("12345")
    with pytest.raises(InvalidRequestError):
        splitter.feed("678901")


def test_a_sentence_leaves_as_soon_as_the_next_word_begins() -> None:
    splitter = Splitter(letters, 100)
    assert splitter.feed("Hello there. ") == []
    assert splitter.feed("N") == ["Hello there. "]
    assert splitter.finish() == ["N"]


@pytest.mark.parametrize("unit", ["Hello there. ", "a", "!", " ", "好", "[", "[a](", ". ", '" '])
def test_a_hundred_thousand_characters_take_no_time(unit: str) -> None:
    text = (unit * 100_000)[:100_000]
    start = time.perf_counter()
    assert "".join(split_text(text, letters, 150, 20)) == text
    assert time.perf_counter() - start < 5
