"""The native vocoder against torch and ONNX Runtime, and files that it cannot run."""

from __future__ import annotations

import copy
import shutil
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from mynah.backends.base import Backend, FloatArray, IncrementalVocoderNetwork
from mynah.backends.native.kernels import Threads, instruction_sets
from mynah.backends.native.vocoder import (
    FRAMES_AT_ONCE,
    NativeVocoder,
    load_native_vocoder,
    vocoder_obstacle,
)
from mynah.backends.native.vocoder_weights import DECODE_GRAPH, F0_GRAPH, decode_weights
from mynah.backends.onnx.vocoder import OnnxVocoder
from mynah.backends.timed import timed
from mynah.errors import BackendError, GenerationError, ModelFormatError, ModelNotFoundError
from mynah.export.shrink import Variant, shrink
from mynah.export.vocoder import export_vocoder
from mynah.pipeline.receptive_field import decode_fields, stage_crops
from mynah.pipeline.vocoder import advance, new_state
from tests.property.vocoder_model import (
    CONFIGS,
    SAMPLE_RATE,
    exported,
    mel,
    native,
    network,
    vocoder,
)

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="the kernels were not built")

KINDS = ("polar", "source_filter", "causal")
TOLERANCE = 1e-4  # of torch; measured 2e-5
kinds = pytest.mark.parametrize("kind", KINDS)


def source(kind: str, frames: int, seed: int = 0) -> FloatArray:
    config = CONFIGS[kind]
    samples = frames * config.samples_per_frame
    shape = (samples,) if config.head == "polar" else (samples, 2)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) * np.float32(0.1)


def streamed(
    net: NativeVocoder, kind: str, frames: int, sizes: Iterable[int], behind: int = 0, seed: int = 0
) -> list[FloatArray]:
    """Pieces of an utterance; the source comes ``behind`` frames later than the mel."""
    config, state = CONFIGS[kind], net.new_decoder_state()
    x, waves = mel(kind, frames, seed), source(kind, frames, seed)
    made, at = [], 0
    for size in sizes:
        stop, sourced = at + size, slice(max(at - behind, 0), max(at + size - behind, 0))
        sampled = slice(
            *(edge * config.samples_per_frame for edge in (sourced.start, sourced.stop))
        )
        made.append(net.decode_next(x[at:stop], waves[sampled], state, final=False))
        at = stop
    rest = waves[max(at - behind, 0) * config.samples_per_frame :]
    return [*made, net.decode_next(x[at:], rest, state, final=True)]


@kinds
@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("frames", [1, 2, 9, FRAMES_AT_ONCE, 300])
def test_networks_equal_torch(kind: str, instruction_set: str, frames: int) -> None:
    ours, theirs = native(kind, instruction_set), network(kind, "torch")
    x, waves = mel(kind, frames), source(kind, frames)
    np.testing.assert_allclose(ours.f0(x), theirs.f0(x), rtol=1e-5, atol=1e-3)
    expected = theirs.decode(x, waves)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(ours.decode(x, waves), expected, rtol=0, atol=TOLERANCE)


@kinds
@pytest.mark.parametrize("behind", [0, 3, 40])
def test_frame_by_frame_equals_the_whole(kind: str, behind: int) -> None:
    """Each frame comes out as soon as the mel and the source that it depends on are there."""
    net, frames, size = native(kind), 70, CONFIGS[kind].samples_per_frame
    ahead, source_ahead = (field.right for field in decode_fields(CONFIGS[kind]))
    made = streamed(net, kind, frames, [1] * frames, behind)
    done = 0
    for fed, piece in enumerate(made[:-1], start=1):
        certain = max(min(fed - ahead, fed - behind - source_ahead), 0)
        assert len(piece) == (certain - done) * size
        done = certain
    whole = net.decode(mel(kind, frames), source(kind, frames))
    np.testing.assert_allclose(np.concatenate(made), whole, rtol=0, atol=2e-5)


