from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynah.evaluation.wer import WordErrors, align, normalise, total, word_errors

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World!", "hello world"),
        ("It's 21 - isn't it?", "its twenty one isnt it"),
        ("It\u2019s the 3rd of May.", "its the third of may"),
        ("pi is 3.14", "pi is three point one four"),
        ("1,234 & 5%", "one thousand two hundred thirty four and five percent"),
        ("well-known caf\u00e9s", "well known cafes"),
        ("...", ""),
    ],
)
def test_normalise(text: str, words: str) -> None:
    assert normalise(text) == words.split()


@pytest.mark.parametrize(
    ("reference", "heard", "expected"),
    [
        ("the cat sat", "the cat sat", WordErrors(0, 0, 0, 3)),
        ("the cat sat", "the bat sat", WordErrors(1, 0, 0, 3)),
        ("the cat sat", "the sat", WordErrors(0, 1, 0, 3)),
        ("the cat sat", "the big cat sat", WordErrors(0, 0, 1, 3)),
        ("the cat sat", "", WordErrors(0, 3, 0, 3)),
        ("", "hm", WordErrors(0, 0, 1, 0)),
    ],
    ids=["right", "substitution", "deletion", "insertion", "nothing heard", "nothing said"],
)
def test_word_errors(reference: str, heard: str, expected: WordErrors) -> None:
    assert word_errors(reference, heard) == expected


def test_rates_weigh_by_words() -> None:
    errors = [WordErrors(1, 0, 0, 2), WordErrors(0, 0, 0, 8)]
    assert total(errors).rate == pytest.approx(0.1)
    assert total([]).rate == 0.0
    assert WordErrors(0, 0, 3, 1).rate == 3.0


@given(WORDS, WORDS)
def test_alignment_is_a_distance(a: list[str], b: list[str]) -> None:
    there, back = align(a, b), align(b, a)
    assert there.count == back.count
    assert (there.count == 0) == (a == b)
    assert abs(len(a) - len(b)) <= there.count <= max(len(a), len(b))
    assert len(a) - there.deletions + there.insertions == len(b)
