"""CosyVoice 1's flow against outputs of the official code; cases are discovered from the files."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mynah.backends.base import FloatArray
from mynah.config import RegulatedEncoderConfig
from mynah.errors import ModelFormatError
from mynah.networks.flow import Flow
from mynah.networks.keys_flow import flow_keys
from mynah.networks.official import flow_config
from mynah.networks.regulated import RegulatedEncoder
from mynah.pipeline.noise import ArrayNoise, SeededNoise
from mynah.pipeline.resize import resize
from mynah.pipeline.windowed_flow import WindowedFlowStage, cross_fade, stretch
from tests.parity import golden, v1
from tests.parity.checks import assert_close

# Measured: encoder 5e-7, regulator 1e-6, mean frames 8e-6, estimator 3e-6, mel 6e-6.
ENCODER_TOLERANCE = 5e-5
ESTIMATOR_TOLERANCE = 2e-4
MEL_TOLERANCE = 2e-4
REGULATOR_PROMPT = 12

IO = golden.load("v1", "flow_io")
TTS = golden.load("v1", "tts_io")
RUNS = golden.facts("v1", "tts_io")
backends = pytest.mark.parametrize("backend", v1.BACKENDS)


def tensor(name: str) -> Tensor:
    return torch.tensor(IO[name])


def time_first(name: str) -> Tensor:
    return tensor(name).transpose(1, 2)


def matching(pattern: str, names: Any = IO) -> list[str]:
    found = sorted(name for name in names if re.fullmatch(pattern, name))
    assert found, f"no tensor is named like {pattern}"
    return found


def encoder() -> RegulatedEncoder:
    network = v1.flow_module().encoder
    assert isinstance(network, RegulatedEncoder)
    return network


def frames_of(count: int) -> int:
    return v1.model_config().num_frames(count)


def test_encoder() -> None:
    with torch.inference_mode():
        hidden = encoder().encode(tensor("encoder.x"))
        projected = encoder().projection(hidden)
    assert_close(hidden, IO["encoder.out"], ENCODER_TOLERANCE)
    assert_close(projected, IO["encoder.proj"], ENCODER_TOLERANCE)


@backends
@pytest.mark.parametrize(
    ("name", "source"), [("out_prompt12", "encoder.proj"), ("out_long", "regulator.x2")]
)
def test_regulator(backend: str, name: str, source: str) -> None:
    """The prompt's positions are resized to given frames, the others as their number says."""
    official, rows = IO[f"regulator.{name}"][0], IO[source][0]
    count, edge = len(rows) - REGULATOR_PROMPT, v1.OVERLAP_TOKENS
    prompt = len(official) - frames_of(count)  # given, no rule leads to it
    stretched = stretch(rows[REGULATOR_PROMPT:], frames_of(count), edge, frames_of(edge))
    frames = np.concatenate([resize(rows[:REGULATOR_PROMPT], prompt), stretched])
    network = v1.flow_network(backend)
    mu = network.to_numpy(network.regulate(network.to_device(frames)))
    assert_close(mu, official, ENCODER_TOLERANCE)


@pytest.mark.parametrize("name", matching(r"estimator\.out.*"))
def test_velocity(name: str) -> None:
    padding = tensor("estimator.mask_padded")[:, 0].bool() if "padded" in name else None
    with torch.inference_mode():
        velocity, _ = v1.flow_module().velocity(
            time_first("estimator.x"),
            time_first("estimator.mu"),
            tensor("estimator.spks"),
            time_first("estimator.cond"),
            tensor("estimator.t"),
            mask=padding,
        )
    assert_close(velocity.transpose(1, 2), IO[name], ESTIMATOR_TOLERANCE)


@backends
def test_speaker(backend: str) -> None:
    network = v1.flow_network(backend)
    projected = network.to_numpy(network.speaker(IO["spk_embedding"][0]))
    assert_close(projected, IO["spk_proj"][0], 1e-5)


@backends
@pytest.mark.parametrize("name", matching(r"full\.mel_\d+(_noprompt)?"))
def test_mel(backend: str, name: str) -> None:
    count = int(re.findall(r"\d+", name)[0])
    voice = v1.prompt(IO, with_speech="noprompt" not in name)
    mel = v1.whole(backend, voice, v1.generated(IO, 0, count))
    assert_close(mel.T, IO[name][0], MEL_TOLERANCE)


