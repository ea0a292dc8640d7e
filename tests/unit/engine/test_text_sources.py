"""Sources of text that hang, fail, never end or are asynchronous, and streams fed by hand."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mynah.api import TTS
from mynah.engine.stream import SpeechStream
from mynah.errors import CancelledError, InvalidRequestError
from mynah.pipeline.model import SpeechModel
from mynah.pipeline.synthesizer import join
from mynah.types import AudioChunk, FloatArray
from tests.fake_model import SHORT, TEXT, fake_model, fake_tts, stream_threads, turns_config

WAIT_S = 20
MODELS = {"sentences": fake_model(), "turns": fake_model(turns_config())}


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


def test_a_generator_is_streamed(tts: TTS) -> None:
    expected = tts.synthesize(TEXT.split(","), seed=5).samples
    pieces = (piece for piece in TEXT.split(","))
    with tts.stream(pieces, seed=5) as stream:
        np.testing.assert_array_equal(join(list(stream)).samples, expected)
        assert stream.seed == 5


def test_an_error_of_the_source_reaches_the_listener(tts: TTS) -> None:
    def source() -> Iterator[str]:
        yield TEXT
        raise ZeroDivisionError("the language model is gone")

    chunks: list[AudioChunk] = []
    with pytest.raises(ZeroDivisionError, match="is gone"):
        take_all(tts.stream(source()), chunks)
    assert chunks, "what was certain was spoken"
    with pytest.raises(ZeroDivisionError):
        tts.synthesize(source())


def test_a_source_that_hangs_holds_nobody(tts: TTS) -> None:
    """Complaint 7: a request that waits for ever. Closing must not wait for the source."""
    gate, asked = threading.Event(), threading.Event()

    def source() -> Iterator[str]:
        yield SHORT
        asked.set()
        gate.wait(WAIT_S)
        yield SHORT

    stream = tts.stream(source())
    assert asked.wait(WAIT_S)
    stream.close()
    assert not stream_threads()
    with pytest.raises(CancelledError):
        next(stream)
    gate.set()


def test_an_endless_source_is_not_read_ahead_without_bound(tts: TTS) -> None:
    taken = 0
    left = threading.Event()

    def source() -> Iterator[str]:
        nonlocal taken
        try:
            while True:
                taken += 1
                yield "Hello there, my friend. "
        finally:
            left.set()

    with tts.stream(source()) as stream:
        for _ in range(3):
            next(stream)
    gc.collect()
    assert left.wait(WAIT_S), "the source is let go of"
    assert taken < 400


def test_async_sources(tts: TTS) -> None:
    async def source() -> AsyncIterator[str]:
        for word in TEXT.split(" "):
            await asyncio.sleep(0)
            yield word + " "

    async def failing() -> AsyncIterator[str]:
        yield SHORT
        raise ZeroDivisionError("gone")

    async def endless() -> AsyncIterator[str]:
        yield TEXT
        await asyncio.Event().wait()

    async def main() -> list[FloatArray]:
        whole = await asyncio.wait_for(tts.asynthesize(source(), seed=4), WAIT_S)
        pieces = [chunk async for chunk in tts.astream(source(), seed=4)]
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(tts.asynthesize(failing()), WAIT_S)
        listener = tts.astream(endless())
        await asyncio.wait_for(anext(listener), WAIT_S)
        await asyncio.wait_for(listener.aclose(), WAIT_S)  # type: ignore[attr-defined]
        return [whole.samples, join(pieces).samples]

    whole, pieces = asyncio.run(main())
    np.testing.assert_array_equal(whole, pieces)
    words = [word + " " for word in TEXT.split(" ")]
    np.testing.assert_array_equal(whole, tts.synthesize(words, seed=4).samples)


def test_a_stream_fed_by_hand(tts: TTS) -> None:
    expected = tts.synthesize([TEXT], seed=2).samples
    with tts.open_stream(seed=2) as stream:
        for start in range(0, len(TEXT), 7):
            stream.feed(TEXT[start : start + 7])
        stream.end_text()
        stream.end_text()
        with pytest.raises(InvalidRequestError, match="has ended"):
            stream.feed("more")
        np.testing.assert_array_equal(join(list(stream)).samples, expected)
    with tts.stream(SHORT) as closed, pytest.raises(InvalidRequestError, match="takes no text"):
        closed.feed("more")


def test_a_stream_that_waits_is_closed_with_its_owner(tmp_path: Path, model: SpeechModel) -> None:
    tts = fake_tts(tmp_path, model)
    stream: SpeechStream | None = tts.open_stream()
    assert stream is not None
    stream.feed("Hello")
    tts.close()
    assert not stream_threads()
    with pytest.raises(CancelledError):
        next(stream)
    with fake_tts(tmp_path, model) as other:
        other.open_stream()  # nobody holds it
        gc.collect()
        for thread in stream_threads():
            thread.join(WAIT_S)
        assert not stream_threads()
