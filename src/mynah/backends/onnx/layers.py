"""Graphs whose attention layers keep keys and values of earlier positions, without copying voices.

Each layer's past comes in three parts: ``shared_<part>.<layer>`` is only read, so that a voice's
prefix is one piece of memory for all its requests; ``old_<part>.<layer>`` is what one sequence
added, and ``own_<part>.<layer>`` the last of it, given back longer as ``new_own_<part>.<layer>``.
Only that last part is copied at every run; it joins the old one when it has become long. No array
is ever written after the run that made it: forking is passing references. Sizes in the file are
numbers, or names: ``8*B`` is eight times the number of guidance branches; S, O and N are the
lengths of the parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from mynah.backends.onnx.graph import (
    RUNTIME_ERRORS,
    AnyArray,
    Graph,
    TensorSpec,
    check_stored,
    first_line,
)
from mynah.errors import BackendError, ModelFormatError

_OWN, _OLD, _SHARED, _CONTEXT = "own_", "old_", "shared_", "context_"
_RECENT = 200
"""Positions that the last part may have before it joins the old one."""
_BRANCHES, _OWN_LENGTH = "B", "N"


@dataclass(eq=False)
class LayeredState:
    """State of one sequence; arrays are replaced, never changed."""

    shared: dict[str, AnyArray]
    """By part: (layers, ...), the time axis as in the graph, one further on."""
    old: dict[str, AnyArray]
    own: dict[str, AnyArray]
    contexts: dict[str, AnyArray]
    time_axes: Mapping[str, int]
    """Of the arrays here, by part."""
    branches: int
    """Guidance branches that are computed."""
    reads_old: bool = True
    """Whether the graph takes the old part; a float32 graph, which joins all, does not."""

    def length(self) -> int:
        """Positions kept."""
        return sum(map(self._length, (self.shared, self.old, self.own)))

    def _length(self, arrays: Mapping[str, AnyArray]) -> int:
        part = next(iter(arrays))
        return int(arrays[part].shape[self.time_axes[part]])

    def fork(self) -> Self:
        """A state that goes on alone; what there is so far is shared and not copied."""
        shared, old, own = dict(self.shared), dict(self.old), dict(self.own)
        if not self._length(shared):
            self._settle()
            shared = dict(self._long)
            own = {part: self._cut(part, rows, 0) for part, rows in own.items()}
            old = dict(own)
        return replace(self, shared=shared, old=old, own=own, contexts=dict(self.contexts))

    @property
    def _long(self) -> dict[str, AnyArray]:
        """Where the sequence's own past is, once it has settled."""
        return self.old if self.reads_old else self.own

    def grow(self, own: dict[str, AnyArray], contexts: dict[str, AnyArray]) -> None:
        """Take over what a run gave back."""
        self.own, self.contexts = own, contexts
        if self._length(own) >= _RECENT:
            self._settle()

    def _settle(self) -> None:
        """Join the last part to the old one."""
        if not self.reads_old or not self._length(self.own):
            return
        for part, rows in self.own.items():
            axis, old = self.time_axes[part], self.old[part]
            self.old[part] = np.concatenate([old, rows], axis=axis) if old.size else rows
            self.own[part] = self._cut(part, rows, 0)

    def trim(self, keep: int, *, own_only: bool = False) -> None:
        """Forget all but the last ``keep`` positions; with ``own_only`` the shared ones stay."""
        self._settle()
        long = self._long
        own = self._length(long)
        for part in long:
            if keep < own:
                long[part] = self._cut(part, long[part], keep)
            if not own_only:
                rest = max(keep - own, 0)
                if rest < self.shared[part].shape[self.time_axes[part]]:
                    self.shared[part] = self._cut(part, self.shared[part], rest)

    def _cut(self, part: str, rows: AnyArray, keep: int) -> AnyArray:
        axis = self.time_axes[part]
        first = rows.shape[axis] - keep
        return np.ascontiguousarray(rows[(slice(None),) * axis + (slice(first, None),)])

    def nbytes(self) -> int:
        """Memory of everything reachable from here, in bytes; forks count shared parts again."""
        parts = (self.shared, self.old, self.own, self.contexts)
        arrays = [array for part in parts for array in part.values()]
        return sum(array.nbytes for array in arrays)

    def arrays(self) -> dict[str, AnyArray]:
        """Everything by name, to be stored; the parts become one."""
        held = {
            part: np.concatenate(
                [self.shared[part], self.old[part], rows], axis=self.time_axes[part]
            )
            for part, rows in self.own.items()
        }
        return {**{f"{_OWN}{part}": rows for part, rows in held.items()}, **self.contexts}


