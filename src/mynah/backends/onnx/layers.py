"""Graphs whose attention layers keep keys and values of earlier positions, without copying voices.

Each layer's past comes in two parts: ``shared_<part>.<layer>`` is only read, so that a voice's
prefix is one piece of memory for all its requests, and ``own_<part>.<layer>`` is what one sequence
added, given back longer as ``new_own_<part>.<layer>``. No array is ever written after the run that
made it: forking is passing references. Sizes in the file are numbers, or names: ``8*B`` is eight
times the number of guidance branches; S and N are the lengths of the two parts.
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

_OWN, _SHARED, _CONTEXT = "own_", "shared_", "context_"
_BRANCHES, _OWN_LENGTH = "B", "N"


@dataclass(eq=False)
class LayeredState:
    """State of one sequence; arrays are replaced, never changed."""

    shared: dict[str, AnyArray]
    """By part: (layers, ...), the time axis as in the graph, one further on."""
    own: dict[str, AnyArray]
    contexts: dict[str, AnyArray]
    time_axes: Mapping[str, int]
    """Of the arrays here, by part."""
    branches: int
    """Guidance branches that are computed."""

    def length(self) -> int:
        """Positions kept."""
        return self._length(self.shared) + self._length(self.own)

    def _length(self, arrays: Mapping[str, AnyArray]) -> int:
        part = next(iter(arrays))
        return int(arrays[part].shape[self.time_axes[part]])

    def fork(self) -> Self:
        """A state that goes on alone; what there is so far is shared and not copied."""
        shared, own, contexts = dict(self.shared), dict(self.own), dict(self.contexts)
        if not self._length(shared):
            shared, own = own, {part: self._cut(part, rows, 0) for part, rows in own.items()}
        return replace(self, shared=shared, own=own, contexts=contexts)

    def trim(self, keep: int, *, own_only: bool = False) -> None:
        """Forget all but the last ``keep`` positions; with ``own_only`` the shared ones stay."""
        own = self._length(self.own)
        for part in self.own:
            if keep < own:
                self.own[part] = self._cut(part, self.own[part], keep)
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
        arrays = [*self.shared.values(), *self.own.values(), *self.contexts.values()]
        return sum(array.nbytes for array in arrays)

    def arrays(self) -> dict[str, AnyArray]:
        """Everything by name, to be stored; the two parts become one."""
        held = {
            part: np.concatenate([self.shared[part], rows], axis=self.time_axes[part])
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
        return LayeredState(dict(own), own, contexts, self._axes, branches)

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
                    _bind(binding.bind_input, f"{_OWN}{name}", state.own[part][layer])
                    _bind(binding.bind_output, f"new_{_OWN}{name}", own[part][layer])
            for name in self._values:
                binding.bind_output(name)
            self._session.run_with_iobinding(binding)
            values = binding.get_outputs()
        except RUNTIME_ERRORS as error:
            raise BackendError(f"running {self.name} failed: {first_line(error)}") from error
        state.own, state.contexts = own, contexts
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
