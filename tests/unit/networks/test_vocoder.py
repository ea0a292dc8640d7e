"""Vocoder networks: transforms against torch's own, shapes, gradients, configuration checks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mynah.config import VocoderConfig
from mynah.errors import ModelFormatError
from mynah.networks.stft import STFT, InverseSTFT
from mynah.networks.vocoder import HiFT
from tests.property.vocoder_model import CONFIGS, KINDS, vocoder

SIZES = [(16, 4), (480, 120), (8, 4), (32, 16)]


@pytest.mark.parametrize(("n_fft", "hop"), SIZES)
@pytest.mark.parametrize("hops", [3, 4, 17])
def test_transforms_equal_torchs(n_fft: int, hop: int, hops: int) -> None:
    signal = torch.randn(2, hops * hop)
    window = torch.hann_window(n_fft)
    complex_spectrum = torch.stft(signal, n_fft, hop, window=window, return_complex=True)
    expected = torch.cat([complex_spectrum.real, complex_spectrum.imag], dim=1)
    spectrum = STFT(n_fft, hop)(signal)
    torch.testing.assert_close(spectrum, expected, rtol=0, atol=1e-4)

    changed = expected + 0.1 * torch.randn_like(expected)
    as_complex = torch.complex(*changed.chunk(2, dim=1))
    whole = torch.istft(as_complex, n_fft, hop, window=window)
    torch.testing.assert_close(InverseSTFT(n_fft, hop)(changed), whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("n_fft", "hop"), [(15, 5), (16, 3), (16, 16), (16, 0), (9, 4)])
def test_other_sizes_are_refused(n_fft: int, hop: int) -> None:
    for kind in (STFT, InverseSTFT):
        with pytest.raises(ModelFormatError, match="n_fft"):
            kind(n_fft, hop)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_shapes_and_limit(kind: str, frames: int) -> None:
    module, config = vocoder(kind), CONFIGS[kind]
    samples = frames * config.samples_per_frame
    mel = torch.randn(3, frames, config.n_mels) * 20
    assert module.f0(mel).shape == (3, frames)
    waves = torch.randn(3, samples, config.num_harmonics + 1 if config.head == "polar" else 2)
    audio = module.decode(mel, module.excitation(waves))
    assert audio.shape == (3, samples)
    assert audio.abs().max() <= config.audio_limit


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_learns(kind: str) -> None:
    config = CONFIGS[kind]
    module = HiFT(config)
    mel = torch.randn(2, 6, config.n_mels)
    channels = config.num_harmonics + 1 if config.head == "polar" else 2
    waves = torch.randn(2, 6 * config.samples_per_frame, channels) * 0.1
    audio = module.decode(mel, module.excitation(waves))
    loss = audio.square().mean() + module.f0(mel).mean()
    names, weights = zip(*module.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, weights)
    for name, gradient in zip(names, gradients, strict=True):
        assert gradient.isfinite().all(), name
        assert gradient.abs().max() > 0, name


def test_masked_padding_equals_the_end_of_the_utterance() -> None:
    module = vocoder("polar")
    mel = torch.randn(1, 12, module.config.n_mels)
    mask = (torch.arange(12) < 7).float()[None]
    padded = module.f0(mel, mask)[:, :7]
    torch.testing.assert_close(padded, module.f0(mel[:, :7]), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"upsample_kernel_sizes": (7,)},
        {"upsample_kernel_sizes": (6, 4)},
        {"base_channels": 6},
        {"resblock_kernel_sizes": (3, 4)},
        {"resblock_kernel_sizes": (3,)},
        {"source_resblock_dilations": ((1,),)},
        {"hop_length": 3},
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_are_refused(wrong: dict[str, Any]) -> None:
    config = VocoderConfig.model_validate(CONFIGS["polar"].model_dump() | wrong)
    with pytest.raises(ModelFormatError, match="vocoder"):
        HiFT(config)
