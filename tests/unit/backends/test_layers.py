"""Layered state: forks share the past and never see each other, whatever is stored comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mynah.backends.onnx.layers import LayeredState
from mynah.backends.onnx.velocity import LayeredVelocity
from mynah.errors import BackendError, ModelFormatError, ModelNotFoundError
from mynah.export.flow import export_flow
from tests.property.flow_model import CONFIG, flow

FRAMES = 10


@pytest.fixture(scope="module", params=["float32", "int8"])
def network(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> LayeredVelocity:
    folder = tmp_path_factory.mktemp(request.param)
    export_flow(flow(), folder, request.param)
    return LayeredVelocity(folder, 1, 2)


def run(network: LayeredVelocity, state: LayeredState, seed: int) -> np.ndarray:
    """One call on frames that depend on ``seed``."""
    rng = np.random.default_rng(seed)
    x, mu, cond = (
        rng.standard_normal((FRAMES, CONFIG.n_mels)).astype(np.float32) for _ in range(3)
    )
    return network.run(x, 0.25, mu, mu[0], cond, state)


def test_forks_share_the_past_without_copying(network: LayeredVelocity) -> None:
    prefix = network.new_state()
    run(network, prefix, 0)
    forks = [prefix.fork() for _ in range(2)]
    for fork in forks:
        run(network, fork, 1)
        for part, rows in (prefix.old if prefix.reads_old else prefix.own).items():
            assert np.shares_memory(fork.shared[part], rows)
    assert forks[0].length() == 2 * FRAMES
    assert prefix.length() == FRAMES


def test_forks_are_independent(network: LayeredVelocity) -> None:
    prefix = network.new_state()
    run(network, prefix, 0)
    one, other = prefix.fork(), prefix.fork()
    run(network, one, 1)
    late = one.fork()
    run(network, one, 2)
    alone = [run(network, one, 3), run(network, other, 4), run(network, late, 5)]
    again = []
    for seeds in ([0, 1, 2, 3], [0, 4], [0, 1, 5]):
        state = network.new_state()
        again.append([run(network, state, seed) for seed in seeds][-1])
    for first, second in zip(alone, again, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("keep", [0, 5, FRAMES, FRAMES + 3, 3 * FRAMES])
def test_trim_keeps_the_last_positions(network: LayeredVelocity, keep: int) -> None:
    state = network.new_state()
    run(network, state, 0)
    state = state.fork()
    run(network, state, 1)
    whole = state.arrays()
    state.trim(keep)
    assert state.length() == min(keep, 2 * FRAMES)
    for part, axis in state.time_axes.items():
        held = state.arrays()[f"own_{part}"]
        rows = whole[f"own_{part}"]
        last = np.take(rows, range(rows.shape[axis] - held.shape[axis], rows.shape[axis]), axis)
        np.testing.assert_array_equal(held, last)


def test_trimmed_state_goes_on(network: LayeredVelocity) -> None:
    state = network.new_state()
    run(network, state, 0)
    fork = state.fork()
    fork.trim(4)
    assert np.isfinite(run(network, fork, 1)).all()
    assert fork.length() == 4 + FRAMES
    assert state.length() == FRAMES


def test_own_part_alone_can_be_trimmed(network: LayeredVelocity) -> None:
    prefix = network.new_state()
    run(network, prefix, 0)
    state = prefix.fork()
    run(network, state, 1)
    state.trim(3, own_only=True)
    assert state.length() == FRAMES + 3


def test_stored_state_goes_on_as_before(network: LayeredVelocity) -> None:
    state = network.new_state()
    run(network, state, 0)
    stored = {key: value.copy() for key, value in state.arrays().items()}
    again = network.restore(stored)
    np.testing.assert_array_equal(run(network, again, 1), run(network, state, 1))


@pytest.mark.parametrize("damage", ["missing", "type", "size"])
def test_foreign_state_is_refused(network: LayeredVelocity, damage: str) -> None:
    stored = network.new_state().arrays()
    if damage == "missing":
        del stored["own_k"]
    elif damage == "type":
        stored["own_k"] = stored["own_k"].astype(np.float64)
    else:
        stored["own_k"] = stored["own_k"][:-1]
    with pytest.raises(ModelFormatError, match="own_k"):
        network.restore(stored)


def test_wrong_shapes_are_told(network: LayeredVelocity) -> None:
    x = np.zeros((FRAMES, CONFIG.n_mels + 1), np.float32)
    with pytest.raises(BackendError, match=r"flow_velocity\.onnx"):
        network.run(x, 0.0, x, x[0], x, network.new_state())


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        LayeredVelocity(tmp_path, 1, 2)
