"""Streams that share the first step's unconditional velocity are to the bit what they are alone."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from mynah.backends.base import FloatArray, TokenArray
from mynah.backends.fake import fake_voice
from mynah.backends.native.kernels import Threads, instruction_sets
from mynah.backends.native.velocity import NativeVelocity
from mynah.backends.onnx.flow import OnnxFlow
from mynah.config import DiTConfig, FlowConfig, LookaheadEncoderConfig, ModelConfig
from mynah.errors import BackendError, ModelFormatError
from mynah.export.flow import export_flow
from mynah.networks.flow import Flow
from mynah.pipeline import flow_prefix, unconditional
from mynah.pipeline.flow import FlowPrompt, FlowStageState, decode_whole
from mynah.pipeline.flow_stage import CausalFlowStage
from mynah.pipeline.model import flow_prompt
from mynah.pipeline.noise import SeededNoise
from mynah.pipeline.sharing import unwrapped
from mynah.pipeline.unconditional import SharedStart, shared_start
from tests.fake_model import fake_model
from tests.property import flow_model
from tests.tiny_model import tiny_config

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="the kernels were not built")

TINY = tiny_config("cosyvoice2")
UNET = TINY.flow.model_copy(
    update={
        "speech_vocab_size": 40,
        "n_mels": 16,
        "speaker_dim": 24,
        "num_steps": 3,
        "temperature": 0.8,
        "velocity": TINY.flow.velocity.model_copy(update={"channels": 32, "head_dim": 16}),
    }
)
DIT = UNET.model_copy(
    update={
        "input_size": 16,
        "encoder": LookaheadEncoderConfig(kind="lookahead", channels=32, chunk_tokens=5),
        "velocity": DiTConfig(
            kind="dit", dim=128, depth=2, num_heads=2, head_dim=64, conv_kernel=5, conv_groups=2
        ),
    }
)
CHUNK = UNET.encoder.chunk_tokens
LOOKAHEAD = UNET.encoder.lookahead_tokens
FRAMES = 2 * CHUNK
NOISE = SeededNoise(UNET.n_mels)


class Watched:
    """Passes calls on; notes the guidance branches and frames of each one at the first step."""

    def __init__(self, inner: OnnxFlow) -> None:
        self.inner = inner
        self.calls: list[tuple[int, int]] = []
        self.fails_at = -1

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def velocity(self, x: FloatArray, t: float, *rest: Any) -> Any:
        if t == 0:
            if len(self.calls) == self.fails_at:
                raise BackendError("out of order")
            self.calls.append((rest[-1].branches, len(x)))
        return self.inner.velocity(x, t, *rest)

    def taken(self) -> list[tuple[int, int]]:
        """The calls since this was asked last."""
        calls, self.calls = self.calls, []
        return calls


@pytest.fixture(scope="module", params=[UNET, DIT], ids=["unet", "dit"])
def config(request: pytest.FixtureRequest) -> FlowConfig:
    found: FlowConfig = request.param
    return found


@pytest.fixture(scope="module")
def flow(config: FlowConfig, tmp_path_factory: pytest.TempPathFactory) -> OnnxFlow:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp("int8")
        export_flow(Flow(config).eval(), folder, "int8")
    return OnnxFlow(folder, velocity=NativeVelocity(folder, config, Threads(2)))


@pytest.fixture
def network(flow: OnnxFlow) -> Watched:
    return Watched(flow)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Three chunks are shared, and something is left over."""
    monkeypatch.setattr(unconditional, "_MOST_FRAMES", 3 * FRAMES + 7)
    return 3


def whole(config: FlowConfig) -> ModelConfig:
    return TINY.model_copy(update={"flow": config})


def stage(network: Any, config: FlowConfig, left_chunks: int | None = None) -> CausalFlowStage:
    return CausalFlowStage(network, whole(config), NOISE, left_chunks, splits_guidance=True)


def voice(count: int, seed: int = 1) -> FlowPrompt:
    rng = np.random.default_rng(seed)
    speaker = rng.standard_normal(UNET.speaker_dim).astype(np.float32)
    mel = rng.standard_normal((2 * count, UNET.n_mels)).astype(np.float32)
    return FlowPrompt(speaker, speech(count, seed), mel)


