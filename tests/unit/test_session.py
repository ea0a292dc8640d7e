from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mynah.backends.fake import fake_config, fake_voice
from mynah.errors import (
    BackendError,
    CancelledError,
    GenerationError,
    GenerationLimitError,
    InvalidRequestError,
    UnsupportedFeatureError,
)
from mynah.pipeline import joins
from mynah.pipeline.endings import Status
from mynah.pipeline.joins import SILENCE, JoinState
from mynah.pipeline.model import check_voice, prepare_voice
from mynah.pipeline.reading import pause_after
from mynah.pipeline.synthesizer import join, run, synthesize
from mynah.types import AudioChunk
from tests.fake_model import SHORT, TEXT, breaking, fake_model, limited, session, with_nan


def _take_all(source: Iterator[AudioChunk], into: list[AudioChunk]) -> None:
    for chunk in source:
        into.append(chunk)


def test_chunks_join_without_gap_and_the_last_one_says_so() -> None:
    one = session(fake_model())
    assert (one.status, one.progress) == (Status.WAITING, 0.0)
    chunks = list(run(one))
    assert one.status is Status.FINISHED
    assert one.is_over
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    position = 0
    for chunk in chunks:
        assert chunk.start_s == pytest.approx(position / 24000)
        position += len(chunk.audio)
    assert position == one.num_samples
    assert np.sqrt(np.mean(join(chunks).samples ** 2)) > 0.01, "the audio is silent"


def test_every_token_becomes_960_samples() -> None:
    one = session(fake_model(), SHORT)
    audio = synthesize(one)
    assert one.num_utterances == 1
    assert len(audio) == 960 * one.num_tokens


def test_progress_rises_to_one() -> None:
    one, seen = session(fake_model()), [0.0]
    while not one.is_over:
        one.advance()
        seen.append(one.progress)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert one.characters_spoken == len(TEXT)


def test_a_step_is_small() -> None:
    """Leaving a stream early must not wait for more than one token or one chunk of audio."""
    model, one = fake_model(), session(fake_model())
    chunk_samples = int(model.config.flow.encoder.chunk_tokens * model.config.samples_per_token)
    while not one.is_over:
        before = one.num_tokens
        chunk = one.advance()
        assert one.num_tokens - before <= 1
        # at most two chunks at the end of an utterance, and a pause
        assert chunk is None or len(chunk.audio) <= 2 * chunk_samples + 24000


def test_seed_and_text_and_voice_decide_the_samples() -> None:
    model = fake_model()
    first = synthesize(session(model, seed=5)).samples
    np.testing.assert_array_equal(first, synthesize(session(model, seed=5)).samples)
    for other in (session(model, seed=6), session(model, SHORT), session(model, voice="other")):
        samples = synthesize(other).samples
        assert len(samples) != len(first) or np.abs(samples - first).max() > 0.01


def test_cancelled_sessions_stop_at_the_next_step() -> None:
    one = session(fake_model())
    one.advance()
    one.cancel()
    with pytest.raises(CancelledError):
        one.advance()
    assert one.status is Status.CANCELLED
    with pytest.raises(InvalidRequestError, match="cancelled"):
        one.advance()


def test_leaving_a_run_early_frees_the_state() -> None:
    one = session(fake_model())
    chunks = run(one)
    next(chunks)
    assert one._current is not None
    state = weakref.ref(one._current)
    chunks.close()  # type: ignore[attr-defined]  # it is a generator
    gc.collect()
    assert state() is None
    assert one.status is Status.CANCELLED


@pytest.mark.parametrize(
    ("part", "method"),
    [
        ("lm", "prefill"),
        ("lm", "step"),
        ("lm", "advance_logits"),
        ("flow", "velocity"),
        ("vocoder", "f0"),
        ("vocoder", "decode"),
    ],
)
def test_nan_of_any_network_is_a_generation_error(part: str, method: str) -> None:
    one = session(fake_model(change=breaking(part, method, with_nan)))
    with pytest.raises(GenerationError) as caught:
        synthesize(one)
    assert not isinstance(caught.value, GenerationLimitError)
    assert one.status is Status.FAILED