@backends
@pytest.mark.parametrize("name", matching(r"full\.mu_\d+"))
def test_mean_frames(backend: str, name: str) -> None:
    count = int(name.rsplit("_", 1)[1])
    state, flow = window_state(backend)
    noise = np.zeros((len(IO["prompt_feat"][0]) + frames_of(count), 80), np.float32)
    window = flow.decode_window(state, v1.generated(IO, 0, count), frames_of(count), noise)
    assert_close(window.mu.T, IO[name][0], ENCODER_TOLERANCE)


def window_state(backend: str) -> tuple[Any, WindowedFlowStage]:
    flow = v1.stage(backend)
    return flow.start(v1.prompt(IO)), flow


def split_cache(name: str) -> tuple[FloatArray, FloatArray]:
    """Noise and mean frames of an official cache, (frames, n_mels) each."""
    cache = IO[name][0]
    return cache[..., 0].T, cache[..., 1].T


@backends
def test_windows_with_and_without_what_was_carried(backend: str) -> None:
    """The official flow cache: noise and mean frames of the prompt and the last edge."""
    state, flow = window_state(backend)
    first = next(iter(matching(r"full\.mel_\d+_c1")))
    count = int(re.findall(r"\d+", first)[0])
    prompt, frames, edge = len(IO["prompt_feat"][0]), frames_of(count), frames_of(20)
    tokens, noise = v1.generated(IO, 0, count), v1.noise().frames(0, prompt + frames)
    made = flow.decode_window(state, tokens, frames, noise)
    assert_close(made.frames[prompt:].T, IO[first][0], MEL_TOLERANCE)
    cached_noise, cached_mu = split_cache("full.cache_c1")
    ours = np.concatenate([made.mu[:prompt], made.mu[-edge:]])
    assert_close(ours, cached_mu, ENCODER_TOLERANCE)
    assert_close(np.concatenate([noise[:prompt], noise[-edge:]]), cached_noise, 0)

    noise = np.concatenate([cached_noise, noise[len(cached_noise) :]])
    again = flow.decode_window(state, tokens, frames, noise, ours)
    assert_close(again.frames[prompt:].T, IO[f"full.mel_{count}_with_cache"][0], MEL_TOLERANCE)
    noise_after, mu_after = split_cache("full.cache_c2")
    assert_close(np.concatenate([again.mu[:prompt], again.mu[-edge:]]), mu_after, ENCODER_TOLERANCE)
    assert_close(np.concatenate([noise[:prompt], noise[-edge:]]), noise_after, 0)


@backends
@pytest.mark.parametrize("run", [name for name in RUNS if name.startswith("full_")])
def test_mel_of_a_whole_run(backend: str, run: str) -> None:
    voice = v1.prompt(TTS, with_speech=RUNS[run]["prompt"])
    mel = v1.whole(backend, voice, v1.generated(TTS, 0, RUNS[run]["n_tokens"]))
    assert_close(mel.T, TTS[f"{run}.mel0"][0], MEL_TOLERANCE)


def official_noise(run: str) -> ArrayNoise:
    """The noise of every frame of a streamed run: each official call begins its table anew.

    Frames that two calls share keep the noise of the first one.
    """
    prompt = len(TTS["prompt_feat"][0]) if RUNS[run]["prompt"] else 0
    table = IO["noise"][0].T
    parts, shared = [table[:prompt]], 0
    for call in RUNS[run]["flow_calls"]:
        parts.append(table[prompt + shared : prompt + call["mel_frames"]])
        shared = frames_of(v1.OVERLAP_TOKENS)
    return ArrayNoise(np.concatenate(parts))


@backends
@pytest.mark.parametrize("run", [name for name in RUNS if name.startswith("stream_")])
def test_streamed_mel(backend: str, run: str) -> None:
    """Every official window, joined by weights that sum to one.

    The official weights are the halves of a Hamming window and sum to 1.08: frames that two
    windows share are louder there, and differ from ours by design. All others must be the same.
    """
    plain = v1.stage(backend, first_chunk_tokens=100)
    flow = WindowedFlowStage(v1.flow_network(backend), plain.config, official_noise(run))
    state = flow.fork(flow.start(v1.prompt(TTS, with_speech=RUNS[run]["prompt"])))
    tokens = v1.generated(TTS, 0, RUNS[run]["n_tokens"])
    made = [flow.advance(one, state, final=False) for one in np.split(tokens, len(tokens))]
    made.append(flow.advance(tokens[:0], state, final=True))
    ours = np.concatenate(made)

    windows = [TTS[f"{run}.mel{i}"][0].T for i in range(len(RUNS[run]["flow_calls"]))]
    shared = frames_of(v1.OVERLAP_TOKENS)
    expected = windows[0]
    for window in windows[1:]:
        faded = cross_fade(expected[-shared:], window)
        expected = np.concatenate([expected[:-shared], faded])
    assert_close(ours, expected, MEL_TOLERANCE)
    assert len(ours) == frames_of(len(tokens))


