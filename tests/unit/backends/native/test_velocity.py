"""The native velocity network: near the float one, streamed equals whole, states share the past."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mynah.backends.native import unet
from mynah.backends.native.kernels import Threads, instruction_sets
from mynah.backends.native.onnx_weights import read_initializers
from mynah.backends.native.segments import KEEP_BYTES, MOST_SEGMENTS, POSITIONS, SegmentedState
from mynah.backends.native.velocity import NativeVelocity, velocity_obstacle
from mynah.backends.onnx.flow import OnnxFlow
from mynah.backends.onnx.velocity import VELOCITY_GRAPH, LayeredVelocity
from mynah.backends.torch.flow import TorchFlow
from mynah.config import (
    DiTConfig,
    FlowConfig,
    LookaheadEncoderConfig,
    TokenEncoderConfig,
    VelocityConfig,
)
from mynah.errors import BackendError, ModelFormatError
from mynah.export.flow import export_flow
from mynah.networks.flow import Flow
from mynah.pipeline import flow as stage
from mynah.pipeline.noise import SeededNoise
from mynah.pipeline.solver import euler_steps

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="the kernels were not built")

MELS = 16
UNET = FlowConfig(
    speech_vocab_size=40,
    input_size=32,
    n_mels=MELS,
    speaker_dim=24,
    encoder=TokenEncoderConfig(
        dim=32, num_heads=2, feed_forward=48, num_blocks=1, num_up_blocks=1, chunk_tokens=5
    ),
    velocity=VelocityConfig(
        channels=48, num_heads=2, head_dim=32, transformers_per_block=2, num_mid_blocks=3
    ),
    num_steps=3,
)
DIT = UNET.model_copy(
    update={
        "input_size": MELS,
        "encoder": LookaheadEncoderConfig(kind="lookahead", channels=32, chunk_tokens=5),
        "velocity": DiTConfig(
            kind="dit", dim=128, depth=3, num_heads=2, head_dim=64, conv_kernel=5, conv_groups=2
        ),
    }
)
FRAMES = 10
TIME = euler_steps(UNET.num_steps)[1][0]
INT8_ERROR = 0.12
"""Of random weights, relative; the ONNX graph of the same weights is as far away."""


@pytest.fixture(scope="module", params=[UNET, DIT], ids=["unet", "dit"])
def config(request: pytest.FixtureRequest) -> FlowConfig:
    found: FlowConfig = request.param
    return found


@pytest.fixture(scope="module")
def flow(config: FlowConfig) -> Flow:
    torch.manual_seed(0)
    return Flow(config).eval()


@pytest.fixture(scope="module")
def folder(flow: Flow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8")
    export_flow(flow, path, "int8")
    return path


@pytest.fixture(scope="module", params=instruction_sets())
def network(request: pytest.FixtureRequest, folder: Path, config: FlowConfig) -> NativeVelocity:
    assert velocity_obstacle(folder, config) is None
    return NativeVelocity(folder, config, Threads(2, request.param))


def run(
    network: NativeVelocity, state: SegmentedState, seed: int, frames: int = FRAMES
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x, mu, cond = (rng.standard_normal((frames, MELS)).astype(np.float32) for _ in range(3))
    return network.run(x, TIME, mu, mu[0], cond, state)


def away(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_near_torch_and_onnx(network: NativeVelocity, flow: Flow, folder: Path) -> None:
    """Over several chunks, longer than a segment of keys and values."""
    reference, other = TorchFlow(flow), LayeredVelocity(folder, 1, 2)
    states = network.new_state(), reference.new_velocity_state(), other.new_state()
    rng = np.random.default_rng(1)
    for frames in (10, 50, 1, 64, 33):
        x, mu, cond = (rng.standard_normal((frames, MELS)).astype(np.float32) for _ in range(3))
        inputs = (x, TIME, mu, mu[0], cond)
        found = network.run(*inputs, states[0])
        tensors = (reference.to_device(mu), reference.to_device(mu[0]), reference.to_device(cond))
        rows = reference.velocity(reference.to_device(x), TIME, *tensors, states[1])
        expected = np.stack([reference.to_numpy(row) for row in rows])
        assert away(found, expected) < INT8_ERROR
        assert away(other.run(*inputs, states[2]), expected) < INT8_ERROR


def test_convolutions_are_in_eight_bits(folder: Path, config: FlowConfig) -> None:
    """But for those that the result depends on most."""
    if not isinstance(config.velocity, VelocityConfig):
        pytest.skip("a diffusion transformer has none of that kind")
    weights = unet.UNetWeights(read_initializers(folder / VELOCITY_GRAPH), config.velocity)
    down, *others = weights.stages
    inner = [down.conv2, *(conv for stage in others for conv in (stage.conv1, stage.conv2))]
    assert not any(conv.is_exact for conv in inner)
    outer = (down.conv1, weights.down_conv, weights.up_conv, weights.final_conv)
    assert all(conv.is_exact for conv in (*outer, weights.projection))
    assert len(outer) == len(unet.EXACT)


def test_instruction_sets_agree(folder: Path, config: FlowConfig) -> None:
    """Whole numbers are added exactly everywhere; floats differ by their rounding alone."""
    found = []
    for name in instruction_sets():
        network = NativeVelocity(folder, config, Threads(1, name))
        state = network.new_state()
        found.append([run(network, state, seed) for seed in range(3)][-1])
    for other in found[1:]:
        assert away(other, found[0]) < 0.02


def test_threads_change_nothing(folder: Path, config: FlowConfig) -> None:
    found = []
    for count in (1, 2, 5):
        network = NativeVelocity(folder, config, Threads(count))
        state = network.new_state()
        found.append([run(network, state, seed) for seed in range(3)])
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_forks_are_independent(network: NativeVelocity) -> None:
    prefix = network.new_state()
    run(network, prefix, 0)
    one, other = prefix.fork(), prefix.fork()
    run(network, one, 1)
    late = one.fork()
    run(network, one, 2)
    run(network, prefix, 6)
    alone = [run(network, one, 3), run(network, other, 4), run(network, late, 5)]
    for seeds, expected in zip(([0, 1, 2, 3], [0, 4], [0, 1, 5]), alone, strict=True):
        state = network.new_state()
        again = [run(network, state, seed) for seed in seeds][-1]
        np.testing.assert_array_equal(again, expected)


def test_forks_share_memory(network: NativeVelocity) -> None:
    """Whole segments; the one that is still growing belongs to one sequence."""
    prefix = network.new_state()
    run(network, prefix, 0, 70)
    fork = prefix.fork()
    run(network, fork, 1)
    one, other = prefix.arrays(), fork.arrays()
    last = 70 // POSITIONS
    for index in range(last):
        name = f"segment.{index}"
        assert np.shares_memory(one[name], other[name])
    assert not np.shares_memory(one[f"segment.{last}"], other[f"segment.{last}"])
    assert (prefix.length(), fork.length()) == (70, 70 + FRAMES)


def test_memory_of_frames(network: NativeVelocity, config: FlowConfig) -> None:
    """A byte for every key and value and two for a scale; all forks of a prefix hold it once."""
    sizes, features = config.velocity, 64  # of a value, with padding
    layers = sizes.depth if isinstance(sizes, DiTConfig) else 2 * (sizes.num_mid_blocks + 2)
    frame = 2 * layers * sizes.num_heads * (sizes.head_dim + features + 2 * 2)
    prefix = network.new_state()
    run(network, prefix, 0, 70)
    contexts = prefix.contexts.nbytes
    assert prefix.nbytes() == 80 * frame + contexts
    forks = [prefix.fork() for _ in range(3)]
    for seed, fork in enumerate(forks):
        run(network, fork, seed, 20)  # 6 of them where the prefix ends, in a copy
    held = {id(one.memory): one for state in (prefix, *forks) for one in state._segments}
    own = sum(one.memory.bytes.nbytes for one in held.values())
    assert own == (80 + 3 * (16 + 16)) * frame


def test_memory_is_used_again(network: NativeVelocity) -> None:
    def addresses() -> set[int]:
        state = network.new_state()
        for seed in range(20):
            run(network, state, seed)
        held = state.arrays()
        return {held[key].ctypes.data for key in held if key.startswith("segment")}

    first = addresses()
    assert addresses() == first
    assert state_bytes(network) * len(first) < KEEP_BYTES


def state_bytes(network: NativeVelocity) -> int:
    state = network.new_state()
    run(network, state, 0)
    return state.nbytes()


@pytest.mark.parametrize("keep", [0, 5, 64, 70, 500])
def test_trim_forgets_the_first_positions(network: NativeVelocity, keep: int) -> None:
    """What is trimmed has no influence any more, what is kept has all of it."""
    results = []
    for first in (0, 100):
        state = network.new_state()
        for seed in (first, 1, 2, 3):
            run(network, state, seed, 40)
        state.trim(keep)
        assert state.length() == min(keep, 160)
        state.contexts[:] = 0  # convolutions remember two frames whatever is trimmed
        results.append(run(network, state, 9))
    same = away(results[0], results[1]) < 1e-5
    # the first call also changed what later ones made of their frames in deeper layers
    assert not same or keep == 0


def test_stored_state_goes_on_as_before(network: NativeVelocity) -> None:
    state = network.new_state()
    for seed in range(9):
        run(network, state, seed)
    state.trim(75)
    stored = {key: value.copy() for key, value in state.arrays().items()}
    for shift in (0, 4):  # files begin anywhere
        moved = {key: _moved(value, shift) for key, value in stored.items()}
        again = network.restore(moved)
        assert again.length() == 75
        np.testing.assert_array_equal(
            run(network, again.fork(), 20), run(network, state.fork(), 20)
        )
    for key, value in stored.items():
        np.testing.assert_array_equal(moved[key], value)  # only read


def _moved(array: np.ndarray, shift: int) -> np.ndarray:
    memory = np.zeros(array.nbytes + 64 + shift, np.uint8)
    first = -memory.ctypes.data % 64 + shift
    view = memory[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


@pytest.mark.parametrize("damage", ["missing", "short", "bounds", "contexts", "layout"])
def test_states_of_other_models_are_refused(network: NativeVelocity, damage: str) -> None:
    state = network.new_state()
    run(network, state, 0)
    arrays = state.arrays()
    if damage == "missing":
        del arrays["segment.0"]
    elif damage == "short":
        arrays["segment.0"] = arrays["segment.0"][:-1]
    elif damage == "bounds":
        arrays["bounds"] = np.array([[0, POSITIONS + 1]], np.float32)
    elif damage == "layout":
        del arrays["layout"]
    else:
        arrays["contexts"] = arrays["contexts"][:-1]
    with pytest.raises(ModelFormatError, match="does not fit"):
        network.restore(arrays)


def test_endless_sequences_are_refused(network: NativeVelocity) -> None:
    state = network.new_state()
    for _ in range(MOST_SEGMENTS):
        state.extend(POSITIONS)
    with pytest.raises(BackendError, match="too many"):
        state.extend(1)


def test_without_guidance(network: NativeVelocity) -> None:
    """One branch alone gives what it gives beside the other."""
    both, one = network.new_state(), network.new_state(guided=False)
    for seed in range(3):
        rows, alone = run(network, both, seed), run(network, one, seed)
        assert alone.shape == (1, FRAMES, MELS)
        assert away(alone[0], rows[0]) < 1e-6


def test_streamed_equals_whole(network: NativeVelocity, folder: Path, config: FlowConfig) -> None:
    flow = OnnxFlow(folder, velocity=network)
    rng = np.random.default_rng(3)
    tokens = rng.integers(0, config.speech_vocab_size, 42)
    prompt = stage.FlowPrompt(
        rng.standard_normal(24).astype(np.float32),
        rng.integers(0, config.speech_vocab_size, 8),
        rng.standard_normal((16, MELS)).astype(np.float32),
    )
    noise = SeededNoise(MELS)
    whole = stage.decode_whole(flow, config, prompt, tokens, noise)
    prefix = stage.prefix_state(flow, config, prompt, noise)
    for cuts in ([], [1, 2, 3], [20], [7, 33, 41]):
        state = stage.fork(flow, prefix)
        pieces = np.split(tokens, cuts)
        parts = [stage.advance(flow, config, piece, state, final=False) for piece in pieces]
        parts.append(stage.advance(flow, config, tokens[:0], state, final=True))
        np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


def test_obstacles_are_told(flow: Flow, config: FlowConfig, tmp_path: Path) -> None:
    export_flow(flow, tmp_path, "float32")
    assert "eight bits" in str(velocity_obstacle(tmp_path, config))
    wide = config.velocity.model_copy(update={"head_dim": 80})
    other = config.model_copy(update={"velocity": wide})
    assert "heads of 80" in str(velocity_obstacle(tmp_path, other))
    odd = config.model_copy(update={"n_mels": 24})
    assert "24 mels" in str(velocity_obstacle(tmp_path, odd))
    (tmp_path / "flow_time.onnx").unlink()
    assert "traced" in str(velocity_obstacle(tmp_path, config))


def test_other_groups_than_the_kernels_have(tmp_path: Path) -> None:
    few = DIT.velocity.model_copy(update={"conv_groups": 4})
    config = DIT.model_copy(update={"velocity": few})
    assert "groups of 32" in str(velocity_obstacle(tmp_path, config))
