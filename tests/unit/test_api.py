from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.api import TTS
from mynah.backends.fake import fake_config, fake_voice
from mynah.errors import (
    BackendError,
    CancelledError,
    GenerationLimitError,
    InvalidRequestError,
    SynthesisError,
    UnsupportedFeatureError,
)
from mynah.pipeline.synthesizer import join
from mynah.pipeline.voices import save_voice
from mynah.types import Audio, AudioChunk
from tests.fake_model import (
    SHORT,
    TEXT,
    breaking,
    fake_model,
    fake_tts,
    limited,
    stream_threads,
    with_nan,
)


@pytest.fixture
def tts(tmp_path: Path) -> Iterator[TTS]:
    with fake_tts(tmp_path) as loaded:
        yield loaded
    assert not stream_threads()


def broken_tts(folder: Path, part: str, name: str, method: Callable[..., Any]) -> TTS:
    return fake_tts(folder, fake_model(change=breaking(part, name, method)))


def test_stream_is_synthesize_in_pieces(tts: TTS) -> None:
    whole = tts.synthesize(TEXT, seed=1)
    assert whole.sample_rate == tts.sample_rate == tts.config.sample_rate
    chunks = list(tts.stream(TEXT, seed=1))
    assert len(chunks) > 3
    np.testing.assert_array_equal(join(chunks).samples, whole.samples)


def test_async_twins_give_the_same(tts: TTS) -> None:
    async def both() -> tuple[Audio, list[AudioChunk]]:
        whole = await tts.asynthesize(TEXT, "other", seed=1, speed=1.2)
        return whole, [chunk async for chunk in tts.astream(TEXT, "other", seed=1, speed=1.2)]

    whole, chunks = asyncio.run(both())
    np.testing.assert_array_equal(join(chunks).samples, whole.samples)
    expected = tts.synthesize(TEXT, "other", seed=1, speed=1.2).samples
    np.testing.assert_array_equal(whole.samples, expected)


def test_without_a_seed_every_call_differs(tts: TTS) -> None:
    first, second = tts.synthesize(SHORT), tts.synthesize(SHORT)
    assert len(first) != len(second) or np.abs(first.samples - second.samples).max() > 0


def test_a_voice_can_be_a_name_a_value_or_a_file(
    tts: TTS, tmp_path: Path, speechlike: Audio
) -> None:
    expected = tts.synthesize(SHORT, "other", seed=1).samples
    value = fake_voice(tts.config, "other")
    path = save_voice(value, tmp_path / "kept.safetensors")
    for voice in (value, path, str(path)):
        np.testing.assert_array_equal(tts.synthesize(SHORT, voice, seed=1).samples, expected)
    clip = speechlike.save(tmp_path / "clip.wav")
    made = tts.create_voice(clip, name="mine")
    by_voice = tts.synthesize(SHORT, made, seed=1).samples
    for voice in (clip, str(clip)):
        np.testing.assert_array_equal(tts.synthesize(SHORT, voice, seed=1).samples, by_voice)


def test_the_default_voice_is_the_model_s_or_the_first_one(tts: TTS, tmp_path: Path) -> None:
    np.testing.assert_array_equal(
        tts.synthesize(SHORT, seed=1).samples, tts.synthesize(SHORT, "fake", seed=1).samples
    )
    config = fake_config().model_copy(update={"default_voice": "other"})
    other = fake_tts(tmp_path, fake_model(config))
    np.testing.assert_array_equal(
        other.synthesize(SHORT, seed=1).samples, tts.synthesize(SHORT, "other", seed=1).samples
    )


def test_a_model_without_voices_says_what_to_do(tmp_path: Path) -> None:
    model = fake_model()
    from mynah.pipeline.voice_store import VoiceStore

    tts = TTS(model, VoiceStore(tmp_path / "none", None, "fake"))
    with pytest.raises(InvalidRequestError, match=r"this model has none.*TTS\.create_voice"):
        tts.synthesize(SHORT)
    with pytest.raises(UnsupportedFeatureError, match="cannot make voices"):
        tts.create_voice(Audio(np.zeros(24000, np.float32), 24000))


def test_a_made_voice_can_be_kept_and_found(tts: TTS, speechlike: Audio) -> None:
    voice = tts.create_voice(speechlike, "some words", name="mine", language="en", consent="mine")
    tts.voices.add(voice)
    assert tts.voices.names() == ["fake", "mine", "other"]
    np.testing.assert_array_equal(
        tts.synthesize(SHORT, "mine", seed=1).samples, tts.synthesize(SHORT, voice, seed=1).samples
    )


def test_a_voice_of_another_model_is_made_again(
    tmp_path: Path, speechlike: Audio, mynah_home: Path
) -> None:
    config = fake_config(pointer=False).model_copy(update={"model_id": "second"})
    with fake_tts(tmp_path / "first") as first:
        made = first.create_voice(speechlike, "some words", name="mine")
        path = first.voices.add(made)
        bare = first.create_voice(speechlike, name="bare", keep_recording=False)
    with fake_tts(tmp_path / "second", fake_model(config)) as second:
        own = second.create_voice(speechlike, "some words", name="mine")
        samples = second.synthesize(SHORT, made, seed=1).samples
        np.testing.assert_array_equal(second.synthesize(SHORT, path, seed=1).samples, samples)
        tokens = second.voices.adapt(made).speech_tokens
        assert len(tokens) == len(own.speech_tokens)
        assert np.mean(tokens == own.speech_tokens) > 0.8  # the recording is kept in 16 bit
        with pytest.raises(UnsupportedFeatureError, match="made with the model fake"):
            second.synthesize(SHORT, bare)