def test_windows_join_as_if_there_were_none() -> None:
    """Where windows meet, a stream is as smooth and as near to one pass as elsewhere.

    Measured, frames in joins against all others: movement from frame to frame 1.61 and 1.64;
    distance to one pass over everything 0.34 and 0.42, where the mel's deviation is 1.31. Without
    the cross-fade the distance in joins is 0.51.
    """
    config = v1.model_config()
    encoder = config.flow.encoder
    assert isinstance(encoder, RegulatedEncoderConfig)
    flow = WindowedFlowStage(v1.flow_network("torch"), config, SeededNoise(config.flow.n_mels))
    starts = range(encoder.first_chunk_tokens, 500, encoder.chunk_tokens)
    count = starts[-1] + encoder.chunk_tokens
    tokens = np.random.default_rng(0).integers(0, config.flow.speech_vocab_size, count)
    voice = flow.start(v1.prompt(TTS))
    made, whole = (
        flow.advance(tokens, flow.fork(voice, whole=one_pass), final=True)
        for one_pass in (False, True)
    )
    inside = np.zeros(len(made), np.bool_)
    for start in starts:
        inside[frames_of(start) : frames_of(start + encoder.overlap_tokens)] = True
    moves = np.sqrt(np.square(np.diff(made, axis=0)).mean(axis=1))
    touches = inside[1:] | inside[:-1]
    assert moves[touches].mean() <= 1.1 * moves[~touches].mean()
    assert moves[touches].max() <= 1.2 * moves[~touches].max()
    away = np.square(made - whole).mean(axis=1)
    assert away[inside].mean() <= 1.2 * away[~inside].mean()


def test_keys_of_the_golden_checkpoint() -> None:
    official = golden.load_tensors("v1", "flow")
    table = flow_keys(v1.model_config().flow)
    ours = table.to_ours(official)
    assert set(ours) == set(v1.flow_module().state_dict())
    back = table.to_official(ours)
    assert set(back) == set(official)
    assert all(torch.equal(back[key], value) for key, value in official.items())


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_keys_are_strict(change: str) -> None:
    official = golden.load_tensors("v1", "flow")
    if change == "missing":
        del official["length_regulator.model.1.bias"]
    else:
        official["length_regulator.model.2.bias"] = torch.zeros(1)
    with pytest.raises(ModelFormatError, match=rf"{change} length_regulator"):
        flow_keys(v1.model_config().flow).to_ours(official)


def test_keys_and_shapes_of_the_released_checkpoint() -> None:
    sizes = flow_config(golden.contract_config(1)["flow"], 1)
    with torch.device("meta"):
        module = Flow(sizes)
    official = flow_keys(sizes).to_official(module.state_dict())
    shapes = {key: tuple(value.shape) for key, value in official.items()}
    assert shapes == golden.contract("flow", 1)


@pytest.mark.parametrize("channels", [[32, 64], [32], [32, 32, 32]])
def test_a_unet_that_was_never_released_is_refused(channels: list[int]) -> None:
    values = golden.contract_config(1)["flow"]
    values["decoder"]["estimator"]["channels"] = channels
    with pytest.raises(ModelFormatError, match=re.escape(str(channels))):
        flow_config(values, 1)


def test_a_regulator_that_was_never_released_is_refused() -> None:
    values = golden.contract_config(1)["flow"]
    values["length_regulator"]["sampling_ratios"] = [1, 2]
    with pytest.raises(ModelFormatError, match=r"sampling ratios \[1, 2\]"):
        flow_config(values, 1)


def test_padded_tokens_do_not_matter() -> None:
    """A short row of a batch gives the frames it gives alone."""
    tokens = torch.tensor(v1.generated(IO, 0, 40))[None]
    size, short = tokens.shape[1], tokens.shape[1] - 11
    padding = torch.arange(size)[None] < torch.tensor([[size], [short]])
    with torch.inference_mode():
        batch, _ = encoder()(tokens.expand(2, -1), mask=padding)
        alone, _ = encoder()(tokens[:, :short])
    assert_close(batch[1, :short], alone[0], ENCODER_TOLERANCE)
