"""Prompts in, tensors out, seeds."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mynah.audio.resample import sinc_resample
from mynah.compat import load_wav, prompts, seeds, set_all_random_seed
from mynah.compat.prompts import read_prompt
from mynah.compat.seeds import SeedSeries
from mynah.compat.tensors import SpeechArray, to_tensor
from mynah.errors import InvalidRequestError, PromptAudioError
from mynah.types import Audio

RAMP = np.linspace(-0.5, 0.5, 16000, dtype=np.float32)


@pytest.fixture
def clip(tmp_path: Path, speechlike: Audio) -> Path:
    return speechlike.save(tmp_path / "clip.wav")


def test_a_recording_keeps_its_own_rate(clip: Path, speechlike: Audio) -> None:
    data = clip.read_bytes()
    for source in (str(clip), clip, data, io.BytesIO(data)):
        audio = read_prompt(source)
        assert audio.sample_rate == 24000
        np.testing.assert_allclose(audio.samples, speechlike.samples, atol=1e-4)
    assert read_prompt(speechlike) is speechlike


@pytest.mark.parametrize(
    "value",
    [
        RAMP,
        RAMP[None],
        np.stack([RAMP, RAMP]),
        np.stack([RAMP, RAMP], axis=1),
        RAMP.astype(np.float64),
        np.rint(RAMP * 32768).astype(np.int16),
        torch.from_numpy(RAMP)[None],
        torch.from_numpy(RAMP).requires_grad_(),
    ],
    ids=["N", "1xN", "2xN", "Nx2", "float64", "int16", "tensor", "gradient"],
)
def test_samples_count_as_16_khz(value: Any) -> None:
    audio = read_prompt(value)
    assert audio.sample_rate == 16000
    assert audio.samples.dtype == np.float32
    np.testing.assert_allclose(audio.samples, RAMP, atol=2e-5)


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_missing_prompt_says_what_to_pass(nothing: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"prompt_wav is missing .*zero_shot_spk_id"):
        read_prompt(nothing)


def test_an_impossible_shape_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"source_wav has the shape \(2, 2, 2\)"):
        read_prompt(np.zeros((2, 2, 2), np.float32), "source_wav")


def test_load_wav_is_mono_at_the_wanted_rate(clip: Path, speechlike: Audio) -> None:
    tensor = load_wav(str(clip), 16000)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.shape == (1, 48000)
    expected = sinc_resample(speechlike.samples, 24000, 16000)
    np.testing.assert_allclose(tensor[0].numpy(), expected, atol=1e-4)


def test_load_wav_refuses_a_low_rate(tmp_path: Path) -> None:
    path = Audio(RAMP, 8000).save(tmp_path / "low.wav")
    with pytest.raises(PromptAudioError, match=r"low\.wav has a sample rate of 8000 Hz"):
        load_wav(path, 16000)
    assert load_wav(path, 8000).shape == (1, 16000)
    assert load_wav(path, 16000, min_sr=8000).shape == (1, 32000)


def test_speech_is_a_tensor_with_memory_of_its_own() -> None:
    samples = RAMP.copy()
    tensor = to_tensor(samples, torch)
    tensor[0, 0] = 9.0
    assert tensor.shape == (1, 16000)
    assert tensor.dtype == torch.float32
    assert samples[0] == RAMP[0]


def test_without_torch_an_array_answers_the_same_calls(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = to_tensor(RAMP, None)
    assert isinstance(array, SpeechArray)
    assert array.shape == (1, 16000)
    plain = array.detach().cpu().numpy()
    assert type(plain) is np.ndarray
    np.testing.assert_array_equal(plain.flatten(), RAMP)
    monkeypatch.setattr(prompts, "load_torch", lambda: None)
    assert isinstance(load_wav(clip, 16000), SpeechArray)
    assert read_prompt(array).sample_rate == 16000


def test_a_seed_restarts_the_series() -> None:
    series = SeedSeries()
    unpredictable = {series.draw() for _ in range(5)}
    series.restart(3)
    first = [series.draw() for _ in range(5)]
    series.restart(3)
    assert [series.draw() for _ in range(5)] == first
    assert len({*first, *unpredictable}) == 10


def test_scripts_seed_everything_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "SEEDS", SeedSeries())  # this test's own, not the process's

    def numbers() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    set_all_random_seed(5)
    first = numbers()
    set_all_random_seed(5)
    assert numbers() == first
    with pytest.raises(InvalidRequestError, match="seed -1"):
        set_all_random_seed(-1)
