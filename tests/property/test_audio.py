"""Round trips, and: any chunking of the input gives the whole-pass output."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mynah.audio import pcm
from mynah.audio.io import encode_audio, read_audio
from mynah.audio.process import Compressor
from mynah.audio.resample import Resampler, resample
from mynah.audio.streams import PipeWriter
from mynah.types import Audio

FloatArray = npt.NDArray[np.float32]

anything = arrays(np.float32, st.integers(0, 300), elements=st.floats(-4, 4, width=32))
rates = st.sampled_from([8000, 11025, 16000, 22050, 24000, 44100, 48000])
sizes = st.lists(st.integers(0, 3000), min_size=1, max_size=8)
seeds = st.integers(0, 2**31)


def _pieces(lengths: list[int], seed: int) -> list[FloatArray]:
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, sum(lengths)).astype(np.float32)
    return np.split(noise, np.cumsum(lengths)[:-1])


@given(arrays(np.int16, st.integers(0, 300)))
def test_every_16_bit_value_survives(values: npt.NDArray[np.int16]) -> None:
    np.testing.assert_array_equal(pcm.float_to_int16(pcm.int16_to_float(values)), values)


@given(anything)
def test_pcm_is_within_half_a_step_and_clipped(samples: FloatArray) -> None:
    back = pcm.from_bytes(pcm.to_bytes(samples))
    assert np.all(np.abs(back - np.clip(samples, -1, 1)) <= 1 / 32768)
    assert np.all((np.sign(back) == np.sign(samples)) | (np.abs(samples) <= 1 / 65536))


@given(anything.filter(len), rates)
def test_wav_and_flac_survive_a_round_trip(samples: FloatArray, rate: int) -> None:
    expected = pcm.int16_to_float(pcm.float_to_int16(samples))
    for kind in ("wav", "flac"):
        back = read_audio(encode_audio(Audio(samples, rate), kind))
        assert back.sample_rate == rate
        tolerance = 0 if kind == "wav" else 1 / 32768
        np.testing.assert_allclose(back.samples, expected, rtol=0, atol=tolerance)


@given(st.lists(anything, max_size=5))
def test_streamed_samples_equal_whole_ones(pieces: list[FloatArray]) -> None:
    stream = io.BytesIO()
    with PipeWriter(stream, 24000, "raw") as writer:
        for piece in pieces:
            writer.write(piece)
    assert stream.getvalue() == pcm.to_bytes(np.concatenate([np.zeros(0, np.float32), *pieces]))


@given(sizes, seeds, rates, rates)
def test_resampling_any_chunking(lengths: list[int], seed: int, source: int, target: int) -> None:
    pieces = _pieces(lengths, seed)
    stream = Resampler(source, target)
    joined = np.concatenate([*(stream.feed(piece) for piece in pieces), stream.finish()])
    whole = resample(np.concatenate(pieces), source, target)
    assert joined.shape == whole.shape
    np.testing.assert_allclose(joined, whole, rtol=0, atol=1e-6)


@given(sizes, seeds, rates)
def test_compressing_any_chunking(lengths: list[int], seed: int, rate: int) -> None:
    pieces = _pieces(lengths, seed)
    chunked, once = Compressor(rate), Compressor(rate)
    joined = np.concatenate([*(chunked.feed(piece) for piece in pieces), chunked.finish()])
    whole = np.concatenate([once.feed(np.concatenate(pieces)), once.finish()])
    np.testing.assert_allclose(joined, whole, rtol=0, atol=1e-6)
