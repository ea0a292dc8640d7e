"""Where keys and values of many sequences lie: blocks of equal length in one pool.

A sequence owns a list of blocks and not a buffer of its own, so that

* one gather for each layer reads the keys of any number of sequences, however long each of them is
  (the idea of paged attention, Kwon et al. 2023);
* forks share the blocks that are full: the voice's recording is held once, not once a request;
* nothing is reserved for a length that is never reached, and nothing is copied when one grows.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

NOTHING = 0
"""Block of zeros, read where a sequence has no position. Nobody writes into it."""
TRASH = 1
"""Block that is written where a sequence has no position. Nobody reads it."""


class BlockPool:
    """Keys and values by layer, (positions, parts, heads, head_dim); safe between threads."""

    def __init__(self, like: Tensor, num_layers: int, size: int) -> None:
        """Hold two blocks that nobody owns.

        Args:
            like: gives shape (parts, heads, head_dim), type and device of one position.
            num_layers: of the network.
            size: positions of a block.
        """
        self.size = size
        self.layers = [like.new_zeros(2 * size, *like.shape) for _ in range(num_layers)]
        self._owners = [1, 1]
        self._free: list[int] = []
        # Garbage collection returns blocks from any thread at any moment, so without a lock.
        self._returned: deque[list[int]] = deque()
        self._lock = threading.Lock()
        self._gate = _Gate()

    @property
    def num_blocks(self) -> int:
        """Blocks that there is memory for."""
        return len(self._owners)

    @property
    def num_used(self) -> int:
        """Blocks that somebody owns."""
        with self._lock:
            self._collect()
            return len(self._owners) - len(self._free) - 2

    @property
    def block_nbytes(self) -> int:
        """Bytes of a block in all layers."""
        return sum(layer[: self.size].nbytes for layer in self.layers)

    def using(self) -> AbstractContextManager[None]:
        """Context in which ``layers`` stay where they are; allocate before, not inside."""
        return self._gate.together()

    def allocate(self, count: int) -> list[int]:
        """Blocks for a new owner; what is in them is undefined."""
        if not count:
            return []
        with self._lock:
            self._collect()
            missing = count - len(self._free)
            if missing > 0:
                self._grow(max(missing, len(self._owners) // 2))
            blocks = [self._free.pop() for _ in range(count)]
            for block in blocks:
                self._owners[block] = 1
        return blocks

    def share(self, blocks: Sequence[int]) -> None:
        """Add an owner to blocks, who must not write into them."""
        with self._lock:
            for block in blocks:
                self._owners[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """Take an owner away; a block without one is used again."""
        if blocks:
            self._returned.append(list(blocks))

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Fill blocks with what others hold."""
        if not sources:
            return
        with self.using():
            shape = (-1, self.size, *self.layers[0].shape[1:])
            for layer in self.layers:
                blocks = layer.view(shape)
                blocks[list(targets)] = blocks[list(sources)]

    def _collect(self) -> None:
        while self._returned:
            for block in self._returned.popleft():
                self._owners[block] -= 1
                if not self._owners[block]:
                    self._free.append(block)

    def _grow(self, more: int) -> None:
        """Make room layer by layer, so that only one layer is ever held twice."""
        before = len(self._owners)
        with self._gate.alone():
            for index, layer in enumerate(self.layers):
                grown = layer.new_empty((before + more) * self.size, *layer.shape[1:])
                grown[: before * self.size] = layer[: before * self.size]
                self.layers[index] = grown
        self._owners += [0] * more
        self._free += range(before + more - 1, before - 1, -1)


class _Gate:
    """Many may be inside together, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._is_closed = False

    @contextmanager
    def together(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_closed)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_closed)
            self._is_closed = True
            self._changed.wait_for(lambda: not self._inside)
        try:
            yield
        finally:
            with self._changed:
                self._is_closed = False
                self._changed.notify_all()


def upload(values: npt.NDArray[np.int64], device: torch.device) -> Tensor:
    """Integers on a device, without waiting for what the device is doing."""
    host = torch.from_numpy(values)
    if device.type != "cuda":
        return host.to(device)
    return host.pin_memory().to(device, non_blocking=True)
