"""State in blocks: any lengths, forks and trimming in the middle of a block, growth."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from mynah.backends.torch.blocks import BlockPool
from mynah.backends.torch.flow import TorchFlow
from mynah.errors import BackendError
from tests.property.flow_model import CONFIG, KINDS, flow, tokens

TOLERANCE = 1e-5
LENGTHS = ((3, 11, 7), (4, 1, 12), (9, 2, 5))
kinds = pytest.mark.parametrize("kind", KINDS)


def inputs(count: int, length: int, seed: int) -> list[torch.Tensor]:
    """x, mu, speakers and cond of ``count`` streams."""
    rng = np.random.default_rng(seed)
    frames = (count, length, CONFIG.n_mels)
    shapes = (frames, frames, (count, CONFIG.n_mels), frames)
    return [torch.tensor(rng.standard_normal(shape).astype(np.float32)) for shape in shapes]


def step(net: TorchFlow, state: Any, length: int, seed: int) -> np.ndarray:
    x, mu, speaker, cond = (one[0] for one in inputs(1, length, seed))
    return net.to_numpy(net.velocity(x, 0.4, mu, speaker, cond, state)[0])


@kinds
def test_velocities_of_any_lengths_go_on_as_each_alone(kind: str) -> None:
    """Nobody is on the grid of chunks, and whoever got less goes on from its own end."""
    net = TorchFlow(flow(kind))
    together = [net.new_velocity_state() for _ in LENGTHS[0]]
    alone = [net.new_velocity_state() for _ in LENGTHS[0]]
    for number, lengths in enumerate(LENGTHS):
        x, mu, speakers, cond = inputs(3, max(lengths), number)
        made = net.velocity_many(x, 0.4, mu, speakers, cond, lengths, together)
        for row, length in enumerate(lengths):
            own = (x[row, :length], 0.4, mu[row, :length], speakers[row], cond[row, :length])
            wanted = net.velocity(*own, alone[row])
            for ours, theirs in zip(made, wanted, strict=True):
                torch.testing.assert_close(ours[row, :length], theirs, rtol=0, atol=TOLERANCE)


@kinds
def test_encoders_of_any_lengths_go_on_as_each_alone(kind: str) -> None:
    net = TorchFlow(flow(kind))
    together = [net.new_encoder_state() for _ in LENGTHS[0]]
    alone = [net.new_encoder_state() for _ in LENGTHS[0]]
    for number, lengths in enumerate(LENGTHS):
        pieces = [tokens(length, seed=number) for length in lengths]
        aheads = [None, tokens(1, seed=7), tokens(3, seed=8)]
        made = net.encode_many(pieces, aheads, together)
        for row, (piece, ahead) in enumerate(zip(pieces, aheads, strict=True)):
            wanted = net.encode(piece, ahead, alone[row])
            ours = made[row, : len(wanted)]
            torch.testing.assert_close(ours, wanted, rtol=0, atol=TOLERANCE)


@kinds
def test_a_fork_in_the_middle_of_a_block_is_independent(kind: str) -> None:
    net = TorchFlow(flow(kind))
    state, same, other = (net.new_velocity_state() for _ in range(3))
    for one in (state, same, other):
        step(net, one, 13, seed=1)
    fork = net.fork(state)
    for ours, theirs, seed in ((fork, other, 2), (state, same, 3)):
        made, wanted = step(net, ours, 4, seed), step(net, theirs, 4, seed)
        np.testing.assert_allclose(made, wanted, rtol=0, atol=TOLERANCE)


@kinds
def test_what_is_packed_goes_on(kind: str) -> None:
    """Also after forgetting what is in the middle of a block."""
    net = TorchFlow(flow(kind))
    state = net.new_velocity_state()
    step(net, state, 23, seed=1)
    net.trim(state, 8)
    stored = net.pack(state)
    assert stored["past_attention"].shape[:2] == (8, 2)
    again = net.unpack_velocity(stored)
    np.testing.assert_allclose(
        step(net, state, 5, seed=2), step(net, again, 5, seed=2), rtol=0, atol=TOLERANCE
    )


def test_a_pool_grows_while_nobody_reads() -> None:
    pool = BlockPool(torch.zeros(2, 1, 4), num_layers=2, size=3)
    before, grown = pool.layers[0], threading.Event()

    def grow() -> None:
        pool.allocate(50)
        grown.set()

    thread = threading.Thread(target=grow)
    with pool.using():
        thread.start()
        assert not grown.wait(0.05)
        assert pool.layers[0] is before
    thread.join(20)
    assert grown.is_set()
    assert len(pool.layers[0]) == pool.num_blocks * pool.size


def test_blocks_are_used_again_when_the_last_owner_is_gone() -> None:
    pool = BlockPool(torch.zeros(2, 1, 4), num_layers=1, size=3)
    first = pool.allocate(4)
    pool.share(first[:2])
    pool.release(first)
    assert pool.num_used == 2
    second = pool.allocate(2)
    assert set(second) == set(first[2:])
    pool.release(first[:2])
    assert pool.num_used == 2
    blocks = pool.num_blocks
    pool.allocate(2)
    assert pool.num_blocks == blocks


def test_shapes_that_do_not_fit_are_a_typed_error() -> None:
    net = TorchFlow(flow())
    x, mu, speakers, cond = inputs(1, 5, 0)
    with pytest.raises(BackendError, match="UNetVelocity"):
        net.velocity(x[0], 0.4, mu[0, :3], speakers[0], cond[0], net.new_velocity_state())