def test_crops_choose_a_part_of_the_waveform() -> None:
    config, x, waves = CONFIGS["polar"], mel("polar", 50), source("polar", 50)
    crops = stage_crops(config, 20, 30, 50)
    ours = native("polar").decode(x, waves, crops)
    theirs = network("polar", "torch").decode(x, waves, crops)
    assert ours.shape == theirs.shape
    first = 20 * config.samples_per_frame - (crops[-1, 0] * 2 * config.hop_length)
    wanted = slice(first, first + 10 * config.samples_per_frame)
    np.testing.assert_allclose(ours[wanted], theirs[wanted], rtol=0, atol=TOLERANCE)


@kinds
def test_a_state_does_not_grow(kind: str) -> None:
    net, state, size = (
        native(kind),
        native(kind).new_decoder_state(),
        CONFIGS[kind].samples_per_frame,
    )
    x, waves = mel(kind, 600), source(kind, 600)

    def memory() -> int:
        return sum(
            v.nbytes if isinstance(v, np.ndarray) else sys.getsizeof(v)
            for v in vars(state).values()
        )

    sizes = []
    for at in range(0, 600, 25):
        samples = waves[at * size : (at + 25) * size]
        net.decode_next(x[at : at + 25], samples, state, final=False)
        sizes.append(memory())
    assert len(set(sizes[3:])) == 1
    assert sizes[-1] < 1 << 18


def test_utterances_at_the_same_time_do_not_mix() -> None:
    net = native("polar")
    alone = [np.concatenate(streamed(net, "polar", 90, [7] * 9, seed=n)) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(streamed, net, "polar", 90, [7] * 9, seed=n) for n in range(4)]
        together = [np.concatenate(run.result()) for run in runs]
    for ours, expected in zip(together, alone, strict=True):
        assert np.array_equal(ours, expected)


@kinds
def test_numbers_that_are_none_stay_in_their_utterance(kind: str) -> None:
    net, frames = native(kind), mel(kind, 60)
    before = net.decode(frames, source(kind, 60))
    broken = frames.copy()
    broken[30, 3] = np.nan
    with pytest.raises(GenerationError):
        advance(net, CONFIGS[kind], broken, new_state(CONFIGS[kind], SAMPLE_RATE), final=True)
    assert np.isnan(net.decode(broken, source(kind, 60))).any()
    assert np.array_equal(net.decode(frames, source(kind, 60)), before)


def test_the_stage_decodes_incrementally_also_when_it_is_timed() -> None:
    net: Any = native("polar")
    calls: list[str] = []
    watched = timed(Backend("native", "cpu", net, net, net), lambda name, _: calls.append(name))
    for network_ in (net, watched.vocoder):
        state = new_state(CONFIGS["polar"], SAMPLE_RATE)
        advance(network_, CONFIGS["polar"], mel("polar", 30), state, final=False)
        assert state.decoder is not None
        assert not len(state.source)
    assert "vocoder" in calls
    state = new_state(CONFIGS["polar"], SAMPLE_RATE)
    advance(network("polar", "onnx"), CONFIGS["polar"], mel("polar", 30), state, final=False)
    assert state.decoder is None


def test_nothing_at_all() -> None:
    net = native("polar")
    empty = np.zeros((0, 8), np.float32)
    assert len(net.f0(empty)) == 0
    assert len(net.decode(empty, np.zeros(0, np.float32))) == 0


def test_wrong_use() -> None:
    net = native("polar")
    assert isinstance(net, IncrementalVocoderNetwork)
    assert not isinstance(network("polar", "torch"), IncrementalVocoderNetwork)
    with pytest.raises(BackendError, match="shape"):
        net.f0(np.zeros((3, 5), np.float32))
    with pytest.raises(BackendError, match="shape"):
        net.decode(mel("polar", 3), np.zeros((72, 2), np.float32))
    with pytest.raises(BackendError, match="3 mel frames with 48 samples"):
        net.decode(mel("polar", 3), source("polar", 2))
    state = net.new_decoder_state()
    net.decode_next(mel("polar", 3), source("polar", 3), state, final=True)
    with pytest.raises(ValueError, match="ended"):
        net.decode_next(mel("polar", 3), source("polar", 3), state, final=False)


