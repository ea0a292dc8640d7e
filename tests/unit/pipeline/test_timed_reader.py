"""A timed reader reads as the one below it, and tells what it did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mynah.backends.fake import fake_config
from mynah.errors import InvalidRequestError
from mynah.pipeline.readers import build_reader
from mynah.pipeline.reading import TextReader, Utterance
from mynah.pipeline.timed_reader import TimedReader
from mynah.text.lexicons import UserLexicon

TEXT = "This is a sentence that is repeated 12 times. " * 12
PLAIN = build_reader(fake_config(), Path("unused"))


class Told(list[str]):
    """Stages of the calls."""

    def __call__(self, stage: str, seconds: float) -> None:
        assert seconds >= 0
        self.append(stage)


def timed() -> tuple[TextReader, Told]:
    told = Told()
    return TimedReader(PLAIN, told), told


def assert_same(one: list[Utterance], other: list[Utterance]) -> None:
    assert [part.text for part in one] == [part.text for part in other]
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left.ids, right.ids)
        np.testing.assert_array_equal(left.pauses, right.pauses)


def test_utterances_are_made_one_by_one_and_told_each() -> None:
    reader, told = timed()
    expected = list(PLAIN.utterances(TEXT))
    made = reader.utterances(TEXT)
    assert_same([next(made)], expected[:1])
    early = len(told)
    assert 0 < early < len(expected), "all was read before the first was asked for"
    assert_same(list(made), expected[1:])
    assert len(told) == early + len(expected)  # the last one finds the end
    assert set(told) == {"text"}


def test_text_in_pieces_is_told() -> None:
    reader, told = timed()
    one, other = reader.open("en"), PLAIN.open("en")
    for piece in TEXT.split(" "):
        assert_same(one.feed(piece + " "), other.feed(piece + " "))
    fed = len(told)
    assert fed >= len(TEXT.split(" "))
    assert_same(one.finish(), other.finish())
    assert len(told) == fed + 1


def test_the_rest_is_the_same() -> None:
    reader, told = timed()
    assert reader.tags == PLAIN.tags
    assert not told
    assert reader.in_words("2 cats") == PLAIN.in_words("2 cats")
    np.testing.assert_array_equal(reader.ids("Hi"), PLAIN.ids("Hi"))
    prompt = reader.prompt_text("transcript", "Hi", "en")
    np.testing.assert_array_equal(prompt.ids, PLAIN.prompt_text("transcript", "Hi", "en").ids)
    with pytest.raises(InvalidRequestError):
        reader.check("...")
    assert len(told) == 4, "what fails took time, too"


def test_a_lexicon_is_told_to_the_same() -> None:
    reader, told = timed()
    lexicon = UserLexicon({"mynah": '"minor"'})
    np.testing.assert_array_equal(
        reader.with_lexicon(lexicon).ids("mynah"), PLAIN.with_lexicon(lexicon).ids("mynah")
    )
    assert told == ["text"]
