"""Voice conversion: a recording's own tokens, spoken by another voice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mynah.api import TTS
from mynah.backends.fake import fake_config, fake_voice
from mynah.errors import (
    CancelledError,
    InvalidRequestError,
    PromptAudioError,
    UnsupportedFeatureError,
)
from mynah.pipeline.conversion import Conversion, quiet_pieces
from mynah.pipeline.endings import Status
from mynah.pipeline.model import prepare_voice
from mynah.pipeline.synthesizer import join, run, synthesize
from mynah.pipeline.voice_store import VoiceStore
from mynah.types import Audio, TokenArray
from tests.fake_model import fake_model, fake_tts, stream_threads
from tests.sounds import make_speechlike


@pytest.fixture
def tts(tmp_path: Path) -> Iterator[TTS]:
    with fake_tts(tmp_path) as loaded:
        yield loaded
    assert not stream_threads()


class Counting:
    """A tokenizer that gives the tokens it is asked for, and knows how long its inputs were."""

    def __init__(self, num_tokens: int | None = None) -> None:
        self.lengths: list[int] = []
        self._num_tokens = num_tokens

    def tokens(self, log_mel: np.ndarray) -> TokenArray:
        self.lengths.append(len(log_mel))
        count = len(log_mel) // 4 if self._num_tokens is None else self._num_tokens
        return np.arange(count) % 60


def conversion(audio: Audio, tokenizer: Counting, voice: str = "fake") -> Conversion:
    model = fake_model()
    chosen = fake_voice(model.config, voice)
    return Conversion(model, audio, lambda: prepare_voice(model, chosen), lambda: tokenizer)


def test_a_stream_is_the_whole_in_pieces(tts: TTS, speechlike: Audio) -> None:
    whole = tts.convert(speechlike, "other", seed=1)
    assert (whole.sample_rate, whole.seed) == (tts.sample_rate, 1)
    assert abs(whole.duration_s - speechlike.duration_s) < 0.1
    with tts.stream_convert(speechlike, "other", seed=1) as stream:
        chunks = list(stream)
        assert (stream.progress, stream.seed, stream.spoken_text) == (1.0, 1, "")
    assert len(chunks) > 5
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    np.testing.assert_array_equal(join(chunks).samples, whole.samples)


def test_recording_and_voice_decide_the_samples(tts: TTS, speechlike: Audio) -> None:
    first = tts.convert(speechlike, "fake", seed=1).samples
    other = tts.convert(speechlike, "other", seed=1).samples
    assert len(first) == len(other)
    assert np.abs(first - other).max() > 0.01
    backwards = Audio(speechlike.samples[::-1].copy(), speechlike.sample_rate)
    assert np.abs(tts.convert(backwards, "fake", seed=1).samples - first).max() > 0.01
    slow = tts.convert(speechlike, "fake", seed=1, speed=0.5)
    assert abs(len(slow) - 2 * len(first)) < 1000


def test_files_and_bytes_are_read(tts: TTS, tmp_path: Path, speechlike: Audio) -> None:
    path = speechlike.save(tmp_path / "clip.wav")
    expected = tts.convert(path, seed=1).samples
    np.testing.assert_array_equal(tts.convert(path.read_bytes(), seed=1).samples, expected)


@pytest.mark.parametrize("num_tokens", [1, 3, 4, 5, 7, 8, 9, 20])
def test_every_token_is_spoken(num_tokens: int) -> None:
    made = synthesize(conversion(make_speechlike(1.0, 24000), Counting(num_tokens)))
    assert len(made) == 960 * num_tokens


def test_a_long_recording_is_cut_at_quiet_places() -> None:
    rate = 16000
    samples = np.tile(make_speechlike(4.0, rate).samples, 19)
    quiet = [int(part * rate) for part in (18.5, 37.2, 58.0)]
    for place in quiet:
        samples[place - 800 : place + 800] = 0
    pieces = quiet_pieces(Audio(samples, rate))
    np.testing.assert_array_equal(np.concatenate([piece.samples for piece in pieces]), samples)
    assert len(pieces) == 4
    assert max(piece.duration_s for piece in pieces) <= 30
    edges = np.cumsum([len(piece) for piece in pieces])[:-1]
    assert all(abs(edge - place) <= 800 for edge, place in zip(edges, quiet, strict=True))
    tokenizer = Counting()
    chunks = list(run(conversion(Audio(samples, rate), tokenizer)))
    assert len(tokenizer.lengths) == 4
    assert {chunk.utterance for chunk in chunks} == {0, 1, 2, 3}
    assert abs(join(chunks).duration_s - 76) < 0.2


@pytest.mark.parametrize("seconds", [29.99, 30.0, 30.01, 31, 55, 120.5])
def test_pieces_always_fit_the_tokenizer(seconds: float) -> None:
    pieces = quiet_pieces(Audio(np.zeros(int(seconds * 16000), np.float32), 16000))
    assert min(piece.duration_s for piece in pieces) >= 1
    assert max(piece.duration_s for piece in pieces) <= 30
    assert sum(len(piece) for piece in pieces) == int(seconds * 16000)


def test_a_conversion_can_be_left_at_any_step() -> None:
    audio, steps = make_speechlike(2.0, 24000), 0
    whole = conversion(audio, Counting())
    while not whole.is_over:
        whole.advance()
        steps += 1
    assert whole.status is Status.FINISHED
    with pytest.raises(InvalidRequestError, match="finished"):
        whole.advance()
    for count in range(steps):
        left = conversion(audio, Counting())
        for _ in range(count):
            left.advance()
        left.cancel()
        with pytest.raises(CancelledError):
            left.advance()
        assert left.status is Status.CANCELLED


def test_what_cannot_be_converted_is_refused(tts: TTS, tmp_path: Path, speechlike: Audio) -> None:
    with pytest.raises(PromptAudioError, match=r"0\.20 s long, at least 0\.3 s"):
        tts.convert(make_speechlike(0.2, 16000))
    with pytest.raises(PromptAudioError, match="8000 samples per second"):
        tts.stream_convert(Audio(speechlike.samples, 8000))
    with pytest.raises(InvalidRequestError, match="speed 9"):
        tts.convert(speechlike, speed=9)
    with pytest.raises(InvalidRequestError, match="seed -1"):
        tts.convert(speechlike, seed=-1)
    with (
        tts.stream_convert(speechlike) as stream,
        pytest.raises(InvalidRequestError, match="takes no text"),
    ):
        stream.feed("words")
    store = VoiceStore(tmp_path / "user", tmp_path / "builtin", "fake")
    with (
        TTS(fake_model(fake_config()), store) as deaf,
        pytest.raises(UnsupportedFeatureError, match="cannot make voices"),
    ):
        deaf.convert(speechlike, "fake")
