"""Pieces of any size through the real front ends: what is read must depend on the text alone."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynah.backends.fake import fake_config
from mynah.errors import MarkupError, UnsupportedFeatureError
from mynah.pipeline.readers import build_reader
from mynah.pipeline.reading import TextReader, Utterance
from mynah.pipeline.text_inputs import Limits

ENGLISH = (
    "On May 5, 2024 it cost $5 million, said Dr. Smith. [laughter] Nobody <strong>really</strong> "
    "knew why, e.g. in the U.S. it rained. And then? We stayed in."
)
CHINESE = "\u4f60\u597d\uff0c\u4eca\u5929\u662f2024\u5e745\u67083\u65e5\u3002\u6211\u4eec\u53bb\u516c\u56ed\u6563\u6b65\u5427\uff01 Python \u5f88\u597d\u3002"  # noqa: E501
SPOKEN = "On May 5, 2024 it cost $5 million, said Dr. Smith. Nobody knew why. We stayed in."


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> TextReader:
    """A reader with a vocabulary of bytes, of a model that listens while it speaks."""
    from tokenizers.pre_tokenizers import ByteLevel

    root = tmp_path_factory.mktemp("model")
    folder = root / "tokenizer"
    folder.mkdir()
    vocab = {symbol: index for index, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    config = fake_config(pointer=False)
    lm = config.lm.model_copy(update={"text_speech_mix": (5, 15)})
    return build_reader(config.model_copy(update={"lm": lm, "text_frontend": "qwen2-bpe"}), root)


SENTENCES = build_reader(fake_config(), Path("unused"))


def read(reader: TextReader, pieces: list[str], language: str | None = None) -> list[Utterance]:
    text = reader.open(language)
    parts = [part for piece in pieces for part in text.feed(piece)]
    return parts + text.finish()


def as_values(parts: list[Utterance]) -> list[tuple[str, list[int], bool]]:
    return [(part.text, part.ids.tolist(), part.continues) for part in parts]


@given(text=st.sampled_from([ENGLISH, CHINESE]), data=st.data())
def test_where_a_text_is_cut_changes_nothing(
    listening: TextReader, text: str, data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=20))
    edges = [0, *sorted(cuts), len(text)]
    pieces = [text[start:stop] for start, stop in pairwise(edges)]
    assert as_values(read(listening, pieces)) == as_values(read(listening, [text]))


@pytest.mark.parametrize("text", [SPOKEN, CHINESE])
def test_sentences_are_those_of_the_whole_text(text: str) -> None:
    whole = list(SENTENCES.utterances(text))
    pieces = read(SENTENCES, list(text))
    assert as_values(pieces) == as_values(whole)
    assert not any(part.continues for part in pieces)


@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
def test_parts_say_what_the_whole_says(
    listening: TextReader, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "limits", Limits(1000, 20))  # all in one utterance
    parts = read(listening, list(text))
    np.testing.assert_array_equal(np.concatenate([part.ids for part in parts]), listening.ids(text))
    assert parts[0].continues is False
    assert all(part.continues for part in parts[1:])
    assert "".join(part.text for part in parts) == text


def test_words_come_as_soon_as_they_are_certain(listening: TextReader) -> None:
    text = listening.open()
    assert text.feed("Hel") == []
    assert [part.text for part in text.feed("lo the")] == ["Hello"]
    assert [part.text for part in text.feed("re, on May 5, 20")] == [" there,", " on"]
    assert [part.text for part in text.finish()] == [" May 5, 20"]
    assert [part.continues for part in text.finish()] == []
    assert [part.continues for part in text.feed("A new text")] == [False, True]


def test_a_long_text_begins_new_utterances_at_sentence_ends(listening: TextReader) -> None:
    parts = read(listening, ["It rained again today, and nobody went out. " * 12])
    starts = [index for index, part in enumerate(parts) if not part.continues]
    assert len(starts) > 3
    for start in starts[1:]:
        assert parts[start].text == "It", "an utterance begins without a blank"
        assert parts[start - 1].text.endswith("out.")
        assert parts[start - 1].pause_s > 0
    sizes = np.diff([*starts, len(parts)])
    assert sizes.max() * 6 < 200
    endless = read(listening, ["on and on it goes " * 60])
    starts = [index for index, part in enumerate(endless) if not part.continues]
    lengths = [
        sum(len(part.ids) for part in endless[start:stop])
        for start, stop in pairwise([*starts, len(endless)])
    ]
    assert len(lengths) > 2
    assert max(lengths) < 2 * 80 + 10, "without a sentence end it is cut behind a word"


@pytest.mark.parametrize("reader", ["listening", "sentences"])
def test_what_cannot_be_said_is_refused(reader: str, listening: TextReader) -> None:
    chosen = {"listening": listening, "sentences": SENTENCES}[reader]
    with pytest.raises(MarkupError, match="control marker"):
        read(chosen, ["Hello <|endof", "prompt|> there"])
    with pytest.raises(MarkupError, match="unknown tag"):
        read(chosen, ["Hello [laugh", "ing] there"])
    with pytest.raises(UnsupportedFeatureError, match="Japanese"):
        read(chosen, list("Hello \u3053\u3093\u306b\u3061\u306f there."))
    with pytest.raises(UnsupportedFeatureError, match="'fr'"):
        chosen.open("fr")
    assert read(chosen, ["", " \n", "..."]) == [] or not any(
        len(part.ids) for part in read(chosen, ["", " \n"])
    )
