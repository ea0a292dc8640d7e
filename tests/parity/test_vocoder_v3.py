"""The causal vocoder (CosyVoice 3) against outputs of the official code."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mynah.backends.base import FloatArray, VocoderNetwork
from mynah.backends.native.kernels import Threads
from mynah.backends.native.vocoder import load_native_vocoder
from mynah.backends.onnx.vocoder import OnnxVocoder
from mynah.backends.torch.vocoder import TorchVocoder
from mynah.config import VocoderConfig
from mynah.export.vocoder import export_vocoder
from mynah.networks.checkpoint import load_strict
from mynah.networks.keys_vocoder import vocoder_keys
from mynah.networks.official import vocoder_config
from mynah.networks.vocoder import HiFT
from mynah.pipeline import speed
from mynah.pipeline.harmonics import SineNoise, harmonics
from mynah.pipeline.speed import SpeedState
from mynah.pipeline.vocoder import advance, new_state
from tests.parity import golden
from tests.parity.checks import TableNoise, assert_close, assert_waveform, needs_native

# Measured: F0 0 (torch, native) and 3e-5 Hz (ONNX), source 6e-8, decode and inference 1.3e-4.
F0_TOLERANCE_HZ, SINGLE_F0_TOLERANCE_HZ = 1e-4, 3e-3
SOURCE_TOLERANCE = 2e-3
DECODE_TOLERANCE, DECODE_SNR_DB = 2e-3, 60.0
WAVE_TOLERANCE, WAVE_SNR_DB = 5e-3, 50.0
WHOLE_TOLERANCE, WHOLE_SNR_DB = 2e-2, 40.0

IO = golden.load("v3", "hift_io")
TTS = golden.load("v3", "tts_io")
RUNS = golden.facts("v3", "tts_io")
MEL: FloatArray = IO["mel"][0].T
# without the noise that is the model's own: each test brings its noise, or has none
CONFIG = golden.model_configs("v3")[2].model_copy(update={"sine_noise_offset": None})
RATE = int(golden.config("v3")["sample_rate"])
SIZE = CONFIG.samples_per_frame


@cache
def module(config: VocoderConfig = CONFIG) -> HiFT:
    network = HiFT(config).eval().requires_grad_(False)
    load_strict(network, vocoder_keys(config).to_ours(golden.load_tensors("v3", "hift")), "golden")
    return network


@pytest.fixture(
    scope="module", params=["torch", "onnx", pytest.param("native", marks=needs_native)]
)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "torch":
        return TorchVocoder(module())
    folder: Path = tmp_path_factory.mktemp("vocoder")
    export_vocoder(module(), folder)
    if request.param == "native":
        return load_native_vocoder(folder, CONFIG, Threads(2))
    return OnnxVocoder(folder, threads=1)


def spoken(network: VocoderNetwork, mel: FloatArray, noise: SineNoise | None = None) -> FloatArray:
    """F0, source, decode of a whole utterance at once."""
    waves = harmonics(CONFIG, network.f0(mel), RATE, noise)
    return network.decode(mel, network.excitation(waves))


def staged(
    network: VocoderNetwork, mel: FloatArray, cut: int = 0, noise: Any = None
) -> tuple[FloatArray, FloatArray]:
    """Samples that the stage gives before it knows the end, and after it; fed at ``cut``."""
    state = new_state(CONFIG, RATE, noise)
    early = advance(network, CONFIG, mel[:cut], state, final=False)
    return early, advance(network, CONFIG, mel[cut:], state, final=True)


def test_f0(network: VocoderNetwork) -> None:
    assert_close(network.f0(MEL), IO["f0"][0], F0_TOLERANCE_HZ)


def test_f0_in_single_precision() -> None:
    single = module(CONFIG.model_copy(update={"f0_float64": False}))
    with torch.inference_mode():
        f0 = single.f0(torch.from_numpy(MEL)[None])
    assert_close(f0, IO["f0_fp32"], SINGLE_F0_TOLERANCE_HZ)


def test_f0_before_the_end(network: VocoderNetwork) -> None:
    """The frames that look ahead are not looked ahead from."""
    count = IO["f0_nofinal"].shape[1]
    assert len(MEL) - count == CONFIG.f0_lookahead_frames
    assert_close(network.f0(MEL)[:count], IO["f0_nofinal"][0], F0_TOLERANCE_HZ)


def test_sines_without_noise() -> None:
    theirs = IO["source.sine_zero_noise"][0]
    ours = harmonics(CONFIG, IO["f0"][0], RATE)[: len(theirs)]
    assert_close(ours, theirs, SOURCE_TOLERANCE)


@pytest.mark.parametrize("noise", ["zero", "given"])
def test_source(network: VocoderNetwork, noise: str) -> None:
    # given_rand_ini is not read: it never has any effect in this generation
    theirs = IO[f"source.merged_{noise}_noise"][0, 0]
    table = TableNoise(IO["source.given_uniform_noise"][0]) if noise == "given" else None
    waves = harmonics(CONFIG, IO["f0"][0, : len(theirs) // SIZE], RATE, table)
    assert_close(network.excitation(waves), theirs, SOURCE_TOLERANCE)


def test_layers_of_decode() -> None:
    layers = {"decode.conv_pre": module().conv_pre}
    for index in range(len(CONFIG.upsample_rates)):
        layers[f"decode.ups{index}"] = module().get_submodule(f"stages.{index}.up")
    inner: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _layer, _inputs, output: inner.update({name: output})

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    module().decode(torch.from_numpy(MEL)[None], torch.from_numpy(IO["source_given"])[:, 0])
    for hook in hooks:
        hook.remove()
    assert set(inner) == {key for key in IO if key.startswith("decode.") and ".wav" not in key}
    for name, value in inner.items():
        assert_close(value, IO[name], DECODE_TOLERANCE)


def test_decode_with_given_source(network: VocoderNetwork) -> None:
    ours = network.decode(MEL, IO["source_given"][0, 0])
    assert_waveform(ours, IO["decode.wav"][0], DECODE_TOLERANCE, DECODE_SNR_DB)


def test_decode_before_the_end(network: VocoderNetwork) -> None:
    """The samples that the official code calls certain do not depend on what follows."""
    theirs = IO["decode.wav_nofinal"][0]
    frames = IO["f0_nofinal"].shape[1]
    ours = network.decode(MEL[:frames], IO["source_given"][0, 0, : frames * SIZE])
    assert_waveform(ours[: len(theirs)], theirs, DECODE_TOLERANCE, DECODE_SNR_DB)


def test_inference(network: VocoderNetwork) -> None:
    theirs = IO["inference.wav_zero_noise"][0]
    assert_waveform(spoken(network, MEL), theirs, WAVE_TOLERANCE, WAVE_SNR_DB)
    _, ours = staged(network, MEL)
    assert_waveform(ours, theirs, WAVE_TOLERANCE, WAVE_SNR_DB)


def test_inference_with_given_noise(network: VocoderNetwork) -> None:
    theirs, table = IO["inference.wav_given_noise_12frames"][0], IO["source.given_uniform_noise"][0]
    mel = MEL[: len(theirs) // SIZE]
    ours = spoken(network, mel, TableNoise(table))
    assert_waveform(ours, theirs, WAVE_TOLERANCE, WAVE_SNR_DB)
    _, ours = staged(network, mel, noise=TableNoise(table))
    assert_waveform(ours, theirs, WAVE_TOLERANCE, WAVE_SNR_DB)


def test_inference_before_the_end(network: VocoderNetwork) -> None:
    """We are certain of more samples than the official code, and of the same ones."""
    theirs = IO["inference.wav_zero_noise_nofinal"][0]
    early, _ = staged(network, MEL, cut=len(MEL))
    assert len(early) >= len(theirs)
    assert_waveform(early[: len(theirs)], theirs, WAVE_TOLERANCE, WAVE_SNR_DB)


@pytest.mark.parametrize("run", [run for run, facts in RUNS.items() if not facts["stream"]])
def test_whole_utterance_from_its_mel(network: VocoderNetwork, run: str) -> None:
    mel = TTS[f"{run}.mel0"][0].T
    if RUNS[run]["speed"] != 1.0:
        mel = speed.advance(mel, SpeedState(RUNS[run]["speed"], len(mel)), final=True)
        assert_close(mel.T, TTS[f"{run}.hift_mel0"][0], 1e-5)
    _, ours = staged(network, mel)
    assert_waveform(ours, TTS[f"{run}.wav"][0], WHOLE_TOLERANCE, WHOLE_SNR_DB)


def has_every_mel(run: str) -> bool:
    return all(f"{run}.hift_mel{call}" in TTS for call in range(len(RUNS[run]["hift_calls"])))


@pytest.mark.parametrize("run", [n for n in RUNS if RUNS[n]["stream"] and has_every_mel(n)])
def test_streamed_utterance_from_its_mels(network: VocoderNetwork, run: str) -> None:
    """Each piece that the official loop returns, from the mel it had for it."""
    done = 0
    for call, facts in enumerate(RUNS[run]["hift_calls"]):
        mel = TTS[f"{run}.hift_mel{call}"][0].T
        early, rest = staged(network, mel, cut=len(mel))
        ours = early if not facts["finalize"] else np.concatenate([early, rest])
        theirs = TTS[f"{run}.wav"][0, done : facts["samples"]]
        assert RUNS[run]["chunk_samples"][call] == len(theirs)
        assert_waveform(ours[done : facts["samples"]], theirs, WHOLE_TOLERANCE, WHOLE_SNR_DB)
        done = facts["samples"]


@pytest.mark.parametrize("size", [1, 7, 50])
def test_streamed_equals_whole(network: VocoderNetwork, size: int) -> None:
    mel: FloatArray = TTS["full_90.mel0"][0].T
    _, whole = staged(network, mel)
    state = new_state(CONFIG, RATE)
    ends = range(0, len(mel), size)
    made = [
        advance(network, CONFIG, mel[at : at + size], state, final=at + size >= len(mel))
        for at in ends
    ]
    # measured 2e-5; this random network amplifies rounding far more than a trained one
    assert_close(np.concatenate(made), whole, 5e-4)


def test_key_table_fits_the_released_checkpoint() -> None:
    config = vocoder_config(golden.contract_config(3)["hift"], 3)
    official = {
        key: torch.empty(shape, device="meta") for key, shape in golden.contract("hift", 3).items()
    }
    with torch.device("meta"):
        own = HiFT(config).state_dict()
    ours = vocoder_keys(config).to_ours(official)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in own.items()}


def test_key_table_names_every_tensor_both_ways() -> None:
    state = module().state_dict()
    again = vocoder_keys(CONFIG).to_ours(vocoder_keys(CONFIG).to_official(state))
    assert all(torch.equal(again[key], value) for key, value in state.items())


def test_double_precision_survives_conversions() -> None:
    """Whatever happens to the module, F0 stays as exact as the released code makes it."""
    converted = module(CONFIG.model_copy(update={"audio_limit": 0.98})).half().float()
    assert_close(TorchVocoder(converted).f0(MEL), IO["f0"][0], F0_TOLERANCE_HZ)