def speech(count: int, seed: int = 0) -> TokenArray:
    return np.random.default_rng(seed).integers(0, UNET.speech_vocab_size, count)


def stream(
    of: CausalFlowStage, state: FlowStageState, tokens: TokenArray, cuts: tuple[int, ...] = ()
) -> FloatArray:
    pieces = np.split(tokens, cuts)
    made = [of.advance(piece, state, final=False) for piece in pieces]
    return np.concatenate([*made, of.advance(tokens[:0], state, final=True)])


def alone(
    network: Watched, config: FlowConfig, prompt: FlowPrompt, tokens: TokenArray
) -> FloatArray:
    """The same utterance by states of both branches, which share nothing."""
    mel = decode_whole(network.inner, config, prompt, tokens, NOISE)
    assert np.ptp(mel) > 0
    return mel


@pytest.mark.parametrize("prompt_count", [0, 4, 2 * CHUNK + LOOKAHEAD])
def test_any_stream_equals_one_that_shares_nothing(
    network: Watched, config: FlowConfig, prompt_count: int
) -> None:
    """Whole and short last chunks, one after the other, in any order of lengths."""
    shared = stage(network, config)
    for seed, count in enumerate((3, 23, 11, 5 * CHUNK, 38, 7, 2 * CHUNK, 12)):
        prompt, tokens = voice(prompt_count, seed), speech(count, seed)
        mel = stream(shared, shared.start(prompt), tokens, (1, count // 2))
        np.testing.assert_array_equal(mel, alone(network, config, prompt, tokens))


def test_a_chunk_is_computed_once(network: Watched, config: FlowConfig) -> None:
    shared, tokens = stage(network, config), speech(4 * CHUNK)
    stream(shared, shared.start(voice(0)), tokens)
    assert network.taken() == [(1, FRAMES)] * 8
    stream(shared, shared.start(voice(2 * CHUNK, 5)), tokens[: 2 * CHUNK])
    assert network.taken() == [(1, FRAMES)] * 4
    again = stream(shared, shared.start(voice(0, 7)), speech(5 * CHUNK, 3))
    assert network.taken() == [(1, FRAMES)] * 6
    expected = alone(network, config, voice(0, 7), speech(5 * CHUNK, 3))
    np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize("chunks", [0, 1, 2, 3])
def test_a_short_chunk_costs_at_most_a_whole_one(
    network: Watched, config: FlowConfig, chunks: int
) -> None:
    """It is computed behind every second chunk, and does not stay."""
    shared = stage(network, config)
    stream(shared, shared.start(voice(0)), speech(6 * CHUNK))
    for _ in range(2):
        network.taken()
        stream(shared, shared.start(voice(0)), speech(chunks * CHUNK + 2))
        calls = network.taken()
        assert calls.count((1, 4)) == 2
        assert calls.count((1, FRAMES)) == chunks + chunks % 2
        assert len(calls) == 2 + chunks + chunks % 2


def test_memory_is_bounded(network: Watched, config: FlowConfig, few: int) -> None:
    """An utterance that is longer goes on alone, from where sharing ends."""
    shared = stage(network, config)
    for count in (9 * CHUNK + 1, 4 * CHUNK, few * CHUNK + 2, few * CHUNK):
        network.taken()
        tokens = speech(count, count)
        mel = stream(shared, shared.start(voice(0)), tokens, (few * CHUNK + 4,))
        np.testing.assert_array_equal(mel, alone(network, config, voice(0), tokens))
    held = shared._shared
    assert held is not None
    assert sorted(held._velocities) == [0, 1, 2]
    assert max(state.length() for state in held._kept.values()) <= few * FRAMES
    assert held._last[1].length() <= few * FRAMES


def test_voices_beyond_the_bound_are_forked(network: Watched, config: FlowConfig, few: int) -> None:
    shared, prompt = stage(network, config), voice((few + 2) * CHUNK + LOOKAHEAD)
    prepared = shared.start(prompt)
    one, other = shared.fork(prepared), shared.fork(prepared)
    parts: list[list[FloatArray]] = [[], []]
    texts = [speech(17, 1), speech(9, 2)]
    for cut in range(0, 17, 4):
        for state, tokens, made in zip((one, other), texts, parts, strict=True):
            made.append(shared.advance(tokens[cut : cut + 4], state, final=False))
    for state, tokens, made in zip((one, other), texts, parts, strict=True):
        made.append(shared.advance(tokens[:0], state, final=True))
        np.testing.assert_array_equal(np.concatenate(made), alone(network, config, prompt, tokens))


def test_streams_take_turns(network: Watched, config: FlowConfig) -> None:
    """Whoever comes first computes a chunk; a cancelled stream leaves nothing half done."""
    shared, texts = stage(network, config), [speech(33, seed) for seed in range(3)]
    states = [shared.start(voice(4, seed)) for seed in range(3)]
    made: list[list[FloatArray]] = [[], [], []]
    for cut in range(0, 33, 6):
        for index in np.random.default_rng(cut).permutation(3).tolist():
            if index == 2 and cut > 12:
                continue  # cancelled: nobody asks for its next frames
            piece = texts[index][cut : cut + 6]
            made[index].append(shared.advance(piece, states[index], final=False))
    for index in (0, 1):
        made[index].append(shared.advance(texts[index][:0], states[index], final=True))
        expected = alone(network, config, voice(4, index), texts[index])
        np.testing.assert_array_equal(np.concatenate(made[index]), expected)


@pytest.mark.parametrize("call", range(8))
def test_a_failed_call_harms_nobody_else(network: Watched, config: FlowConfig, call: int) -> None:
    shared, tokens = stage(network, config), speech(17)
    network.fails_at = call
    with pytest.raises(BackendError, match="out of order"):
        stream(shared, shared.start(voice(0)), tokens)
    network.fails_at = -1
    mel = stream(shared, shared.start(voice(0)), tokens)
    np.testing.assert_array_equal(mel, alone(network, config, voice(0), tokens))


def test_threads_share(network: Watched, config: FlowConfig, few: int) -> None:
    """All at the same time, before anything is known."""
    shared, ready = stage(network, config), threading.Barrier(6)
    made: dict[int, FloatArray] = {}

    def speak(seed: int) -> None:
        ready.wait()
        made[seed] = stream(shared, shared.start(voice(seed)), speech(19 + seed, seed), (4, 9, 15))

    threads = [threading.Thread(target=speak, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(6):
        expected = alone(network, config, voice(seed), speech(19 + seed, seed))
        np.testing.assert_array_equal(made[seed], expected)


@pytest.mark.parametrize("chunks", [1, 2, 3, 5])
def test_a_voice_comes_back_from_disk(
    network: Watched, config: FlowConfig, chunks: int, few: int, tmp_path: Path
) -> None:
    """With what it needs of the first step, so that a program that just began need not read it."""
    path, prompt, tokens = tmp_path / "voice", voice(chunks * CHUNK + LOOKAHEAD), speech(2 * CHUNK)
    expected = alone(network, config, prompt, tokens)
    first = stage(network, config)
    assert first.save(first.start(prompt), path)
    assert first._shared is not None
    assert max(first._shared._kept) <= few
    later = stage(network, config)
    network.taken()
    loaded = later.load(prompt, path)
    assert not network.taken()
    np.testing.assert_array_equal(stream(later, later.fork(loaded), tokens), expected)
    assert network.taken().count((1, FRAMES)) == 4  # of the two chunks behind the voice
    np.testing.assert_array_equal(stream(later, later.fork(loaded), tokens), expected)
    other = voice(CHUNK - 1, 9)  # begins before what was loaded
    mel = stream(later, later.start(other), tokens)
    np.testing.assert_array_equal(mel, alone(network, config, other, tokens))
    np.testing.assert_array_equal(stream(later, later.load(prompt, path), tokens), expected)


def test_one_voice_from_disk_is_enough(
    network: Watched, config: FlowConfig, tmp_path: Path
) -> None:
    """What others bring is on the way from there, or from the start: memory stays bounded."""
    prompts = {count: voice(count * CHUNK + LOOKAHEAD) for count in (3, 5, 1)}
    first, later = stage(network, config), stage(network, config)
    for count, prompt in prompts.items():
        first.save(first.start(prompt), tmp_path / str(count))
    loaded = {n: later.load(prompt, tmp_path / str(n)) for n, prompt in prompts.items()}
    held = later._shared
    assert held is not None
    assert sorted(held._kept) == [0, 3]
    for count in (5, 3, 1):
        mel = stream(later, loaded[count], speech(7))
        np.testing.assert_array_equal(mel, alone(network, config, prompts[count], speech(7)))
    mel = stream(later, later.start(voice(0)), speech(4 * CHUNK + 2))
    expected = alone(network, config, voice(0), speech(4 * CHUNK + 2))
    np.testing.assert_array_equal(mel, expected)


def test_a_voice_is_stored_while_others_speak(
    network: Watched, config: FlowConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is computed for the file alone keeps its memory until the file is written."""
    first, prompt = stage(network, config), voice(3 * CHUNK + LOOKAHEAD)
    stream(first, first.start(voice(0)), speech(7 * CHUNK))
    state = first.start(prompt)
    assert first.save(state, tmp_path / "alone")

    def save(arrays: Any, path: Path) -> None:
        stream(first, first.start(voice(0, 5)), speech(9 * CHUNK, 4))
        save_file(arrays, path)

    monkeypatch.setattr(flow_prefix, "save_file", save)
    assert first.save(state, tmp_path / "beside")
    found, expected = (load_file(tmp_path / name) for name in ("beside", "alone"))
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_voices_stored_otherwise_are_refused(
    network: Watched, config: FlowConfig, tmp_path: Path
) -> None:
    """By a version of mynah that did not share, or by a stage that does not."""
    prompt = voice(2 * CHUNK)
    stages = [CausalFlowStage(network, whole(config), NOISE), stage(network, config)]
    for writer, reader in (stages, stages[::-1]):
        assert writer.save(writer.start(prompt), tmp_path / "voice")
        with pytest.raises(ModelFormatError, match="no flow state"):
            reader.load(prompt, tmp_path / "voice")


def test_only_what_is_guided_and_unbounded_shares(network: Watched, config: FlowConfig) -> None:
    for change in ({"cfg_rate": 0.0}, {"guided_steps": 0}):
        assert shared_start(network, config.model_copy(update=change), NOISE) is None
    assert isinstance(shared_start(network, config, NOISE), SharedStart)
    assert stage(network, config, left_chunks=2).start(voice(0)).start is None
    assert CausalFlowStage(network, whole(config), NOISE).start(voice(0)).start is None


@pytest.mark.parametrize("splits", [False, True])
def test_the_backend_says_whether_to_share(splits: bool) -> None:
    model = fake_model(change=lambda backend: replace(backend, splits_guidance=splits))
    state = model.flow.start(flow_prompt(fake_voice(model.config)))
    assert (state.start is not None) == splits


def test_with_few_guided_steps(network: Watched, config: FlowConfig, tmp_path: Path) -> None:
    config = config.model_copy(update={"guided_steps": 1})
    shared, prompt, tokens = stage(network, config), voice(2 * CHUNK), speech(13)
    expected = alone(network, config, prompt, tokens)
    state = shared.start(prompt)
    assert shared.save(state, tmp_path / "voice")
    for one in (state, shared.load(prompt, tmp_path / "voice")):
        np.testing.assert_array_equal(stream(shared, one, tokens), expected)


def test_a_network_for_many_streams() -> None:
    """It computes both branches for all of them, so those that share go one by one."""
    network, config = flow_model.network("torch"), flow_model.CONFIG
    shared = CausalFlowStage(network, whole(config), flow_model.NOISE, splits_guidance=True)
    prompts = [flow_model.prompt(4, seed) for seed in range(2)]
    states = [shared.start(prompt) for prompt in prompts]
    texts = [flow_model.tokens(count, count) for count in (12, 17)]
    made = shared.advance_many(texts, states, [True, True])
    for mel, prompt, tokens in zip(made, prompts, texts, strict=True):
        np.testing.assert_allclose(unwrapped(mel), flow_model.oracle(prompt, tokens), atol=1e-4)
