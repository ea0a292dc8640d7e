"""Work of a session that is done before it has to be changes when it is done, never what comes."""

from __future__ import annotations

import gc
import math
import re
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from mynah.backends.fake import fake_config
from mynah.errors import BackendError, CancelledError, GenerationError, InvalidRequestError
from mynah.pipeline.model import SpeechModel
from mynah.pipeline.session import Session
from mynah.pipeline.synthesizer import join, run
from mynah.types import AudioChunk, SynthesisRequest
from tests.fake_model import (
    AHEAD,
    TEXT,
    breaking,
    fake_model,
    overlapping,
    session,
    turns_config,
)

LONG = " ".join([TEXT] * 4)  # five utterances


class Calls:
    """A language model's calls: how many sequences each had, and in which thread."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.threads: set[str] = set()

    def step(self, original: Any, tokens: Any, *args: Any) -> Any:
        self.sizes.append(len(tokens))
        self.threads.add(threading.current_thread().name)
        return original(tokens, *args)

    def model(self, *, pointer: bool = False) -> SpeechModel:
        return fake_model(fake_config(pointer=pointer), change=overlapping(self.step))


def chunks(one: Session, spare_s: float) -> list[AudioChunk]:
    one.spare_s = lambda: spare_s
    made = []
    while not one.is_over:
        if (chunk := one.advance()) is not None:
            made.append(chunk)
    return made


def told(made: list[AudioChunk]) -> list[tuple[int, float, bool, int, int]]:
    return [(c.index, c.start_s, c.is_last, c.utterance, len(c.audio.samples)) for c in made]


@pytest.mark.parametrize("pointer", [True, False])
@pytest.mark.parametrize("spare_s", [0.5, math.inf])
def test_the_chunks_are_the_same(pointer: bool, spare_s: float) -> None:
    plain = fake_model(fake_config(pointer=pointer))
    wanted = chunks(session(plain, LONG, seed=3), 0.0)
    calls = Calls()
    made = chunks(session(calls.model(pointer=pointer), LONG, seed=3), spare_s)
    assert told(made) == told(wanted)
    np.testing.assert_array_equal(join(made).samples, join(wanted).samples)
    assert AHEAD in calls.threads


def test_utterances_share_calls_only_where_there_is_time() -> None:
    for spare_s, largest in ((0.0, 1), (0.5, 1), (math.inf, 4)):
        calls = Calls()
        chunks(session(calls.model(), LONG, seed=3), spare_s)
        assert max(calls.sizes) == largest


def test_a_backend_that_cannot_gets_no_second_thread() -> None:
    calls = Calls()
    model = fake_model(fake_config(pointer=False), change=breaking("lm", "step", calls.step))
    chunks(session(model, LONG, seed=3), math.inf)
    assert calls.threads == {threading.current_thread().name}
    assert max(calls.sizes) == 1


def test_tokens_are_made_for_one_chunk_ahead_at_most() -> None:
    """Whoever cancels has not had half of the text computed for nothing."""
    model = Calls().model()
    one = session(model, TEXT, seed=3)
    one.spare_s = lambda: 0.5
    size = model.config.flow.encoder.chunk_tokens + model.config.flow.encoder.lookahead_tokens
    while not one.is_over:
        one.advance()
        assert one._current is None or len(one._current.render.fresh) <= 2 * size


def test_an_utterance_that_fails_later_keeps_the_audio_before() -> None:
    prefills: list[int] = []

    def third_fails(original: Any, *args: Any, **kwargs: Any) -> Any:
        prefills.append(len(args))
        if len(prefills) == 3:
            raise BackendError("the third text cannot be read")
        return original(*args, **kwargs)

    def model(change: Any) -> SpeechModel:
        prefills.clear()
        broken = breaking("lm", "prefill", third_fails)
        return fake_model(fake_config(pointer=False), change=lambda found: change(broken(found)))

    found = []
    for change in (lambda backend: backend, overlapping(call)):
        made: list[AudioChunk] = []
        with pytest.raises(BackendError, match="third"):
            made.extend(chunk for chunk in _kept(session(model(change), LONG, seed=3), made))
        found.append(told(made))
    assert found[0] == found[1]
    assert found[0][-1][3] == 1  # the second utterance was spoken


def call(original: Any, *args: Any) -> Any:
    return original(*args)


def _kept(one: Session, made: list[AudioChunk]) -> list[AudioChunk]:
    for chunk in run(one):
        made.append(chunk)
    return []


def test_scores_that_are_unusable_end_their_own_utterance() -> None:
    spoil = threading.Event()

    def step(original: Any, tokens: Any, states: Any, *args: Any) -> Any:
        scores = original(tokens, states, *args)
        if len(tokens) == 4:
            scores[2] = np.nan
            spoil.set()
        return scores

    model = fake_model(fake_config(pointer=False), change=overlapping(step))
    made: list[AudioChunk] = []
    with pytest.raises(GenerationError, match="NaN"):
        _kept(session(model, LONG, seed=3), made)
    assert spoil.is_set()
    assert max(chunk.utterance for chunk in made) == 1  # the third one failed, two were spoken


def test_a_network_that_fails_ahead_does_not_take_the_audio_that_is_ready() -> None:
    made: list[AudioChunk] = []
    failed_at: list[int] = []

    def step(original: Any, *args: Any) -> Any:
        if made and threading.current_thread().name == AHEAD:
            failed_at.append(len(made))
            raise BackendError("no more")
        return original(*args)

    model = fake_model(fake_config(pointer=False), change=overlapping(step))
    one = session(model, LONG, seed=3)
    one.spare_s = lambda: 0.5  # for the next chunk only
    with pytest.raises(BackendError, match="no more"):
        _kept(one, made)
    assert [len(made)] == [failed_at[0] + 1]  # the chunk beside which it failed


def test_cancelling_ends_it() -> None:
    calls = Calls()
    one = session(calls.model(), LONG, seed=3)
    chunks_of_one = run(one)
    next(chunks_of_one)
    one.cancel()
    before = len(calls.sizes)
    with pytest.raises(CancelledError):
        next(chunks_of_one)
    assert len(calls.sizes) == before


def test_a_text_in_pieces_begins_nothing_before_its_turn() -> None:
    calls = Calls()
    model = calls.model()
    one = Session(model, SynthesisRequest(text=None, voice=session(model).request.voice, seed=3))
    words = iter(["It begins. ", "It goes on. ", "It ends."])

    def supply() -> None:
        piece = next(words, None)
        if piece is None:
            one.end_text()
        else:
            one.feed(piece)

    made = list(run(one, supply))
    assert made[-1].is_last
    assert max(calls.sizes) == 1


def test_turns_of_text_and_speech_are_the_same() -> None:
    def spoken(change: Any) -> Any:
        model = fake_model(turns_config(), change=change)
        voice = session(model).request.voice
        one = Session(model, SynthesisRequest(text=None, voice=voice, seed=5))
        words = iter(re.findall(r"\w+", TEXT))

        def supply() -> None:
            word = next(words, None)
            if word is None:
                one.end_text()
            else:
                one.feed(f" {word}")

        return join(list(run(one, supply))).samples

    np.testing.assert_array_equal(spoken(overlapping(call)), spoken(None))


def test_nothing_to_say_is_still_refused() -> None:
    with pytest.raises(InvalidRequestError, match="nothing to say"):
        list(run(session(Calls().model(), " . ")))


def test_a_session_that_is_over_holds_nothing() -> None:
    one = session(Calls().model(), LONG, seed=3)
    list(run(one))
    gc.disable()
    try:
        ahead = weakref.ref(one)
        del one
        assert ahead() is None
    finally:
        gc.enable()
