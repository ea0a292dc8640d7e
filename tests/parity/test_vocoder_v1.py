"""CosyVoice 1's vocoder, and tokens to waveform, against outputs of the official code."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from mynah.backends.base import FloatArray, VocoderNetwork
from mynah.backends.native.kernels import Threads
from mynah.backends.native.vocoder import load_native_vocoder
from mynah.backends.onnx.vocoder import OnnxVocoder
from mynah.backends.torch.vocoder import TorchVocoder
from mynah.export.vocoder import export_vocoder
from mynah.networks.checkpoint import load_strict
from mynah.networks.keys_vocoder import vocoder_keys
from mynah.networks.official import vocoder_config
from mynah.networks.vocoder import HiFT
from mynah.pipeline import speed, vocoder
from mynah.pipeline.harmonics import harmonics
from mynah.pipeline.speed import SpeedState
from tests.parity import golden, v1
from tests.parity.checks import TableNoise, assert_close, assert_waveform, needs_native

# Measured: F0 0, source 4e-5, decode 6e-7, inference 8e-5 and 76 dB, tts 2e-4 and 74 dB,
# first streamed chunk 7e-4, streamed against whole 5e-6.
F0_TOLERANCE_HZ = 3e-3
SOURCE_TOLERANCE = 2e-3
DECODE = (2e-3, 60.0)
INFERENCE = (5e-3, 50.0)
WHOLE = (2e-2, 40.0)

IO = golden.load("v1", "hift_io")
TTS = golden.load("v1", "tts_io")
RUNS = golden.facts("v1", "tts_io")
CONFIG = v1.model_config().vocoder
RATE = v1.model_config().sample_rate
backends = pytest.mark.parametrize(
    "backend", [*v1.BACKENDS, pytest.param("native", marks=needs_native)]
)


@cache
def module() -> HiFT:
    network = HiFT(CONFIG).eval().requires_grad_(False)
    load_strict(network, vocoder_keys(CONFIG).to_ours(golden.load_tensors("v1", "hift")), "golden")
    return network


@cache
def network(backend: str) -> VocoderNetwork:
    if backend == "torch":
        return TorchVocoder(module())
    with TemporaryDirectory() as name:
        export_vocoder(module(), Path(name))
        if backend == "native":
            return load_native_vocoder(Path(name), CONFIG, Threads(2))
        return OnnxVocoder(Path(name), threads=1)


def synthesize(backend: str, mel: FloatArray) -> FloatArray:
    """F0, source without noise, decode: (F, n_mels) -> (N,)."""
    net = network(backend)
    return net.decode(mel, net.excitation(harmonics(CONFIG, net.f0(mel), RATE)))


@backends
def test_f0(backend: str) -> None:
    assert_close(network(backend).f0(IO["mel"][0].T), IO["f0"][0], F0_TOLERANCE_HZ)


def test_sines_without_noise() -> None:
    theirs = IO["source.sine_zero_noise"][0]
    assert_close(harmonics(CONFIG, IO["f0"][0], RATE)[: len(theirs)], theirs, SOURCE_TOLERANCE)


@backends
def test_source_without_noise(backend: str) -> None:
    ours = network(backend).excitation(harmonics(CONFIG, IO["f0"][0], RATE))
    assert_close(ours, IO["source.merged_zero_noise"][0, 0], SOURCE_TOLERANCE)


class PhasesThenNoise(TableNoise):
    """The official order: a random phase for every harmonic first, then the noise."""

    def __init__(self) -> None:
        super().__init__(IO["source.given_randn"][0])

    def random(self, size: tuple[int, ...], *, dtype: type) -> FloatArray:
        phases = IO["source.given_rand_phase"][0]
        assert phases.shape == size
        return phases.astype(dtype)


@backends
def test_source_with_given_phases_and_noise(backend: str) -> None:
    theirs = IO["source.merged_given_noise"][0, 0]
    frames = len(theirs) // CONFIG.samples_per_frame
    waves = harmonics(CONFIG, IO["f0"][0, :frames], RATE, PhasesThenNoise())
    assert_close(network(backend).excitation(waves), theirs, SOURCE_TOLERANCE)


@backends
def test_decode_with_given_source(backend: str) -> None:
    ours = network(backend).decode(IO["mel"][0].T, IO["source_given"][0, 0])
    assert_waveform(ours, IO["decode.wav"][0], *DECODE)


def test_layers_inside_decode() -> None:
    inner: dict[str, torch.Tensor] = {}
    modules: dict[str, torch.nn.Module] = {"decode.conv_pre": module().conv_pre}
    for index in range(len(CONFIG.upsample_rates)):
        modules[f"decode.ups{index}"] = module().get_submodule(f"stages.{index}.up")
    hooks = [
        layer.register_forward_hook(lambda _m, _i, out, name=name: inner.update({name: out}))
        for name, layer in modules.items()
    ]
    module().decode(torch.tensor(IO["mel"]).mT, torch.tensor(IO["source_given"])[:, 0])
    for hook in hooks:
        hook.remove()
    assert set(inner) == {key for key in IO if key.startswith("decode.")} - {"decode.wav"}
    for name, value in inner.items():
        assert_close(value, IO[name], DECODE[0])


@backends
def test_inference(backend: str) -> None:
    ours = synthesize(backend, IO["mel"][0].T)
    assert_waveform(ours, IO["inference.wav_zero_noise"][0], *INFERENCE)


@backends
def test_inference_with_cached_source(backend: str) -> None:
    net, mel = network(backend), IO["mel"][0].T
    source = net.excitation(harmonics(CONFIG, net.f0(mel), RATE)).copy()
    cached = IO["inference.cache_source"][0, 0]
    source[: len(cached)] = cached
    assert_waveform(net.decode(mel, source), IO["inference.wav_zero_noise_cache"][0], *INFERENCE)


def spoken(backend: str, mel: FloatArray, size: int, factor: float = 1.0) -> FloatArray:
    """Mel (F, n_mels) to samples as a session does it, ``size`` frames at a time, no noise."""
    state, resampling = vocoder.new_state(CONFIG, RATE), SpeedState(factor, len(mel))
    made = []
    for at in range(0, len(mel), size):
        final = at + size >= len(mel)
        frames = speed.advance(mel[at : at + size], resampling, final=final)
        made.append(vocoder.advance(network(backend), CONFIG, frames, state, final=final))
    return np.concatenate(made)


@backends
@pytest.mark.parametrize("run", [name for name in RUNS if name.startswith("full_")])
def test_tokens_to_waveform(backend: str, run: str) -> None:
    facts = RUNS[run]
    voice = v1.prompt(TTS, with_speech=facts["prompt"])
    mel = v1.whole(backend, voice, v1.generated(TTS, 0, facts["n_tokens"]))
    if f"{run}.hift_mel0" in TTS:
        resized = speed.advance(mel, SpeedState(facts["speed"], len(mel)), final=True)
        assert_close(resized.T, TTS[f"{run}.hift_mel0"][0], 2e-4)
    assert_waveform(spoken(backend, mel, 30, facts["speed"]), TTS[f"{run}.wav"][0], *WHOLE)


@backends
@pytest.mark.parametrize("run", [name for name in RUNS if name.startswith("stream_")])
def test_streamed_waveform(backend: str, run: str) -> None:
    """As long as the official one, and equal up to the first place where that one is faded.

    From there on the official vocoder starts its phase anew and fades waveforms; ours goes on.
    """
    facts = RUNS[run]
    flow = v1.stage(backend, first_chunk_tokens=100)
    state = flow.fork(flow.start(v1.prompt(TTS, with_speech=facts["prompt"])))
    mel = flow.advance(v1.generated(TTS, 0, facts["n_tokens"]), state, final=True)
    ours, theirs = spoken(backend, mel, 50), TTS[f"{run}.wav"][0]
    assert len(ours) == len(theirs) == sum(facts["chunk_samples"])
    sure = facts["chunk_samples"][0]
    assert_waveform(ours[:sure], theirs[:sure], *WHOLE)


@backends
@pytest.mark.parametrize("size", [1, 7, 50])
def test_streamed_equals_whole(backend: str, size: int) -> None:
    mel = max((v for k, v in TTS.items() if ".mel" in k), key=lambda value: value.shape[2])[0].T
    whole = spoken(backend, mel, len(mel))
    np.testing.assert_allclose(spoken(backend, mel, size), whole, rtol=0, atol=5e-5)


def test_key_table_fits_the_released_checkpoint() -> None:
    config = vocoder_config(golden.contract_config(1)["hift"], 1)
    official = {
        key: torch.empty(shape, device="meta") for key, shape in golden.contract("hift", 1).items()
    }
    with torch.device("meta"):
        own = HiFT(config).state_dict()
    ours = vocoder_keys(config).to_ours(official)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in own.items()}
    # and back: folded weights are one tensor where the released file has two
    names = {key.split(".parametrizations.")[0].removesuffix(".weight") for key in official}
    back = vocoder_keys(config).to_official(own)
    assert {key.removesuffix(".weight") for key in back} == names
