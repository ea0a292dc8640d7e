"""Text that comes in pieces while it is spoken: sessions, streams, sources that misbehave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynah.api import TTS
from mynah.backends.fake import fake_voice
from mynah.errors import (
    CancelledError,
    DeadlineError,
    GenerationLimitError,
    InvalidRequestError,
    MarkupError,
    UnsupportedFeatureError,
)
from mynah.pipeline.endings import Status
from mynah.pipeline.model import SpeechModel
from mynah.pipeline.session import Session
from mynah.pipeline.synthesizer import join, run, supplier, synthesize
from mynah.types import Audio, AudioChunk, FloatArray, SynthesisRequest
from tests.fake_model import (
    SHORT,
    TEXT,
    breaking,
    fake_model,
    fake_tts,
    stream_threads,
    turns_config,
)

SENTENCES, TURNS = fake_model(), fake_model(turns_config())
MODELS = {"sentences": SENTENCES, "turns": TURNS}


def fed(model: SpeechModel, **values: Any) -> Session:
    voice = fake_voice(model.config)
    return Session(model, SynthesisRequest(text=None, voice=voice, seed=3, **values))


def spoken(model: SpeechModel, pieces: list[str]) -> FloatArray:
    return synthesize(fed(model), pieces).samples


def advance(session: Session) -> list[Audio]:
    """Go on until there is text missing or nothing left."""
    made = []
    while not session.is_over and not session.needs_text:
        if (chunk := session.advance()) is not None:
            made.append(chunk.audio)
    return made


def take_all(source: Iterable[AudioChunk], into: list[AudioChunk]) -> None:
    for chunk in source:
        into.append(chunk)


@pytest.fixture(params=["sentences", "turns"])
def model(request: pytest.FixtureRequest) -> SpeechModel:
    return MODELS[str(request.param)]


@pytest.fixture
def tts(tmp_path: Path, model: SpeechModel) -> Iterator[TTS]:
    with fake_tts(tmp_path, model) as loaded:
        yield loaded
    assert not stream_threads()


@given(
    name=st.sampled_from(sorted(MODELS)),
    cuts=st.lists(st.integers(0, len(TEXT)), max_size=12),
)
def test_pieces_of_any_size_give_the_same_samples(name: str, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(TEXT)]
    pieces = [TEXT[start:stop] for start, stop in pairwise(edges)]
    whole = spoken(MODELS[name], [TEXT])
    np.testing.assert_array_equal(spoken(MODELS[name], pieces), whole)


@pytest.mark.parametrize("when", ["at once", "late"])
def test_when_the_text_comes_changes_nothing(model: SpeechModel, when: str) -> None:
    session, made = fed(model), []
    for character in TEXT:
        session.feed(character)
        if when == "late":
            made += advance(session)
    session.end_text()
    made += advance(session)
    assert session.status is Status.FINISHED
    samples = np.concatenate([audio.samples for audio in made])
    np.testing.assert_array_equal(samples, spoken(model, [TEXT]))


def test_a_model_of_whole_utterances_speaks_as_if_the_text_had_been_there() -> None:
    voice = fake_voice(SENTENCES.config)
    whole = Session(SENTENCES, SynthesisRequest(text=TEXT, voice=voice, seed=3))
    expected = synthesize(whole).samples
    np.testing.assert_array_equal(spoken(SENTENCES, list(TEXT)), expected)


def test_a_waiting_session_says_so_and_does_nothing(model: SpeechModel) -> None:
    session = fed(model)
    assert not session.needs_text, "the voice can be prepared"
    session.advance()
    assert session.needs_text
    assert session.takes_text
    for _ in range(3):
        assert session.advance() is None
    assert session.num_tokens == 0
    session.feed("Hel")
    assert not session.needs_text, "a piece wants to be read"
    advance(session)
    assert session.needs_text
    session.end_text()
    assert not session.needs_text


def test_speech_begins_before_the_text_ends() -> None:
    listening = fed(TURNS)
    listening.feed("Hello there, my dear old friend of")
    advance(listening)
    assert listening.num_tokens >= 45, "three turns at least"
    assert listening.num_samples > 0
    sentence = fed(SENTENCES)
    first, rest = TEXT.split("third")
    sentence.feed(first)
    assert advance(sentence)
    assert sentence.num_utterances == 1
    sentence.feed("third" + rest)
    sentence.end_text()
    advance(sentence)
    assert sentence.num_utterances == 2


def test_a_long_text_becomes_several_utterances() -> None:
    session = fed(TURNS)
    chunks = list(run(session, supplier(session, [TEXT])))
    assert session.num_utterances == 3
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert {chunk.utterance for chunk in chunks} == {0, 1, 2}


def test_a_flush_speaks_what_is_there(model: SpeechModel) -> None:
    session = fed(model)
    session.feed("Hello there")
    advance(session)
    assert session.num_utterances == 0
    session.flush()
    made = advance(session)
    assert made
    assert session.num_utterances == 1
    assert session.needs_text
    assert session.spoken_text == "Hello there"
    session.feed(" and more")
    session.end_text()
    session.end_text()
    advance(session)
    assert session.status is Status.FINISHED
    assert session.num_utterances == 2
    assert session.progress == 1.0


def test_an_end_after_a_flush_ends_the_audio(model: SpeechModel) -> None:
    session = fed(model)
    session.feed(SHORT)
    session.flush()
    session.end_text()
    chunks = list(run(session))
    assert [chunk.is_last for chunk in chunks][-1]
    assert session.status is Status.FINISHED


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([], "nothing to say"),
        (["", " ", "\n"], "nothing to say"),
        (["Hello ", b"there"], "a piece of text is bytes"),
        (["Hello ", None], "a piece of text is NoneType"),
        (["half \ud800"], "surrogate"),
    ],
    ids=["none", "blank", "bytes", "missing", "surrogate"],
)
def test_bad_pieces_are_refused(tts: TTS, pieces: list[Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as caught:
        tts.synthesize(iter(pieces))
    assert caught.value.hint
    with pytest.raises(InvalidRequestError, match=message):
        list(tts.stream(iter(pieces)))


def test_pieces_are_too_long_together(model: SpeechModel) -> None:
    session = fed(model)
    session.feed("a" * 600_000)
    with pytest.raises(InvalidRequestError, match="more than 1000000 characters"):
        session.feed("a" * 600_000)


def test_what_is_wrong_with_a_later_piece_comes_after_the_audio(tmp_path: Path) -> None:
    with fake_tts(tmp_path) as tts:
        chunks: list[AudioChunk] = []
        stream = tts.stream(iter([TEXT, " <|endof", "prompt|> ", "and so on"]), seed=1)
        with pytest.raises(MarkupError, match="control marker"):
            take_all(stream, chunks)
        assert chunks
        with pytest.raises(UnsupportedFeatureError, match="'fr'"):
            tts.stream(iter([SHORT]), language="fr")


def test_only_a_fed_session_takes_text(model: SpeechModel) -> None:
    whole = Session(model, SynthesisRequest(text=SHORT, voice=fake_voice(model.config)))
    assert not whole.takes_text
    for call in (lambda: whole.feed("more"), whole.flush, whole.end_text):
        with pytest.raises(InvalidRequestError, match="has its whole text"):
            call()
    session = fed(model)
    session.end_text()
    with pytest.raises(InvalidRequestError, match="has ended"):
        session.feed("more")
    with pytest.raises(ValueError, match="nobody supplies"):
        list(run(fed(model)))


def test_a_waiting_session_can_be_cancelled(model: SpeechModel) -> None:
    session, calls = fed(model), []
    session.on_change = lambda: calls.append(session.needs_text)
    session.advance()
    session.cancel()
    assert calls == [False], "whoever slept has something to do"
    with pytest.raises(CancelledError):
        session.advance()
    assert session.status is Status.CANCELLED


def test_the_limit_holds_for_text_in_pieces() -> None:
    def never_end(original: Any, *args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        scores = made[0] if isinstance(made, tuple) else made
        scores[..., TURNS.config.lm.eos] = -50.0
        return made

    change = breaking("lm", "step", never_end)
    session = fed(
        fake_model(
            turns_config(), change=lambda parts: breaking("lm", "prefill", never_end)(change(parts))
        )
    )
    chunks: list[AudioChunk] = []
    with pytest.raises(GenerationLimitError, match="3 of 3 utterances"):
        take_all(run(session, supplier(session, [TEXT])), chunks)
    assert chunks[-1].is_last


def test_the_spoken_text_follows_the_audio(tts: TTS) -> None:
    seen = [""]
    with tts.stream(TEXT, seed=1) as stream:
        for _chunk in stream:
            seen.append(stream.spoken_text)
    assert seen[-1] == TEXT
    for before, after in pairwise(seen):
        assert TEXT.startswith(after)
        assert len(before) <= len(after)
    cut = [text for text in seen if text not in ("", TEXT)]
    assert cut, "it grows with the chunks"
    for text in cut:
        assert not (text[-1].isalnum() and TEXT[len(text)].isalnum()), "half a word"


def test_the_used_seed_can_be_read_and_repeated(tts: TTS) -> None:
    audio = tts.synthesize(SHORT)
    assert audio.seed is not None
    np.testing.assert_array_equal(tts.synthesize(SHORT, seed=audio.seed).samples, audio.samples)
    with tts.stream(SHORT) as stream:
        chunks = list(stream)
        assert {chunk.audio.seed for chunk in chunks} == {stream.seed}
    repeated = tts.synthesize(SHORT, seed=np.int64(stream.seed))  # type: ignore[arg-type]
    np.testing.assert_array_equal(repeated.samples, join(chunks).samples)


def test_a_text_in_pieces_may_be_one_that_nobody_waits_for(tmp_path: Path) -> None:
    with fake_tts(tmp_path) as tts, tts.open_stream("fake", in_time=False, timeout_s=60) as stream:
        stats = tts.engine.stats()
        assert (stats.listeners, stats.others) == (0, 1)
        stream.feed(SHORT)
        stream.end_text()
        assert list(stream)


def test_a_text_that_does_not_come_ends_at_its_deadline(tmp_path: Path) -> None:
    with fake_tts(tmp_path) as tts, tts.open_stream("fake", timeout_s=0.05) as stream:
        with pytest.raises(DeadlineError, match=r"0\.05 s"):
            list(stream)
        assert tts.engine.stats().listeners == 0


def test_a_request_can_be_checked_without_being_spoken(tmp_path: Path) -> None:
    with fake_tts(tmp_path) as tts:
        tts.check(TEXT, "fake", speed=2.0, lexicon={"six": '"two"'})
        for wrong in ({"speed": 9.0}, {"lexicon": {"six": "qqq"}}, {"mode": "instruct"}):
            with pytest.raises(InvalidRequestError):
                tts.check(TEXT, "fake", **wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequestError):
            tts.check(" ", "fake")
        assert tts.engine.stats().num_tokens == 0
