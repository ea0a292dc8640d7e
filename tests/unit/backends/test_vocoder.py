"""The vocoder's networks: ONNX Runtime against torch, and files that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from mynah.backends.onnx.vocoder import OnnxVocoder
from mynah.backends.torch.vocoder import TorchVocoder
from mynah.errors import BackendError, ModelFormatError, ModelNotFoundError
from mynah.export.vocoder import export_vocoder
from tests.property.vocoder_model import BACKENDS, CONFIGS, KINDS, mel, network, vocoder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 2, 9, 70, 300])
def test_onnx_equals_torch(kind: str, frames: int) -> None:
    config = CONFIGS[kind]
    ours, theirs = network(kind, "onnx"), network(kind, "torch")
    inputs = mel(kind, frames)
    np.testing.assert_allclose(ours.f0(inputs), theirs.f0(inputs), rtol=1e-5, atol=1e-3)
    samples = frames * config.samples_per_frame
    polar = config.head == "polar"
    channels = config.num_harmonics + 1 if polar else 2
    waves = np.random.default_rng(0).standard_normal((samples, channels)).astype(np.float32) * 0.1
    source = theirs.excitation(waves)
    assert source.shape == ((samples,) if polar else (samples, 2))
    np.testing.assert_allclose(ours.excitation(waves), source, rtol=0, atol=1e-6)
    audio = theirs.decode(inputs, source)
    np.testing.assert_allclose(ours.decode(inputs, source), audio, rtol=0, atol=1e-4)
    assert audio.shape == (samples,)
    assert audio.std() > 1e-3
    for made in (ours.f0(inputs), ours.excitation(waves), ours.decode(inputs, source)):
        assert made.dtype == np.float32


@pytest.mark.parametrize("backend", BACKENDS)
def test_f0_does_not_depend_on_the_window(backend: str) -> None:
    """Bit for bit: F0 adds up in the phase, so any difference would grow."""
    net, frames = network("polar", backend), mel("polar", 150)
    whole = net.f0(frames)
    for start, stop in ((0, 11), (0, 64), (3, 57), (40, 150), (20, 140)):
        first, last = start and start + 5, stop if stop == 150 else stop - 5
        made = net.f0(frames[start:stop])
        assert np.array_equal(made[first - start : last - start], whole[first:last])


@pytest.mark.parametrize("backend", BACKENDS)
def test_wrong_sizes_are_a_backend_error(backend: str) -> None:
    with pytest.raises(BackendError):
        network("polar", backend).decode(np.zeros((3, 5), np.float32), np.zeros(72, np.float32))


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    export_vocoder(vocoder("polar"), tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["vocoder_decode.onnx", "vocoder_f0.onnx", "vocoder_source.safetensors"]
    for name in names:
        path = tmp_path / name
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(ModelFormatError, match=name):
            OnnxVocoder(tmp_path)
        path.unlink()
        with pytest.raises(ModelNotFoundError, match=name):
            OnnxVocoder(tmp_path)
        path.write_bytes(content)
    save_file({"other": np.zeros((1, 4), np.float32)}, tmp_path / "vocoder_source.safetensors")
    with pytest.raises(ModelFormatError, match="other"):
        OnnxVocoder(tmp_path)


def test_torch_keeps_gradients_out() -> None:
    net = TorchVocoder(vocoder("polar"))
    before = torch.is_grad_enabled()
    net.f0(mel("polar", 2))
    assert torch.is_grad_enabled() == before
