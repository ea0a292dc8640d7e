"""State in blocks of a shared pool, and a run of a module for many sequences at once.

A batch is ragged on both sides: sequences have seen different numbers of positions, and get
different numbers of new ones. New positions begin in the same column for all of them; pasts are
padded in front, so that a distance of columns is a distance of positions, new positions behind,
where convolutions are causal. Padding reads zeros and is hidden from attention. What one sequence
computes never reaches another one, whatever it is, NaN too.

For each layer of attention the device scatters the new keys and values of all sequences into their
blocks, then gathers all rows; nothing is done for each sequence, and what is on the host (lengths,
lists of blocks) becomes one small table for each run.

Sequences of a batch get what they get alone but for the rounding of other shapes: on a processor
and in float32 mels differed by a few 1e-6; on a graphics card nothing was measured.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mynah.backends.torch.blocks import NOTHING, TRASH, BlockPool, upload
from mynah.errors import BackendError
from mynah.networks.state import State, Tape, grows


@dataclass(eq=False)
class Positions:
    """What one sequence holds under one growing key."""

    pool: BlockPool
    blocks: list[int] = field(default_factory=list)
    """Owned or shared, one after the other; of each place the blocks of all rows of the batch."""
    first: int = 0
    """Positions at the start of the first block that were forgotten."""
    length: int = 0


class PagedState:
    """State of one sequence; ``rows`` of a batch (guidance branches) belong to it."""

    def __init__(self, rows: int, past: dict[str, Positions], contexts: dict[str, Tensor]) -> None:
        """Own the blocks of ``past`` until it is garbage."""
        self.rows = rows
        self.past = past
        self.contexts = contexts
        """Tensors (rows, frames, channels) that every run replaces."""
        for held in past.values():
            weakref.finalize(self, held.pool.release, held.blocks).atexit = False

    def reserve(self, name: str, count: int) -> None:
        """Own blocks for so many more positions."""
        held = self.past[name]
        places = -(-(held.first + held.length + count) // held.pool.size)
        missing = places * self.rows - len(held.blocks)
        held.blocks += held.pool.allocate(max(missing, 0))

    def trim(self, name: str, keep: int) -> None:
        """Forget all but the last ``keep`` positions."""
        held = self.past[name]
        if keep >= held.length:
            return
        held.first += held.length - keep
        held.length = keep
        dropped = held.first // held.pool.size * self.rows
        held.pool.release(held.blocks[:dropped])
        del held.blocks[:dropped]
        held.first %= held.pool.size

    def fork(self) -> PagedState:
        """A copy that goes on independently and shares the blocks that are full."""
        past = {name: self._forked(held) for name, held in self.past.items()}
        return PagedState(self.rows, past, dict(self.contexts))

    def _forked(self, held: Positions) -> Positions:
        pool = held.pool
        full = (held.first + held.length) // pool.size * self.rows
        partly = -(-(held.first + held.length) // pool.size) * self.rows
        own = pool.allocate(partly - full)
        pool.copy(held.blocks[full:partly], own)
        pool.share(held.blocks[:full])
        return Positions(pool, held.blocks[:full] + own, held.first, held.length)

    def tensors(self) -> State:
        """Copies in the form of ``mynah.networks.state``."""
        state = {name: self._joined(held) for name, held in self.past.items()}
        return {**state, **self.contexts}

    def _joined(self, held: Positions) -> Tensor:
        size = held.pool.size
        table = np.array(held.blocks, np.int64).reshape(-1, self.rows)
        at = held.first + np.arange(held.length)
        flat = (table[at // size] * size + at[:, None] % size).ravel()
        with held.pool.using():
            layers = held.pool.layers
            index = upload(flat, layers[0].device)
            rows = torch.stack([layer[index] for layer in layers], dim=1)
        return rows.view(held.length, self.rows, *rows.shape[1:])

    def nbytes(self) -> int:
        """Memory held, in bytes; shared blocks count for each who shares them."""
        size = sum(tensor.nbytes for tensor in self.contexts.values())
        for held in self.past.values():
            size += len(held.blocks) * held.pool.block_nbytes
        return size


class PagedModule:
    """A torch module whose forward takes ``state``, run for any number of sequences at once."""

    def __init__(
        self,
        module: nn.Module,
        scales: Mapping[str, int],
        size: int,
        mask: str = "chunk_mask",
    ) -> None:
        """Wrap a module with ``initial_state(batch)``; it must be on its device.

        Args:
            module: of the network.
            scales: positions under a growing key for one position of the input, if not one.
            size: positions of the input that a block holds.
            mask: argument of the module's forward that hides positions.
        """
        self.module, self._mask = module, mask
        initial = self.empty()
        growing = {name: value for name, value in initial.items() if grows(name)}
        self._scales = {name: scales.get(name, 1) for name in growing}
        self._pools = {
            name: BlockPool(like[0, 0, 0], like.shape[2], size * self._scales[name])
            for name, like in ((n, v.new_zeros(1, *v.shape[1:])) for n, v in growing.items())
        }

    def empty(self, rows: int = 1) -> State:
        """What a sequence that has seen nothing has in the form of ``mynah.networks.state``."""
        initial: Any = self.module.initial_state
        state: State = initial(rows)
        return state

    def new_state(self, rows: int = 1) -> PagedState:
        """State of a sequence that has seen nothing."""
        contexts = {name: value for name, value in self.empty(rows).items() if not grows(name)}
        past = {name: Positions(pool) for name, pool in self._pools.items()}
        return PagedState(rows, past, contexts)

    def state_of(self, tensors: State) -> PagedState:
        """State that holds ``tensors``, in the form of ``mynah.networks.state``."""
        rows = next(value.shape[int(grows(name))] for name, value in tensors.items())
        state = self.new_state(rows)
        for name, value in tensors.items():
            if not grows(name):
                state.contexts[name] = value
            elif len(value):
                state.reserve(name, len(value))
                with self._pools[name].using():
                    view = _View([state], name, [len(value)])
                    for layer in range(value.shape[2]):
                        view.write(layer, value[:, :, layer].transpose(0, 1))
                state.past[name].length = len(value)
        return state

    @torch.inference_mode()
    def run(
        self,
        inputs: Mapping[str, Any],
        states: Sequence[PagedState],
        lengths: Sequence[int],
        ends: Sequence[int] | None = None,
    ) -> Tensor:
        """Run on new positions; the states advance in place.

        Args:
            inputs: of the module, batch first: the first rows of all sequences, then the second.
            states: one for each sequence, all with as many rows.
            lengths: new positions of each sequence; the inputs are as wide as the most.
            ends: where the known input of each sequence ends; None = with its new positions.

        Returns:
            the module's output, undefined behind the end of a row.

        Raises:
            BackendError: if torch cannot run it (shapes, memory).
        """
        try:
            for state, length in zip(states, lengths, strict=True):
                for name, scale in self._scales.items():
                    state.reserve(name, scale * length)
            with ExitStack() as stack:
                for pool in self._pools.values():
                    stack.enter_context(pool.using())
                tape = _PagedTape(states, self._scales, lengths, ends or lengths)
                masks = {} if tape.visible is None else {self._mask: tape.visible}
                output: Tensor = self.module(**inputs, **masks, state=tape)[0]
        except RuntimeError as error:
            name = type(self.module).__name__
            raise BackendError(f"running {name} failed: {error}") from error
        tape.advance()
        return output


class _View:
    """Where a batch reads and writes in the blocks of one key, (rows, columns) positions."""

    def __init__(self, states: Sequence[PagedState], name: str, counts: Sequence[int]) -> None:
        held = [state.past[name] for state in states]
        self._pool = pool = held[0].pool
        rows, device = states[0].rows, pool.layers[0].device
        self.past = max(one.length for one in held)
        """Columns before the new positions."""
        places = max(len(one.blocks) for one in held) // rows
        table = np.full((rows, len(held), 3 + places), NOTHING, np.int64)
        for index, (one, count) in enumerate(zip(held, counts, strict=True)):
            table[:, index, :3] = one.first + one.length, one.length, count
            blocks = np.array(one.blocks, np.int64).reshape(-1, rows).T
            table[:, index, 3 : 3 + blocks.shape[1]] = blocks
        known = upload(table.reshape(rows * len(held), -1), device)
        self.starts = known[:, 1:2]
        """Positions of each row before the new ones, (rows, 1)."""
        columns = torch.arange(-self.past, max(counts), device=device)
        at = known[:, :1] + columns
        place = torch.div(at, pool.size, rounding_mode="floor").clamp(0, places - 1)
        source = known[:, 3:].gather(1, place) * pool.size + at % pool.size
        target = source[:, self.past :]
        self.visible: Tensor | None = None
        """(rows, 1, columns), where there are positions; None = everywhere."""
        if len({one.length for one in held}) > 1 or len(set(counts)) > 1:
            exists = (columns >= -known[:, 1:2]) & (columns < known[:, 2:3])
            self.visible = exists[:, None]
            source = source.where(exists, NOTHING * pool.size)
            target = target.where(exists[:, self.past :], TRASH * pool.size)
        self._shape = tuple(source.shape)
        self._source, self._target = source.flatten(), target.flatten()

    def write(self, layer: int, new: Tensor) -> None:
        """Store keys and values (rows, new positions, parts, heads, head_dim) of one layer."""
        self._pool.layers[layer].index_copy_(0, self._target, new.flatten(0, 1))

    def read(self, layer: int) -> Tensor:
        """Keys and values (rows, columns, parts, heads, head_dim) of one layer."""
        found = self._pool.layers[layer].index_select(0, self._source)
        return found.view(*self._shape, *found.shape[1:])


class _PagedTape(Tape):
    """A tape for a batch of sequences in blocks; see ``Tape``."""

    def __init__(
        self,
        states: Sequence[PagedState],
        scales: Mapping[str, int],
        lengths: Sequence[int],
        ends: Sequence[int],
    ) -> None:
        super().__init__(None)
        self._states, self._scales, self._lengths = states, scales, lengths
        self._rows, self._width = states[0].rows, max(lengths)
        self._views = {
            name: _View(states, name, [scale * length for length in lengths])
            for name, scale in scales.items()
        }
        self._contexts = {
            name: torch.stack([state.contexts[name] for state in states], dim=1).flatten(0, 1)
            for name in states[0].contexts
        }
        self._lasts: dict[tuple[int, int], Tensor] = {}
        self._counted: Tensor | None = None
        self._ends: Tensor | None = None
        if len(set(lengths)) > 1 or len(set(ends)) > 1:
            both = np.array([lengths, ends], np.int64).repeat(self._rows, 0)
            held = [*self._contexts.values(), *(view.starts for view in self._views.values())]
            lengths_then_ends = upload(both.reshape(2, -1), held[0].device)
            self._counted, self._ends = lengths_then_ends.unbind()

    @property
    def visible(self) -> Tensor | None:
        """Mask of the positions that exist, at the rate of the input; None = all do."""
        masks = [view.visible for name, view in self._views.items() if self._scales[name] == 1]
        return masks[0] if masks else None

    def pad(self, name: str, x: Tensor, frames: int, channels: int) -> Tensor:
        start = self._cursor.get(name, 0)
        self._cursor[name] = start + channels
        padded = torch.cat([self._contexts[name][:, :, start : start + channels], x], dim=1)
        last = padded[:, -frames:]
        if len(set(self._lengths)) > 1:
            row = torch.arange(len(x), device=x.device)[:, None]
            last = padded[row, self._last(x.shape[1] // self._width, frames)]
        self._new.setdefault(name, []).append(last)
        return padded

    def _last(self, scale: int, frames: int) -> Tensor:
        """Columns (rows, frames) of the last frames of each row, once it is padded in front."""
        if (scale, frames) not in self._lasts:
            assert self._counted is not None  # rows have different lengths
            after = torch.arange(frames, device=self._counted.device)
            self._lasts[scale, frames] = self._counted[:, None] * scale + after
        return self._lasts[scale, frames]

    def extend(self, name: str, *parts: Tensor) -> tuple[Tensor, ...]:
        layer = self._cursor.get(name, 0)
        self._cursor[name] = layer + 1
        self._views[name].write(layer, torch.stack(parts, dim=2))
        return self._views[name].read(layer).permute(2, 0, 3, 1, 4).unbind()

    def ended(self, x: Tensor) -> Tensor:
        if self._ends is None:
            return x
        columns = torch.arange(x.shape[1], device=x.device)
        return x.where((columns < self._ends[:, None])[..., None], 0.0)

    def count(self, name: str, x: Tensor) -> Tensor | None:
        start = self._contexts[name]
        counted = x.shape[1] if self._counted is None else self._counted[:, None, None]
        self._new[name] = [start + counted]
        return start

    def past_length(self, name: str) -> int:
        return self._views[name].past

    def positions(self, name: str, x: Tensor) -> Tensor:
        return self._views[name].starts + torch.arange(x.shape[1], device=x.device)

    def advance(self) -> None:
        """Let the states hold what the pass has collected."""
        for state, length in zip(self._states, self._lengths, strict=True):
            for name, scale in self._scales.items():
                state.past[name].length += scale * length
        for name, parts in self._new.items():
            joined = torch.cat(parts, dim=-1)
            rows = joined.view(self._rows, len(self._states), *joined.shape[1:])
            for state, own in zip(self._states, rows.unbind(1), strict=True):
                state.contexts[name] = own
