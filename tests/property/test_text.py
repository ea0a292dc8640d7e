"""Properties of the text front end for any text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.errors import InvalidRequestError
from mynah.text.clean import clean
from mynah.text.languages import language_spans
from mynah.text.normalize import complete_punctuation, normalize
from mynah.text.phoneme_tokenizer import PhonemeTokenizer
from mynah.text.split import Splitter, split_text
from mynah.text.symbols import NUM_SYMBOLS, START_ID

FRAGMENTS = st.sampled_from(
    [
        "Hello", "Dr.", "e.g.", "3.14", "U.S.", "No.", "5", "A", "I", "$1,000.50", "10:30",
        "x" * 50, "你好", "世界", "。", "，", "「", "」", '"', "'", "(", ")", "[breath]", "[a](B)",
        "<strong>", "...", "…", "?!", ";", "-", "—", "\n", "\n\n", "  ", "😀", "1/2", "-5°C",
        "2024-05-06", "a.m.", "www.a.com", "%", "2010年", "\u200b", "é", "XIV", "@", "#1",
    ]
)  # fmt: skip
TEXTS = st.lists(FRAGMENTS | st.text(max_size=8), max_size=40).flatmap(
    lambda parts: st.sampled_from([" ".join(parts), "".join(parts)])
)


def letters(text: str) -> int:
    return sum(c.isalnum() for c in text)


@given(TEXTS, st.integers(1, 60), st.integers(1, 30))
def test_splitting_loses_nothing_and_keeps_the_budget(text: str, budget: int, minimum: int) -> None:
    pieces = split_text(text, letters, budget, minimum)
    assert "".join(pieces) == text
    assert all(pieces)
    assert all(letters(piece) <= budget for piece in pieces)


@given(TEXTS, st.integers(5, 60))
def test_every_utterance_has_something_to_say(text: str, budget: int) -> None:
    pieces = split_text(text, letters, budget)
    if letters(text):
        assert all(letters(piece) for piece in pieces)


@given(TEXTS, st.integers(1, 60), st.integers(1, 30), st.data())
def test_any_feeding_gives_the_same_utterances(
    text: str, budget: int, minimum: int, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=30)))
    splitter = Splitter(letters, budget, minimum)
    pieces: list[str] = []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        pieces += splitter.feed(text[start:end])
    pieces += splitter.finish()
    assert pieces == split_text(text, letters, budget, minimum)


@given(TEXTS)
def test_one_character_at_a_time(text: str) -> None:
    splitter = Splitter(letters, 40, 10)
    pieces = [piece for c in text for piece in splitter.feed(c)] + splitter.finish()
    assert pieces == split_text(text, letters, 40, 10)


@given(TEXTS)
@settings(deadline=None)
def test_tokenizer_gives_known_ids_or_a_typed_error(text: str) -> None:
    tokenizer = PhonemeTokenizer(("en", "zh"))
    try:
        ids = tokenizer.encode(text)
    except InvalidRequestError:
        return
    assert ids[0] == START_ID
    assert ((ids > 0) & (ids < NUM_SYMBOLS)).all()
    assert not tokenizer.is_pause(ids).all()
    assert len(tokenizer.is_pause(ids)) == len(ids)


@given(TEXTS)
@settings(deadline=None)
def test_normalised_english_has_no_digits_left(text: str) -> None:
    assert not any(c in "0123456789" for c in normalize(text, "en"))


@given(TEXTS)
@settings(deadline=None)
def test_normalised_chinese_has_no_digits_left(text: str) -> None:
    assert not any(c in "0123456789" for c in normalize(text, "zh"))


@given(st.text())
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@given(TEXTS)
def test_spans_join_to_the_text(text: str) -> None:
    assert "".join(span.text for span in language_spans(text)) == text


@given(TEXTS)
def test_completion_is_stable(text: str) -> None:
    completed = complete_punctuation(clean(text))
    assert complete_punctuation(completed) == completed


@pytest.mark.parametrize(
    "unit", ["a1 ", "1-", "1.", "1,", "$1", "A.", "a@", "a.", "1/", "1:", "好1"]
)
def test_normalisation_is_linear(unit: str) -> None:
    """Ten thousand repetitions would hang with a rule that backtracks."""
    for language in ("en", "zh"):
        normalize(unit * 10_000, "en" if language == "en" else "zh")
