"""Clicks, pops and noise where pieces of audio meet (complaints 1 and 19)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest

from mynah.api import TTS
from mynah.audio import pcm
from mynah.errors import GenerationLimitError
from mynah.pipeline.joins import JoinState, advance
from mynah.pipeline.model import SpeechModel
from mynah.pipeline.session import Session
from mynah.pipeline.synthesizer import join, run
from mynah.pipeline.windowed_flow import cross_fade
from mynah.types import AudioChunk, FloatArray, SynthesisRequest
from tests.defects.clicks import clicks
from tests.fake_model import TEXT, fake_tts
from tests.tiny_model import FAMILIES, tiny_voice

SPEECH = "The rain had stopped. A long line of people waited in front of the old station."


def boundaries(chunks: list[AudioChunk]) -> list[int]:
    return list(accumulate(len(chunk.audio) for chunk in chunks))[:-1]


def overlapped(samples: FloatArray, place: int) -> FloatArray:
    """What joining there by the official overlap-add does to a sound that goes on."""
    fade = np.hamming(2 * 480)[:480].astype(np.float32)
    result = samples.copy()
    result[place : place + 480] *= fade + fade[::-1]
    return result


def loud_places(samples: FloatArray, count: int) -> list[int]:
    """Random places where a click could be heard."""
    places = np.random.default_rng(0).integers(600, len(samples) - 1200, 4 * count)
    return [int(p) for p in places if np.abs(samples[p - 200 : p + 200]).max() > 0.05][:count]


@pytest.fixture(scope="module")
def streamed() -> list[AudioChunk]:
    """Real speech of the embedded voice."""
    with TTS.load() as tts:
        return list(tts.stream(SPEECH, seed=2))


def test_streamed_speech_has_no_click_at_any_join(streamed: list[AudioChunk]) -> None:
    """Users heard a pop every second of streamed speech, and were told to check their player."""
    assert len(boundaries(streamed)) >= 3
    assert clicks(join(streamed).samples, boundaries(streamed)) == []


def test_the_detector_knows_clicks_from_speech(streamed: list[AudioChunk]) -> None:
    """Otherwise the test above would prove nothing: clicks are found, and speech is none."""
    samples = join(streamed).samples
    places = loud_places(samples, 200)
    assert len(places) > 100
    assert clicks(samples, places) == []
    cut = [p for p in places if clicks(np.delete(samples, np.s_[p - 40 : p]), [p - 40])]
    assert len(cut) > 0.6 * len(places)
    assert sum(len(clicks(overlapped(samples, p), [p])) for p in places) > 0.02 * len(places)


def test_a_tone_in_chunks_stays_a_tone() -> None:
    """The official overlap-add weighs both sides with the halves of a Hamming window.

    Those add up to 1.08, so every join is eight per cent too loud and has a step at each end. In
    speech that is often hidden, in a smooth sound it stands out.
    """
    time = np.arange(5 * 24000) / 24000
    tone = sum(np.sin(2 * np.pi * 130 * k * time) / k**2 for k in range(1, 12)) / 3
    samples = np.asarray(tone, np.float32)
    state, cuts = JoinState(24000), list(range(9600, len(samples), 9600))
    made = [advance(piece, state) for piece in np.split(samples, cuts)]
    assert clicks(np.concatenate(made), cuts) == []
    places = loud_places(samples, 100)
    assert clicks(samples, places) == []
    assert sum(len(clicks(overlapped(samples, p), [p])) for p in places) > 0.8 * len(places)


@pytest.mark.parametrize("family", FAMILIES)
def test_models_of_every_kind_stream_without_a_seam(
    family: str, tiny_models: Callable[[str, str], SpeechModel]
) -> None:
    """What a stream gives is what one go gives: then there is no join that could be heard.

    Only the first generation cannot: none of its flow is causal. There the detector decides.
    """
    model = tiny_models(family, "onnx")
    request = SynthesisRequest(text=SPEECH[:60], voice=tiny_voice(model.config), seed=2)
    chunks = spoken(Session(model, request))
    whole = join(spoken(Session(model, request, whole=True))).samples
    samples = join(chunks).samples
    assert len(boundaries(chunks)) >= 2
    assert clicks(samples, boundaries(chunks)) == []
    assert len(samples) == len(whole)
    if model.config.flow.encoder.kind != "regulated_conformer":
        np.testing.assert_allclose(samples, whole, atol=1e-5)


def spoken(session: Session) -> list[AudioChunk]:
    """All chunks; random weights seldom end speech by themselves, which is no matter here."""
    chunks: list[AudioChunk] = []
    with suppress(GenerationLimitError):
        for chunk in run(session):
            chunks.append(chunk)
    return chunks


def test_cross_fades_keep_what_both_sides_agree_on() -> None:
    """Hamming halves make a steady sound swell by eight per cent at every join.

    Only the first generation needs a cross-fade here at all, of mel frames.
    """
    steady = np.full((34, 80), -3.25, np.float32)
    np.testing.assert_array_equal(
        cross_fade(steady, np.tile(steady, (3, 1))), np.tile(steady, (3, 1))
    )
    before, after = np.zeros((34, 1), np.float32), np.ones((40, 1), np.float32)
    weights = cross_fade(before, after)[:, 0]
    np.testing.assert_allclose(weights[:34] + weights[:34][::-1], 1.0, atol=1e-6)
    assert all(b >= a for a, b in pairwise(weights))


def test_loud_samples_clip_and_never_wrap(tmp_path: Path) -> None:
    """The official servers multiply by 32768 and cast: 1.07 comes out as -0.93, a full-scale pop.

    Ours clip when they convert; and what the drop-in module yields stays within what survives the
    conversion that scripts do by themselves.
    """
    loud = np.array([1.07, -1.07, 1.0, np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(
        np.frombuffer(pcm.to_bytes(loud), "<i2"), [32767, -32768, 32767, 32767, -32768]
    )
    with fake_tts(tmp_path) as tts:
        samples = tts.synthesize(TEXT, seed=1).samples
    naive = (samples * 2**15).astype(np.int16)
    assert np.abs(naive / 2**15 - samples).max() < 1e-4