class LayeredGraph(Graph):
    """A graph with layered state; which inputs are state is read from their names."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Load ``path``; see ``Graph``."""
        super().__init__(path, threads, is_long=True)
        names = [name[len(_OWN) :] for name in self.inputs if name.startswith(_OWN)]
        if not names:
            raise ModelFormatError(f"{path} has no layered state; it is another kind of graph")
        self._parts = {name.split(".")[0]: 0 for name in names}
        for name in names:
            self._parts[name.split(".")[0]] += 1
        self._contexts = [name for name in self.inputs if name.startswith(_CONTEXT)]
        self._axes = {part: 1 + self._layer(part).names.index(_OWN_LENGTH) for part in self._parts}
        state = {f"new_{_OWN}{name}" for name in names} | {f"new_{key}" for key in self._contexts}
        self._values = [name for name in self.output_names if name not in state]

    def _layer(self, part: str) -> TensorSpec:
        return self.inputs[f"{_OWN}{part}.0"]

    def new_state(self, branches: int = 1) -> LayeredState:
        """State of a sequence that has read nothing: no past, zero contexts."""
        sizes = {_BRANCHES: branches, _OWN_LENGTH: 0}
        own = {
            part: np.zeros(
                (layers, *_shape(self._layer(part), sizes)), dtype=self._layer(part).dtype
            )
            for part, layers in self._parts.items()
        }
        contexts = {
            key: np.zeros(_shape(self.inputs[key], sizes), dtype=self.inputs[key].dtype)
            for key in self._contexts
        }
        reads_old = any(name.startswith(_OLD) for name in self.inputs)
        return LayeredState(dict(own), dict(own), own, contexts, self._axes, branches, reads_old)

    def restore(self, arrays: Mapping[str, AnyArray], branches: int = 1) -> LayeredState:
        """The state that ``LayeredState.arrays`` was called on; its past is shared.

        Raises:
            ModelFormatError: if the arrays belong to another model.
        """
        state = self.new_state(branches)
        expected = {**{f"{_OWN}{part}": rows for part, rows in state.own.items()}, **state.contexts}
        axes = {f"{_OWN}{part}": axis for part, axis in self._axes.items()}
        check_stored(self.name, arrays, expected, axes)
        state.shared = {part: arrays[f"{_OWN}{part}"] for part in state.own}
        state.contexts = {key: arrays[key] for key in state.contexts}
        return state

    def run_layers(
        self, inputs: Mapping[str, AnyArray], state: LayeredState, rows: int
    ) -> dict[str, AnyArray]:
        """Run on ``rows`` new positions; the state advances. Returns the outputs but the state.

        Raises:
            BackendError: if an input is missing or of a wrong shape, or the run fails.
        """
        binding = self._session.io_binding()
        kept = []  # arrays must live until the run is over
        try:
            for name, value in inputs.items():
                kept.append(np.ascontiguousarray(value, dtype=self.inputs[name].dtype))
                _bind(binding.bind_input, name, kept[-1].reshape(value.shape))
            for key, value in state.contexts.items():
                _bind(binding.bind_input, key, value)
            contexts = {key: np.empty_like(value) for key, value in state.contexts.items()}
            for key, value in contexts.items():
                _bind(binding.bind_output, f"new_{key}", value)
            own = {part: self._longer(part, held, rows) for part, held in state.own.items()}
            for part, layers in self._parts.items():
                for layer in range(layers):
                    name = f"{part}.{layer}"
                    _bind(binding.bind_input, f"{_SHARED}{name}", state.shared[part][layer])
                    if state.reads_old:
                        _bind(binding.bind_input, f"{_OLD}{name}", state.old[part][layer])
                    _bind(binding.bind_input, f"{_OWN}{name}", state.own[part][layer])
                    _bind(binding.bind_output, f"new_{_OWN}{name}", own[part][layer])
            for name in self._values:
                binding.bind_output(name)
            self._session.run_with_iobinding(binding)
            values = binding.get_outputs()
        except RUNTIME_ERRORS as error:
            raise BackendError(f"running {self.name} failed: {first_line(error)}") from error
        state.grow(own, contexts)
        last = values[-len(self._values) :]
        return {name: value.numpy() for name, value in zip(self._values, last, strict=True)}

    def _longer(self, part: str, held: AnyArray, rows: int) -> AnyArray:
        shape = list(held.shape)
        shape[self._axes[part]] += rows
        return np.empty(shape, dtype=held.dtype)


def _shape(spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Sizes of an input, from numbers, names, and products such as ``8*B``."""
    return tuple(
        size if size is not None else _product(name, sizes)
        for size, name in zip(spec.shape, spec.names, strict=True)
    )


def _product(name: str, sizes: Mapping[str, int]) -> int:
    total = 1
    for factor in name.split("*"):
        total *= int(factor) if factor.isdigit() else sizes[factor]
    return total


def _bind(bind: object, name: str, array: AnyArray) -> None:
    """Bind an array's own memory; it must be contiguous and outlive the run."""
    bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)  # type: ignore[operator]