def test_a_failing_session_leaves_others_alone() -> None:
    calls = 0

    def fail_once(original: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise BackendError("out of memory")
        return original(*args, **kwargs)

    expected = synthesize(session(fake_model())).samples
    model = fake_model(change=breaking("vocoder", "decode", fail_once))
    failing, other = session(model), session(model)
    with pytest.raises(BackendError, match="out of memory"):
        synthesize(failing)
    np.testing.assert_array_equal(synthesize(other).samples, expected)


def test_the_length_limit_keeps_the_audio_and_then_raises() -> None:
    one = session(fake_model(limited(fake_config())))
    chunks: list[AudioChunk] = []
    with pytest.raises(GenerationLimitError, match=r"2 of 2 utterances .* first 'Hello there"):
        _take_all(run(one), chunks)
    assert chunks[-1].is_last
    assert one.num_utterances == 2
    with pytest.raises(GenerationLimitError) as caught:
        synthesize(session(fake_model(limited(fake_config()))))
    assert len(caught.value.audio) == len(join(chunks))  # type: ignore[arg-type]  # an Audio


@pytest.mark.parametrize("speed", [0.25, 0.5, 1.5, 4.0])
def test_speed_changes_the_length(speed: float) -> None:
    model = fake_model()
    normal, changed = session(model, SHORT), session(model, SHORT, speed=speed)
    length = len(synthesize(normal)) / speed
    assert abs(len(synthesize(changed)) - length) <= 480
    assert changed.num_tokens == normal.num_tokens


def test_utterances_are_apart_by_a_pause_without_a_click() -> None:
    one = session(fake_model())
    samples = synthesize(one).samples
    assert one.num_utterances == 2
    silent = np.flatnonzero(np.abs(samples) < SILENCE)
    runs = np.split(silent, np.flatnonzero(np.diff(silent) > 1) + 1)
    longest = max(runs, key=len)
    assert 0.35 * 24000 < len(longest) < 0.45 * 24000
    assert np.abs(np.diff(samples[longest[0] - 240 : longest[0]])).max() < 0.1
    before, after = samples[longest[0] - 1], samples[longest[-1] + 1]
    assert abs(before) < 2 * SILENCE
    assert abs(after) < 2 * SILENCE


def test_a_voice_of_another_model_is_refused() -> None:
    model = fake_model()
    voice = fake_voice(model.config.model_copy(update={"model_id": "else"}))
    with pytest.raises(UnsupportedFeatureError, match="made with the model else"):
        check_voice(model, voice)
    wide = model.config.flow.model_copy(update={"speaker_dim": 20})
    voice = fake_voice(model.config.model_copy(update={"flow": wide}))
    with pytest.raises(InvalidRequestError, match=r"\(20,\), the model needs \(16,\)"):
        check_voice(model, voice)


def test_prompts_are_cut_to_the_grid_and_keep_their_end() -> None:
    """With 5 tokens in a chunk and 3 ahead, 18 tokens are three chunks and the look-ahead."""
    model = fake_model()
    for num_tokens, kept in ((18, 18), (20, 18), (24, 23), (7, 7), (0, 0)):
        voice = fake_voice(model.config, num_tokens=num_tokens)
        state = prepare_voice(model, voice).flow
        assert state.prompt_tokens == kept
        assert state.committed == max(kept - 3, 0) // 5 * 5
        np.testing.assert_array_equal(
            state.pending, voice.speech_tokens[num_tokens - kept + state.committed :]
        )


def test_a_bounded_past_is_accepted() -> None:
    assert len(synthesize(session(fake_model(left_chunks=2), SHORT))) > 0
    with pytest.raises(InvalidRequestError, match="left_chunks is 0"):
        fake_model(left_chunks=0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("One.", 0.4),
        ("One,", 0.2),
        ("one", 0.0),
        ("One.\n\n", 0.7),
        ("Title\n", 0.4),
        ("\u4f60\u597d\u3002", 0.4),
        ('"One."  ', 0.4),
    ],
)
def test_pauses_follow_the_punctuation(text: str, seconds: float) -> None:
    assert pause_after(text) == seconds


def test_silence_of_the_model_counts_towards_the_pause() -> None:
    state = JoinState(24000)
    sound, quiet = np.full(2400, 0.3, np.float32), np.zeros(1200, np.float32)
    joins.advance(sound, state)
    joins.advance(quiet, state)
    first = joins.end_utterance(quiet, 0.4, state)
    assert len(first) == 1200
    second = joins.advance(np.concatenate([quiet, sound]), state)
    # 0.4 s less 0.1 s at the end and 0.05 s at the start
    assert len(second) - 3600 == 6000
    assert not second[: 6000 + 1200].any()


def test_edges_at_a_join_are_faded_and_nothing_else() -> None:
    state = JoinState(24000)
    sound = np.full(2400, 0.3, np.float32)
    np.testing.assert_array_equal(joins.advance(sound, state), sound)
    first = joins.end_utterance(sound, 0.1, state)
    np.testing.assert_array_equal(first[:-120], sound[:-120])
    assert first[-1] == 0.0
    assert np.abs(np.diff(first)).max() < 0.01
    second = joins.advance(sound, state)
    assert len(second) == 4800
    assert second[2400] == 0.0
    np.testing.assert_array_equal(second[2520:], sound[120:])
    assert (sound == np.float32(0.3)).all(), "the input was changed"
