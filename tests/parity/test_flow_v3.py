"""The flow of CosyVoice 3 against outputs of the official code; cases come from the files."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mynah.backends.base import FloatArray, FlowNetwork, TokenArray
from mynah.backends.native.encoder import NativeEncoder
from mynah.backends.native.kernels import Threads, instruction_sets
from mynah.backends.onnx.flow import OnnxFlow
from mynah.backends.torch.flow import TorchFlow
from mynah.errors import ModelFormatError
from mynah.export.flow import export_flow
from mynah.networks.checkpoint import load_strict
from mynah.networks.flow import Flow
from mynah.networks.keys_flow import flow_keys
from mynah.networks.masks import chunk_mask
from mynah.networks.official import flow_config
from mynah.networks.state import Tape
from mynah.pipeline.flow import FlowPrompt, advance, decode_whole, euler_steps, prefix_state
from mynah.pipeline.noise import ArrayNoise
from tests.parity import golden
from tests.parity.checks import assert_close

# Measured: 0 (torch); velocity 2e-6 and mel 2e-6 (ONNX).
LOOKAHEAD_TOLERANCE = 5e-5
ESTIMATOR_TOLERANCE = 2e-4
MEL_TOLERANCE = 2e-4
NOISE_SHAPE = (80, 15000)

IO = golden.load("v3", "flow_io")
TTS = golden.load("v3", "tts_io")
RUNS = golden.facts("v3", "tts_io")
CONFIG = golden.model_configs("v3")[1]
AHEAD = CONFIG.encoder.lookahead_tokens


@cache
def flow() -> Flow:
    module = Flow(CONFIG)
    load_strict(module, flow_keys(CONFIG).to_ours(golden.load_tensors("v3", "flow")), "golden flow")
    return module.eval()


@cache
def noise() -> ArrayNoise:
    generator = torch.Generator().manual_seed(0)
    return ArrayNoise(torch.randn(1, *NOISE_SHAPE, generator=generator)[0].T.contiguous().numpy())


BACKENDS = ["torch", "onnx", *(["encoder"] if instruction_sets() else [])]
"""The last one: ONNX Runtime, but for the token encoder, which runs natively."""


@pytest.fixture(scope="module", params=BACKENDS)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "torch":
        return TorchFlow(flow())
    folder: Path = tmp_path_factory.mktemp("flow")
    export_flow(flow(), folder)
    native = request.param == "encoder"
    encoder = NativeEncoder(folder, CONFIG, Threads(2)) if native else None
    return OnnxFlow(folder, threads=1, encoder=encoder)


def tensor(name: str) -> Tensor:
    return torch.tensor(IO[name])


def time_first(name: str) -> Tensor:
    return tensor(name).transpose(1, 2)


def matching(pattern: str) -> list[str]:
    found = sorted(name for name in IO if re.fullmatch(pattern, name))
    assert found, f"no tensor is named like {pattern}"
    return found


def prompt(arrays: dict[str, Any], *, with_speech: bool = True) -> FlowPrompt:
    speaker = arrays["spk_embedding"][0]
    if not with_speech:
        return FlowPrompt(speaker)
    tokens = arrays["prompt_token"][0].astype(np.int64)
    return FlowPrompt(speaker, tokens, arrays["prompt_feat"][0])


def generated(arrays: dict[str, Any], count: int) -> TokenArray:
    return np.asarray(arrays["token"][0][:count], dtype=np.int64)


def split_ahead(tokens: TokenArray, *, final: bool) -> tuple[TokenArray, TokenArray | None]:
    return (tokens, None) if final else (tokens[:-AHEAD], tokens[-AHEAD:])


@pytest.mark.parametrize("name", matching(r"prelookahead\.out.*"))
def test_look_ahead(name: str) -> None:
    x = tensor("prelookahead.x")
    ahead = AHEAD if "context" in name else 0
    x, following = x[:, : x.shape[1] - ahead], x[:, x.shape[1] - ahead :]
    with torch.inference_mode():
        hidden = flow().encoder.encode(x, following, Tape(None))  # type: ignore[operator]  # the encoder of this configuration
    assert_close(hidden, IO[name], LOOKAHEAD_TOLERANCE)


@pytest.mark.parametrize("name", matching(r"estimator\.out.*"))
def test_velocity(name: str) -> None:
    """Padded positions included: the official code lets only their attention out."""
    x = time_first("estimator.x")
    frames = x.shape[1]
    chunk = CONFIG.encoder.chunk_tokens * CONFIG.frames_per_token
    chunks = chunk_mask(frames, frames, chunk) if name.endswith("1") else None
    padding = tensor("estimator.mask_padded")[:, 0].bool() if "padded" in name else None
    with torch.inference_mode():
        velocity, _ = flow().velocity(
            x,
            time_first("estimator.mu"),
            tensor("estimator.spks"),
            time_first("estimator.cond"),
            tensor("estimator.t"),
            mask=padding,
            chunk_mask=chunks,
        )
    assert_close(velocity.transpose(1, 2), IO[name], ESTIMATOR_TOLERANCE)


def test_noise_is_the_official_one() -> None:
    first, last = IO["rand_noise_first100"][0].T, IO["rand_noise_last16"][0].T
    end = NOISE_SHAPE[1]
    np.testing.assert_array_equal(noise().frames(0, len(first)), first)
    np.testing.assert_array_equal(noise().frames(end - len(last), end), last)


def test_times() -> None:
    times = [t for t, _ in euler_steps(CONFIG.num_steps)]
    np.testing.assert_allclose(times, IO["full.all_t"], rtol=0, atol=1e-7)


def test_speaker(network: FlowNetwork) -> None:
    projected = network.to_numpy(network.speaker(IO["spk_embedding"][0]))
    assert_close(projected, IO["spk_proj"][0], 1e-5)


@pytest.mark.parametrize("name", matching(r"full\.mu_\d+"))
def test_first_step(network: FlowNetwork, name: str) -> None:
    """Mean frames and velocities of the first Euler step, as inference calls the networks."""
    voice = prompt(IO)
    tokens = np.concatenate([voice.tokens, generated(IO, int(name.rsplit("_", 1)[1]))])
    mu = network.encode(tokens, None, network.new_encoder_state())
    official = IO[name][0]
    official = official if official.shape[-1] == CONFIG.n_mels else official.T
    assert_close(network.to_numpy(mu), official, LOOKAHEAD_TOLERANCE)
    x = np.ascontiguousarray(IO["full.first_step_x"][0].T)
    cond = np.zeros_like(x)
    assert voice.mel is not None
    cond[: len(voice.mel)] = voice.mel
    velocities = network.velocity(
        network.to_device(x),
        float(IO["full.first_step_t"][0]),
        mu,
        network.speaker(voice.speaker),
        network.to_device(cond),
        network.new_velocity_state(),
    )
    rows = np.stack([network.to_numpy(row).T for row in velocities])
    assert_close(rows, IO["full.first_step_out"], ESTIMATOR_TOLERANCE)


@pytest.mark.parametrize("name", matching(r"full\.mel_.*"))
def test_mel(network: FlowNetwork, name: str) -> None:
    count = int(re.findall(r"\d+", name)[0])
    tokens, ahead = split_ahead(generated(IO, count), final="nofinal" not in name)
    voice = prompt(IO, with_speech="noprompt" not in name)
    attention: Any = "chunked" if "streaming" in name else "full"
    mel = decode_whole(
        network, CONFIG, voice, tokens, noise(), attention=attention, lookahead=ahead
    )
    assert_close(mel.T, IO[name][0], MEL_TOLERANCE)


CALLS = [
    (run, call)
    for run, facts in RUNS.items()
    for call in range(len(facts["flow_calls"]))
    if f"{run}.mel{call}" in TTS
]


@pytest.mark.parametrize(("run", "call"), CALLS)
def test_mel_of_a_call(network: FlowNetwork, run: str, call: int) -> None:
    """Every stored flow call of the official loop; its last one always has full attention."""
    facts = RUNS[run]["flow_calls"][call]
    tokens, ahead = split_ahead(generated(TTS, facts["n_token"]), final=facts["finalize"])
    attention: Any = "chunked" if facts["streaming"] else "full"
    voice = prompt(TTS, with_speech=RUNS[run]["prompt"])
    mel = decode_whole(
        network, CONFIG, voice, tokens, noise(), attention=attention, lookahead=ahead
    )
    assert_close(mel.T, TTS[f"{run}.mel{call}"][0], MEL_TOLERANCE)


def streamed(network: FlowNetwork, run: str) -> FloatArray:
    """All frames of a run, fed as the official loop feeds them."""
    voice = prompt(TTS, with_speech=RUNS[run]["prompt"])
    state = prefix_state(network, CONFIG, voice, noise())
    fed, mels = 0, []
    for facts in RUNS[run]["flow_calls"]:
        tokens = generated(TTS, facts["n_token"])[fed:]
        fed = facts["n_token"]
        mels.append(advance(network, CONFIG, tokens, state, final=facts["finalize"]))
    return np.concatenate(mels)


@pytest.mark.parametrize("run", [run for run, facts in RUNS.items() if facts["stream"]])
def test_streamed_mel(network: FlowNetwork, run: str) -> None:
    """Streamed frames equal the official ones up to the last call, and our masked whole pass.

    The last call is official with full attention and so differs by design from every stream. The
    vocoder of this generation is given the whole mel so far, so every call's mel is compared.
    """
    ours = streamed(network, run)
    for call, facts in enumerate(RUNS[run]["hift_calls"]):
        given = TTS.get(f"{run}.hift_mel{call}")
        if given is not None and not facts["finalize"]:
            assert given.shape[2] == facts["mel_frames"]
            assert_close(ours[: given.shape[2]].T, given[0], MEL_TOLERANCE)
    voice = prompt(TTS, with_speech=RUNS[run]["prompt"])
    tokens = generated(TTS, RUNS[run]["n_tokens"])
    assert_close(ours, decode_whole(network, CONFIG, voice, tokens, noise()), 1e-4)


def test_keys_of_the_golden_checkpoint() -> None:
    official = golden.load_tensors("v3", "flow")
    table = flow_keys(CONFIG)
    ours = table.to_ours(official)
    assert set(ours) == set(Flow(CONFIG).state_dict())
    back = table.to_official(ours)
    assert set(back) == set(official)
    assert all(torch.equal(back[key], value) for key, value in official.items())


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_keys_are_strict(change: str) -> None:
    official = golden.load_tensors("v3", "flow")
    if change == "missing":
        del official["decoder.estimator.proj_out.bias"]
    else:
        official["decoder.estimator.extra"] = torch.zeros(1)
    with pytest.raises(ModelFormatError, match=change):
        flow_keys(CONFIG).to_ours(official)


def test_keys_and_shapes_of_the_released_checkpoint() -> None:
    sizes = flow_config(golden.contract_config(3)["flow"], 3)
    with torch.device("meta"):
        module = Flow(sizes)
    official = flow_keys(sizes).to_official(module.state_dict())
    shapes = {key: tuple(value.shape) for key, value in official.items()}
    assert shapes == golden.contract("flow", 3)


def test_rotation_is_the_released_one() -> None:
    """The checkpoint's frequencies are no weights: they follow from the sizes."""
    own = Flow(CONFIG).velocity.state_dict()["frequencies"]
    official = golden.load_tensors("v3", "flow")["decoder.estimator.rotary_embed.inv_freq"]
    torch.testing.assert_close(own, official, rtol=1e-6, atol=0)
