"""Vocoder against the golden tensors, and its key table against the released checkpoint."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from mynah.backends.base import VocoderNetwork
from mynah.backends.native.kernels import Threads
from mynah.backends.native.vocoder import load_native_vocoder
from mynah.backends.onnx.vocoder import OnnxVocoder
from mynah.config import VocoderConfig
from mynah.errors import ModelFormatError
from mynah.export.vocoder import export_vocoder
from mynah.networks.checkpoint import load_strict
from mynah.networks.keys_vocoder import vocoder_keys
from mynah.networks.official import vocoder_config
from mynah.networks.vocoder import HiFT
from mynah.pipeline.harmonics import harmonics
from mynah.pipeline.vocoder import advance, new_state
from tests.parity import golden
from tests.parity.checks import TableNoise, assert_waveform, needs_native

FloatArray = npt.NDArray[np.float32]

F0_TOLERANCE_HZ = 3e-3
SOURCE_TOLERANCE = 2e-3
DECODE_TOLERANCE, DECODE_SNR_DB = 2e-3, 60.0
WAVE_TOLERANCE, WAVE_SNR_DB = 5e-3, 50.0
WHOLE_TOLERANCE, WHOLE_SNR_DB = 2e-2, 40.0


@pytest.fixture(scope="module")
def io() -> dict[str, FloatArray]:
    return golden.load("v2", "hift_io")


@pytest.fixture(scope="module")
def config() -> VocoderConfig:
    return golden.model_configs()[2]


@pytest.fixture(scope="module")
def network(config: VocoderConfig) -> HiFT:
    module = HiFT(config).eval().requires_grad_(False)
    load_strict(module, vocoder_keys(config).to_ours(golden.load_tensors("v2", "hift")), "golden")
    return module


@pytest.fixture(scope="module")
def sample_rate() -> int:
    return int(golden.config("v2")["sample_rate"])


def time_first(mel: FloatArray) -> torch.Tensor:
    """(1, 80, F) -> (1, F, 80)."""
    return torch.from_numpy(mel).transpose(1, 2)


def synthesize(network: HiFT, mel: torch.Tensor, sample_rate: int) -> FloatArray:
    """F0, source without noise, decode: (1, F, 80) -> (1, N)."""
    f0 = network.f0(mel)[0].numpy()
    waves = torch.from_numpy(harmonics(network.config, f0, sample_rate))
    audio: FloatArray = network.decode(mel, network.excitation(waves[None])).numpy()
    return audio


def test_f0(network: HiFT, io: dict[str, FloatArray]) -> None:
    f0 = network.f0(time_first(io["mel"])).numpy()
    np.testing.assert_allclose(f0, io["f0"], rtol=0, atol=F0_TOLERANCE_HZ)


def test_sines_without_noise(
    config: VocoderConfig, io: dict[str, FloatArray], sample_rate: int
) -> None:
    theirs = io["source.sine_zero_noise"][0]
    ours = harmonics(config, io["f0"][0], sample_rate)[: len(theirs)]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=SOURCE_TOLERANCE)


def test_source_without_noise(network: HiFT, io: dict[str, FloatArray], sample_rate: int) -> None:
    waves = torch.from_numpy(harmonics(network.config, io["f0"][0], sample_rate))
    ours = network.excitation(waves[None]).numpy()
    theirs = io["source.merged_zero_noise"][0]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=SOURCE_TOLERANCE)


def test_source_with_given_noise(
    network: HiFT, io: dict[str, FloatArray], sample_rate: int
) -> None:
    # given_rand_phase is not read: it never has any effect in this generation
    theirs = io["source.merged_given_noise"][0]
    frames = theirs.shape[1] // network.config.samples_per_frame
    noise = TableNoise(io["source.given_randn"][0])
    waves = harmonics(network.config, io["f0"][0, :frames], sample_rate, noise)
    ours = network.excitation(torch.from_numpy(waves)[None]).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=SOURCE_TOLERANCE)


def test_decode_with_given_source(network: HiFT, io: dict[str, FloatArray]) -> None:
    inner: dict[str, torch.Tensor] = {}
    modules: dict[str, torch.nn.Module] = {"decode.conv_pre": network.conv_pre}
    for index in range(len(network.config.upsample_rates)):
        modules[f"decode.ups{index}"] = network.get_submodule(f"stages.{index}.up")
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: inner.update({name: out}))
        for name, module in modules.items()
    ]
    audio = network.decode(time_first(io["mel"]), torch.from_numpy(io["source_given"])[:, 0])
    for hook in hooks:
        hook.remove()

    assert_waveform(audio.numpy(), io["decode.wav"], DECODE_TOLERANCE, DECODE_SNR_DB)
    assert set(inner) == {key for key in io if key.startswith("decode.")} - {"decode.wav"}
    for name, value in inner.items():
        np.testing.assert_allclose(value.numpy(), io[name], rtol=0, atol=DECODE_TOLERANCE)


def test_inference(network: HiFT, io: dict[str, FloatArray], sample_rate: int) -> None:
    ours = synthesize(network, time_first(io["mel"]), sample_rate)
    assert_waveform(ours, io["inference.wav_zero_noise"], WAVE_TOLERANCE, WAVE_SNR_DB)


def test_inference_with_cached_source(
    network: HiFT, io: dict[str, FloatArray], sample_rate: int
) -> None:
    mel = time_first(io["mel"])
    waves = harmonics(network.config, network.f0(mel)[0].numpy(), sample_rate)
    source = network.excitation(torch.from_numpy(waves)[None])
    cached = torch.from_numpy(io["inference.cache_source"])[:, 0]
    source[:, : cached.shape[1]] = cached
    ours = network.decode(mel, source).numpy()
    assert_waveform(ours, io["inference.wav_zero_noise_cache"], WAVE_TOLERANCE, WAVE_SNR_DB)


@pytest.mark.parametrize("run", [n for n in golden.facts("v2", "tts_io") if n.startswith("full_")])
def test_whole_utterance_from_its_mel(network: HiFT, run: str, sample_rate: int) -> None:
    values, facts = golden.load("v2", "tts_io"), golden.facts("v2", "tts_io")[run]
    mel = time_first(values[f"{run}.mel0"])
    if facts["speed"] != 1.0:
        frames = int(mel.shape[1] / facts["speed"])
        resized = torch.nn.functional.interpolate(mel.mT, size=frames, mode="linear")
        np.testing.assert_allclose(resized.numpy(), values[f"{run}.hift_mel0"], rtol=0, atol=1e-6)
        mel = resized.mT
    ours = synthesize(network, mel, sample_rate)
    assert_waveform(ours, values[f"{run}.wav"], WHOLE_TOLERANCE, WHOLE_SNR_DB)


@pytest.fixture(scope="module", params=["onnx", pytest.param("native", marks=needs_native)])
def exported(
    network: HiFT, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> VocoderNetwork:
    folder = tmp_path_factory.mktemp("vocoder")
    export_vocoder(network, folder)
    if request.param == "native":
        return load_native_vocoder(folder, network.config, Threads(2))
    return OnnxVocoder(folder, threads=1)


def test_exported_networks(
    exported: VocoderNetwork, io: dict[str, FloatArray], sample_rate: int
) -> None:
    mel, config = io["mel"][0].T, golden.model_configs()[2]
    np.testing.assert_allclose(exported.f0(mel), io["f0"][0], rtol=0, atol=F0_TOLERANCE_HZ)
    source = exported.excitation(harmonics(config, io["f0"][0], sample_rate))
    expected = io["source.merged_zero_noise"][0, 0]
    np.testing.assert_allclose(source, expected, rtol=0, atol=SOURCE_TOLERANCE)
    audio = exported.decode(mel, io["source_given"][0, 0])[None]
    assert_waveform(audio, io["decode.wav"], DECODE_TOLERANCE, DECODE_SNR_DB)
    audio = exported.decode(mel, expected)[None]
    assert_waveform(audio, io["inference.wav_zero_noise"], WAVE_TOLERANCE, WAVE_SNR_DB)


@pytest.mark.parametrize("size", [7, 50])
def test_streamed_equals_whole(
    exported: VocoderNetwork, config: VocoderConfig, sample_rate: int, size: int
) -> None:
    mels = [v for k, v in golden.load("v2", "tts_io").items() if ".mel" in k]
    mel = max(mels, key=lambda value: value.shape[2])[0].T
    state = new_state(config, sample_rate)
    whole = advance(exported, config, mel, state, final=True)
    state = new_state(config, sample_rate)
    made = [
        advance(exported, config, mel[at : at + size], state, final=at + size >= len(mel))
        for at in range(0, len(mel), size)
    ]
    # measured 5e-5; this random network amplifies rounding far more than a trained one
    np.testing.assert_allclose(np.concatenate(made), whole, rtol=0, atol=5e-4)


def test_key_table_fits_the_released_checkpoint() -> None:
    config = vocoder_config(golden.contract_config()["hift"])
    official = {
        key: torch.empty(shape, device="meta") for key, shape in golden.contract("hift").items()
    }
    with torch.device("meta"):
        own = HiFT(config).state_dict()
    ours = vocoder_keys(config).to_ours(official)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in own.items()}


def test_key_table_names_every_tensor_both_ways(network: HiFT, config: VocoderConfig) -> None:
    official = vocoder_keys(config).to_official(network.state_dict())
    again = vocoder_keys(config).to_ours(official)
    assert all(torch.equal(again[key], value) for key, value in network.state_dict().items())


def test_old_weight_norm_spelling(network: HiFT, config: VocoderConfig) -> None:
    new = golden.load_tensors("v2", "hift")
    old = {
        key.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for key, value in new.items()
    }
    assert set(old) != set(new)
    ours = vocoder_keys(config).to_ours(old)
    assert all(torch.equal(ours[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("change", ["missing", "unexpected", "half a pair"])
def test_a_checkpoint_that_does_not_fit_is_refused(config: VocoderConfig, change: str) -> None:
    official = golden.load_tensors("v2", "hift")
    if change == "missing":
        del official["conv_post.bias"]
    elif change == "unexpected":
        official["conv_post.extra"] = official["conv_post.bias"]
    else:
        del official["conv_post.parametrizations.weight.original1"]
    with pytest.raises(ModelFormatError, match="conv_post"):
        vocoder_keys(config).to_ours(official)