def test_a_voice_is_prepared_once_for_each_use(tmp_path: Path) -> None:
    calls = 0

    def count(original: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        return original(*args)

    tts = broken_tts(tmp_path, "flow", "speaker", count)
    recorded = [tts.synthesize(SHORT, seed=1).samples for _ in range(2)]
    bare = [tts.synthesize(SHORT, mode="sft", seed=1).samples for _ in range(2)]
    assert calls == 2
    np.testing.assert_array_equal(bare[0], bare[1])
    assert len(bare[0]) != len(recorded[0]) or np.abs(bare[0] - recorded[0]).max() > 0


def test_chunks_come_while_the_text_is_spoken(tmp_path: Path) -> None:
    """Playback overlaps computing: the first chunk is handed out while later ones wait."""
    gate = threading.Event()
    calls = 0

    def stop_later(original: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 2:
            assert gate.wait(20)
        return original(*args)

    with broken_tts(tmp_path, "vocoder", "decode", stop_later).stream(TEXT, seed=1) as stream:
        first = next(stream)
        assert not first.is_last
        assert stream.progress < 0.9
        gate.set()
        rest = list(stream)
        assert rest[-1].is_last
        assert stream.progress == 1.0
        assert list(stream) == []


def test_an_error_in_the_worker_reaches_the_listener(tmp_path: Path) -> None:
    calls = 0

    def fail_later(original: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 4 == 0:
            raise BackendError("the device is gone", hint="plug it in")
        return original(*args)

    tts = broken_tts(tmp_path, "vocoder", "decode", fail_later)
    stream = tts.stream(TEXT)
    chunks = [next(stream) for _ in range(3)]
    assert [chunk.index for chunk in chunks] == [0, 1, 2]
    with pytest.raises(BackendError, match="plug it in"):
        next(stream)
    assert list(stream) == []
    with pytest.raises(BackendError):
        tts.synthesize(TEXT)
    with pytest.raises(BackendError):
        asyncio.run(tts.asynthesize(TEXT))


def test_even_an_unexpected_error_reaches_the_listener(tmp_path: Path) -> None:
    def fail(original: Any, *args: Any) -> Any:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(broken_tts(tmp_path, "flow", "velocity", fail).stream(TEXT))


def test_a_voice_that_failed_to_prepare_is_tried_again(tmp_path: Path) -> None:
    calls = 0

    def fail_once(original: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        return with_nan(original, *args) if calls == 1 else original(*args)

    tts = broken_tts(tmp_path, "flow", "velocity", fail_once)
    with pytest.raises(SynthesisError, match="not finite"):
        tts.synthesize(SHORT)
    assert len(tts.synthesize(SHORT)) > 0


def test_the_limit_keeps_the_audio(tmp_path: Path) -> None:
    tts = fake_tts(tmp_path, fake_model(limited(fake_config())))
    chunks: list[AudioChunk] = []

    def take() -> None:
        for chunk in tts.stream(TEXT, seed=1):
            chunks.append(chunk)

    def speak() -> None:
        tts.synthesize(TEXT, seed=1)

    def speak_async() -> None:
        asyncio.run(tts.asynthesize(TEXT, seed=1))

    with pytest.raises(GenerationLimitError):
        take()
    assert chunks[-1].is_last
    for call in (speak, speak_async):
        with pytest.raises(GenerationLimitError) as caught:
            call()
        assert isinstance(caught.value.audio, Audio)
        np.testing.assert_array_equal(caught.value.audio.samples, join(chunks).samples)


def test_leaving_a_stream_stops_its_thread(tts: TTS) -> None:
    for _chunk in tts.stream(TEXT * 50):
        break  # nobody holds the stream any more
    wait_for_no_threads()
    with tts.stream(TEXT * 50) as stream:
        next(stream)
    assert not stream_threads()
    stream.close()
    with pytest.raises(CancelledError):
        next(stream)


def test_leaving_an_async_stream_stops_its_thread(tts: TTS) -> None:
    async def leave() -> None:
        async for _chunk in tts.astream(TEXT * 50):
            break

    async def give_up() -> None:
        task = asyncio.create_task(tts.asynthesize(TEXT * 500))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    asyncio.run(give_up())
    wait_for_no_threads()


def test_closing_stops_streams_and_later_calls(tmp_path: Path) -> None:
    tts = fake_tts(tmp_path)
    stream = tts.stream(TEXT * 50)
    next(stream)
    tts.close()
    tts.close()
    assert not stream_threads()
    with pytest.raises(CancelledError, match="closed"):
        list(stream)
    for call in (tts.synthesize, tts.stream):
        with pytest.raises(InvalidRequestError, match="this TTS is closed"):
            call(SHORT)
    assert tts.voices.names() == ["fake", "other"]


def test_one_object_serves_many_threads(tts: TTS) -> None:
    wanted = {seed: tts.synthesize(SHORT, seed=seed).samples for seed in range(6)}
    found: dict[int, Any] = {}

    def speak(seed: int) -> None:
        if seed % 2:
            found[seed] = tts.synthesize(SHORT, seed=seed).samples
        else:
            found[seed] = join(list(tts.stream(SHORT, seed=seed))).samples

    threads = [threading.Thread(target=speak, args=(seed,)) for seed in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for seed, samples in wanted.items():
        np.testing.assert_array_equal(found[seed], samples)


def test_a_voice_is_prepared_once(tmp_path: Path) -> None:
    calls = 0

    def count(original: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        return original(*args)

    tts = broken_tts(tmp_path, "flow", "speaker", count)
    for name in ("fake", "other", "fake", "fake", "other"):
        tts.synthesize(SHORT, name)
    assert calls == 2


def wait_for_no_threads(limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    for thread in stream_threads():
        thread.join(max(deadline - time.monotonic(), 0))
    assert not stream_threads()
