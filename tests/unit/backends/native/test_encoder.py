"""The native token encoders: near torch, forks and stored states, what cannot run."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mynah.backends.composed_flow import ENCODER_GRAPH, ComposedFlow
from mynah.backends.native.encoder import NativeEncoder
from mynah.backends.native.encoder_state import EncoderState
from mynah.backends.native.encoder_weights import encoder_obstacle
from mynah.backends.native.kernels import Threads, instruction_sets
from mynah.backends.native.relative import FloatLayout
from mynah.backends.native.segments import SegmentedState, SegmentPool
from mynah.backends.native.velocity import NativeVelocity
from mynah.backends.onnx.flow import OnnxEncoder
from mynah.backends.torch.flow import TorchFlow
from mynah.config import TokenEncoderConfig
from mynah.errors import BackendError, ModelFormatError
from mynah.export.flow import export_flow
from mynah.export.shrink import Variant, shrink
from mynah.networks.flow import Flow
from mynah.pipeline import flow as stage
from mynah.pipeline.noise import SeededNoise
from tests.unit.backends.native.test_velocity import DIT, UNET

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="the kernels were not built")

CONFORMER = UNET.model_copy(
    update={
        "encoder": TokenEncoderConfig(
            dim=64, num_heads=2, feed_forward=96, num_blocks=2, num_up_blocks=1, chunk_tokens=5
        )
    }
)
KINDS = {"conformer": CONFORMER, "lookahead": DIT}
CALLS = ((5, 3), (7, 1), (40, 3), (1, 3), (33, 0))
"""Tokens, and those that follow: fewer than are looked at only where an utterance ends."""
INT8_ERROR = 0.03
"""Of random weights, relative; the graph of ONNX Runtime is as far away."""


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@cache
def made(kind: str) -> Flow:
    torch.manual_seed(0)
    return Flow(KINDS[kind]).eval()


@pytest.fixture
def flow(kind: str) -> Flow:
    return made(kind)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: written(made(kind), tmp_path_factory.mktemp(kind), "int8") for kind in KINDS}


@pytest.fixture(scope="module")
def folder(folders: dict[str, Path], kind: str) -> Path:
    return folders[kind]


def written(flow: Flow, folder: Path, variant: Variant) -> Path:
    export_flow(flow, folder, variant)
    shrink(folder / ENCODER_GRAPH, variant)
    return folder


@pytest.fixture(scope="module", params=instruction_sets())
def network(request: pytest.FixtureRequest, folder: Path, kind: str) -> NativeEncoder:
    assert encoder_obstacle(folder, KINDS[kind]) is None
    return NativeEncoder(folder, KINDS[kind], Threads(2, request.param))


def ids(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, CONFORMER.speech_vocab_size, count)


def read(network: NativeEncoder, state: EncoderState, seed: int, count: int = 5) -> np.ndarray:
    known = ids(count + 3, seed)
    return network.encode(known[:count], known[count:], state)


def away(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def errors(network: NativeEncoder | OnnxEncoder, flow: Flow) -> list[float]:
    """Of several calls, longer than a segment of keys and values."""
    reference = TorchFlow(flow)
    state, exact = network.new_state(), reference.new_encoder_state()
    found = []
    for seed, (count, following) in enumerate(CALLS):
        known = ids(count + following, seed)
        ahead = known[count:] if following else None
        expected = reference.to_numpy(reference.encode(known[:count], ahead, exact))
        found.append(away(network.encode(known[:count], ahead, state), expected))
    return found


def test_near_torch(network: NativeEncoder, flow: Flow) -> None:
    assert max(errors(network, flow)) < INT8_ERROR


@pytest.mark.parametrize("variant", ["float32", "float16", "int8_weights"])
def test_as_exact_as_the_graph(
    flow: Flow, kind: str, tmp_path: Path, variant: Variant, subtests: pytest.Subtests
) -> None:
    """Where the graph computes in float32, so do the kernels."""
    path = written(flow, tmp_path, variant)
    assert encoder_obstacle(path, KINDS[kind]) is None
    by_onnx = errors(OnnxEncoder(path, 2, 1), flow)
    for name in instruction_sets():
        with subtests.test(name):
            native = errors(NativeEncoder(path, KINDS[kind], Threads(1, name)), flow)
            np.testing.assert_allclose(native, by_onnx, rtol=0.02, atol=2e-6)


def test_eight_bits_are_as_near_as_the_graph(folder: Path, kind: str, flow: Flow) -> None:
    native = errors(NativeEncoder(folder, KINDS[kind], Threads(1)), flow)
    assert np.mean(native) < 1.1 * np.mean(errors(OnnxEncoder(folder, 2, 1), flow))


def test_threads_change_nothing(folder: Path, kind: str) -> None:
    found = []
    for count in (1, 2, 5):
        network = NativeEncoder(folder, KINDS[kind], Threads(count))
        state = network.new_state()
        found.append([read(network, state, seed, 30) for seed in range(4)])
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_forks_are_independent(network: NativeEncoder) -> None:
    prefix = network.new_state()
    read(network, prefix, 0, 40)
    one, other = prefix.fork(), prefix.fork()
    read(network, one, 1)
    late = one.fork()
    read(network, one, 2)
    read(network, prefix, 6)
    alone = [read(network, one, 3), read(network, other, 4), read(network, late, 5)]
    for seeds, expected in zip(([1, 2, 3], [4], [1, 5]), alone, strict=True):
        state = network.new_state()
        read(network, state, 0, 40)
        again = [read(network, state, seed) for seed in seeds][-1]
        np.testing.assert_array_equal(again, expected)


def test_a_longer_past_changes_nothing_of_others(network: NativeEncoder) -> None:
    """The table of distances, which all sequences share, grows with the longest one."""
    states = [network.new_state() for _ in range(2)]
    first = read(network, states[0], 0)
    long = network.new_state()
    for seed in range(5):
        read(network, long, seed, 70)
    np.testing.assert_array_equal(read(network, states[1], 0), first)
    after = [read(network, state, 1) for state in states]
    np.testing.assert_array_equal(*after)


@pytest.mark.parametrize("keep", [0, 20, 128, 10_000])
def test_trimmed_states_attend_to_the_last_frames(
    network: NativeEncoder, flow: Flow, keep: int
) -> None:
    reference = TorchFlow(flow)
    state, exact = network.new_state(), reference.new_encoder_state()
    for seed in range(3):
        known = ids(43, seed)
        network.encode(known[:40], known[40:], state)
        reference.encode(known[:40], known[40:], exact)
        state.trim(keep)
        reference.trim(exact, keep)
    known = ids(8, 9)
    expected = reference.to_numpy(reference.encode(known[:5], known[5:], exact))
    assert away(network.encode(known[:5], known[5:], state), expected) < INT8_ERROR


def test_stored_state_goes_on_as_before(network: NativeEncoder) -> None:
    state = network.new_state()
    for seed in range(4):
        read(network, state, seed, 30)
    state.trim(150)
    stored = {key: value.copy() for key, value in state.arrays().items()}
    again = network.restore(stored)
    assert again.nbytes() == state.nbytes()
    np.testing.assert_array_equal(read(network, again, 20), read(network, state, 20))


def test_states_of_others_are_refused(network: NativeEncoder, folder: Path, kind: str) -> None:
    other = OnnxEncoder(folder, 2, 1).new_state()
    with pytest.raises(ModelFormatError, match="does not fit"):
        network.restore(other.arrays())
    state = network.new_state()
    read(network, state, 0)
    for key, value in state.arrays().items():
        if key.endswith(".bounds"):
            continue
        with pytest.raises(ModelFormatError, match="does not fit"):
            network.restore({**state.arrays(), key: value[:-1]})
    with pytest.raises(ModelFormatError, match="does not fit"):
        OnnxEncoder(folder, 2, 1).restore(state.arrays())


def test_endless_sequences_are_refused() -> None:
    layout = FloatLayout(layers=1, heads=1, size=16, contexts=0)
    state = SegmentedState(SegmentPool(layout), 1)
    for _ in range(layout.most_segments):
        state.extend(layout.positions)
    with pytest.raises(BackendError, match="too many"):
        state.extend(1)


def test_unknown_tokens_are_refused(network: NativeEncoder) -> None:
    for bad in (-1, CONFORMER.speech_vocab_size):
        with pytest.raises(BackendError, match=f"speech token {bad}"):
            network.encode(np.array([1, bad]), None, network.new_state())


def test_streamed_equals_whole(network: NativeEncoder, folder: Path, kind: str) -> None:
    """Bit for bit, in every mel frame."""
    config = KINDS[kind]
    flow = ComposedFlow(folder, network, NativeVelocity(folder, config, Threads(1)))
    rng = np.random.default_rng(3)
    prompt = stage.FlowPrompt(
        rng.standard_normal(24).astype(np.float32),
        ids(8, 1),
        rng.standard_normal((16, config.n_mels)).astype(np.float32),
    )
    tokens, noise = ids(42, 2), SeededNoise(config.n_mels)
    prefix = stage.prefix_state(flow, config, prompt, noise)
    found = []
    for cuts in ([], [1, 2, 3], [20], [7, 33, 41]):
        state = stage.fork(flow, prefix)
        parts = [
            stage.advance(flow, config, piece, state, final=False)
            for piece in np.split(tokens, cuts)
        ]
        parts.append(stage.advance(flow, config, tokens[:0], state, final=True))
        found.append(np.concatenate(parts))
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_graphs_whose_weights_are_only_numbered(
    kind: str, flow: Flow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written before the exporter named all of them; they are found by their order."""
    trained = copy.deepcopy(flow)
    with torch.no_grad():
        for weight in trained.parameters():  # no two are equal, unlike those of a new network
            weight += 0.01 * torch.randn(weight.shape)
    found = []
    for name in ("new", "old"):
        network = NativeEncoder(written(trained, tmp_path / name, "int8"), KINDS[kind], Threads(1))
        found.append(read(network, network.new_state(), 0))
        monkeypatch.setattr("mynah.export.flow.name_weights", lambda path, names: None)
    np.testing.assert_array_equal(*found)


def test_what_cannot_run_is_left_to_onnx_runtime(folder: Path, kind: str, tmp_path: Path) -> None:
    config = KINDS[kind]
    odd = config.model_copy(update={"input_size": 24})
    assert "24" in str(encoder_obstacle(folder, odd))
    large = config.model_copy(update={"speech_vocab_size": 41})
    with pytest.raises(ModelFormatError, match="of the shape"):
        encoder_obstacle(folder, large)
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    model = onnx.load(str(tmp_path / ENCODER_GRAPH))
    for weight in model.graph.initializer:
        weight.name = weight.name.replace("lookahead_output.bias", "something")
    for node in model.graph.node:
        node.input[:] = [name.replace("lookahead_output.bias", "something") for name in node.input]
    onnx.save(model, str(tmp_path / ENCODER_GRAPH))
    assert "lookahead_output.bias" in str(encoder_obstacle(tmp_path, config))


def test_kinds_without_kernels(tmp_path: Path) -> None:
    heads = CONFORMER.encoder.model_copy(update={"num_heads": 4, "dim": 96})
    wide = CONFORMER.model_copy(update={"encoder": heads})
    assert "heads of 24" in str(encoder_obstacle(tmp_path, wide))
