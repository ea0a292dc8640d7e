"""Incremental state as plain dictionaries: what a network remembers between two calls.

Keys that start with ``past_`` grow along axis 0 (time) and have the shape
(S, B, layers, parts, heads, head_dim), key before value; a network returns only their new rows.
All other keys have the shape (B, frames, channels) and are replaced as a whole.
Nothing is ever stored on a module.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

State: TypeAlias = dict[str, Tensor]

GROWING_PREFIX = "past_"


def grows(name: str) -> bool:
    """Whether the state tensor of that name grows along axis 0."""
    return name.startswith(GROWING_PREFIX)


def merge(state: State, new: State) -> State:
    """State after a call: growing tensors appended along time, all others replaced."""
    merged = dict(state)
    for name, value in new.items():
        merged[name] = torch.cat([state[name], value]) if grows(name) else value
    return merged


def trim(state: State, name: str, keep: int) -> State:
    """State whose growing tensor ``name`` has at most its last ``keep`` rows."""
    rows = state[name]
    return {**state, name: rows[max(rows.shape[0] - keep, 0) :]}


class Tape:
    """Reads a state in layer order during one forward pass and collects the new one.

    Layers that share a state tensor must ask for their part in the same order at every call.
    Without a state (training, whole passes) the past is empty and nothing is collected.
    """

    def __init__(self, state: State | None) -> None:
        """Start reading ``state``; None = remember nothing."""
        self._state = state
        self._cursor: dict[str, int] = {}
        self._new: dict[str, list[Tensor]] = {}

    def pad(self, name: str, x: Tensor, frames: int, channels: int) -> Tensor:
        """Put the last ``frames`` input frames of the call before in front of ``x`` (B, T, C)."""
        if self._state is None:
            return F.pad(x, (0, 0, frames, 0))
        start = self._cursor.get(name, 0)
        self._cursor[name] = start + channels
        padded = torch.cat([self._state[name][:, :, start : start + channels], x], dim=1)
        self._new.setdefault(name, []).append(padded[:, -frames:])
        return padded

    def extend(self, name: str, *parts: Tensor) -> tuple[Tensor, ...]:
        """Key, value (...) of all positions so far, (B, H, S + T, D), from the new (B, T, H, D)."""
        if self._state is None:
            return tuple(part.transpose(1, 2) for part in parts)
        layer = self._cursor.get(name, 0)
        self._cursor[name] = layer + 1
        new = torch.stack(parts, dim=2).transpose(0, 1)
        self._new.setdefault(name, []).append(new)
        rows = torch.cat([self._state[name][:, :, layer], new]).permute(2, 1, 3, 0, 4)
        return tuple(rows[index] for index in range(len(parts)))

    def ended(self, x: Tensor) -> Tensor:
        """Make zero in ``x`` (B, T, C) what lies behind the end of a row; here nothing does."""
        return x

    def count(self, name: str, x: Tensor) -> Tensor | None:
        """Number of positions before ``x`` (B, T, C) as float32 (B, 1, 1); None without a state.

        Unlike the past's length it goes on when the past is trimmed.
        """
        if self._state is None:
            return None
        start = self._state[name]
        self._new[name] = [start + x.shape[1]]
        return start

    def past_length(self, name: str) -> int:
        """Number of positions before this call."""
        return 0 if self._state is None else self._state[name].shape[0]

    def positions(self, name: str, x: Tensor) -> Tensor:
        """Places of ``x`` (B, T, C) behind what is held under ``name``, int64 (B or 1, T)."""
        length = self.past_length(name)
        return torch.arange(length, length + x.shape[1], device=x.device)[None]

    def new(self) -> State:
        """What the network returns beside its output; empty without a state."""
        return {
            name: torch.stack(parts, dim=2) if grows(name) else torch.cat(parts, dim=-1)
            for name, parts in self._new.items()
        }


def open_tape(state: State | Tape | None) -> Tape:
    """Tape of a forward pass: a caller who keeps its state in another way brings its own."""
    return state if isinstance(state, Tape) else Tape(state)