@kinds
@pytest.mark.parametrize("variant", ["float16", "int8_weights", "int8"])
def test_smaller_files(kind: str, variant: Variant, tmp_path: Path) -> None:
    """Whatever the weights are stored as, they mean what they mean to ONNX Runtime."""
    shutil.copytree(exported(kind), tmp_path, dirs_exist_ok=True)
    shrink(tmp_path / DECODE_GRAPH, variant)
    assert vocoder_obstacle(tmp_path, CONFIGS[kind]) is None
    ours = load_native_vocoder(tmp_path, CONFIGS[kind], Threads(1))
    theirs = OnnxVocoder(tmp_path, threads=1)
    x, waves = mel(kind, 30), source(kind, 30)
    # their Fourier bases are stored in half precision, too
    made, expected = ours.decode(x, waves), theirs.decode(x, waves)
    np.testing.assert_allclose(made, expected, rtol=0, atol=2e-3 * np.abs(expected).max())


@kinds
def test_graphs_of_before_the_names(kind: str, tmp_path: Path) -> None:
    """The exporter's numbers stand in for names; their order is that of the network."""
    shutil.copytree(exported(kind), tmp_path, dirs_exist_ok=True)
    for graph, operator, count in ((DECODE_GRAPH, "Mul", 0), (F0_GRAPH, "MatMul", 0)):
        model = onnx.load(str(tmp_path / graph))
        for weight in model.graph.initializer:
            named = weight.name.endswith((".alpha", "output.weight")) or ".weight." in weight.name
            kind_of = operator if named else "Add"
            if named or (weight.name.endswith("up.bias") and CONFIGS[kind].is_causal):
                count += 7
                rename(model, weight.name, f"onnx::{kind_of}_{95 + count}")
        onnx.save(model, str(tmp_path / graph))
    assert vocoder_obstacle(tmp_path, CONFIGS[kind]) is None
    made = load_native_vocoder(tmp_path, CONFIGS[kind], Threads(1))
    x, waves = mel(kind, 30), source(kind, 30)
    assert np.array_equal(made.decode(x, waves), native(kind).decode(x, waves))
    assert np.array_equal(made.f0(x), native(kind).f0(x))


def rename(model: onnx.ModelProto, old: str, new: str) -> None:
    for weight in model.graph.initializer:
        weight.name = new if weight.name == old else weight.name
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = new if name == old else name


def test_folders_that_cannot_run(tmp_path: Path) -> None:
    config = CONFIGS["polar"]
    with pytest.raises(ModelNotFoundError):
        vocoder_obstacle(tmp_path, config)
    shutil.copytree(exported("polar"), tmp_path, dirs_exist_ok=True)
    assert vocoder_obstacle(tmp_path, config) is None
    wide = config.model_copy(update={"resblock_dilations": ((1, 17), (1, 3))})
    assert "dilation" in (vocoder_obstacle(tmp_path, wide) or "")
    many = {"resblock_dilations": ((1,),) * 7, "resblock_kernel_sizes": (3,) * 7}
    assert "7 residual blocks" in (vocoder_obstacle(tmp_path, config.model_copy(update=many)) or "")
    model = onnx.load(str(tmp_path / DECODE_GRAPH))
    rename(model, "stages.1.blocks.0.1.snake2.alpha", "lost")
    onnx.save(model, str(tmp_path / DECODE_GRAPH))
    reason = vocoder_obstacle(tmp_path, config)
    assert reason is not None
    assert "stages.1.blocks.0.1.snake2.alpha" in reason
    with pytest.raises(ModelFormatError, match="snake2"):
        load_native_vocoder(tmp_path, config, Threads(1))


def test_names_of_the_export_are_those_of_the_modules(tmp_path: Path) -> None:
    """Alphas that are equal are kept apart: each one has its own name."""
    config = CONFIGS["polar"]
    module = copy.deepcopy(vocoder("polar"))
    with torch.no_grad():
        for name, value in module.named_parameters():
            if name.endswith("alpha") and "blocks.0" in name:
                value.fill_(2.0)
    export_vocoder(module, tmp_path)
    weights = decode_weights(tmp_path, config)
    assert not [name for name in weights if name.startswith("onnx::")]
    for name, value in module.named_parameters():
        if not name.startswith(("f0_predictor", "source_filter")):
            np.testing.assert_array_equal(weights[name].reshape(value.shape), value.numpy())
