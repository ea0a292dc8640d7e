"""ONNX graphs run by ONNX Runtime on the CPU, with or without incremental state.

A stateful graph names its state: every input ``key`` that has an output ``new_key``. Keys that
start with ``past_`` grow along axis 0 (time), and ``new_past_*`` holds only the new rows; every
other state tensor is replaced. Values are not judged here: a NaN passes through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _native

from mynah.backends.processor import X86, Processor, read_processor
from mynah.errors import BackendError, ModelFormatError, ModelNotFoundError

AnyArray = npt.NDArray[Any]

# ONNX Runtime's exceptions have no common base class; missing inputs are a ValueError.
RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    RuntimeError,
    *(c for c in vars(_native).values() if isinstance(c, type) and issubclass(c, Exception)),
)
_DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}
_FIRST_CAPACITY = 64
_TOKEN_KEY = "past_tokens"


@dataclass(frozen=True)
class TensorSpec:
    """Type and shape of a graph input; None = any size."""

    dtype: type[np.generic]
    shape: tuple[int | None, ...]
    names: tuple[str, ...] = ()
    """Of the sizes, "" where they have none."""


class Graph:
    """One ONNX file, ready to run.

    Raises:
        ModelNotFoundError: if there is no such file.
        ModelFormatError: if it is no ONNX graph that this runtime can read.
    """

    def __init__(
        self, path: Path, threads: int = 0, *, is_long: bool = False, spins: bool = False
    ) -> None:
        """Load ``path``; ``threads`` = 0 lets ONNX Runtime choose.

        ``spins``: during a run the threads wait actively for their next share.
        ``is_long`` is for graphs of thousands of short steps: it spins, and it is loaded as it was
        built: the search for fusions is left out where that is right (``optimization``), and the
        planning of memory, whose time grows with the square of the steps (1.8 s of 2.0 s of
        loading; runs are as fast without).
        """
        if not path.is_file():
            raise ModelNotFoundError(
                f"the model file {path} is missing", hint="download or convert the model again"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # every graph has its own threads; waiting ones must not take the cores from the others
        options.add_session_config_entry(
            "session.intra_op.allow_spinning", str(int(spins or is_long))
        )
        # longer than the gaps within a run; without a bound, a busy machine made runs 50 % slower
        options.add_session_config_entry("session.intra_op.spin_duration_us", "50")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if is_long:
            options.enable_mem_reuse = False
        options.graph_optimization_level = optimization(is_long=is_long, processor=_processor())
        # processors that add pairs of eight-bit products in 16 bits take an exact path
        options.add_session_config_entry("session.x64quantprecision", "1")
        # weights stored in eight bits are to become float32 once, not at every run
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.log_severity_level = 4  # errors come as exceptions; stderr belongs to the caller
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except RUNTIME_ERRORS as error:
            raise ModelFormatError(
                f"cannot read the ONNX graph {path}: {first_line(error)}",
                hint="the file is damaged or incomplete; download or convert the model again",
            ) from error
        self.name = path.name
        self.inputs = {i.name: _spec(i, path) for i in self._session.get_inputs()}
        self.output_names: list[str] = [o.name for o in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """Run once; returns every output by name.

        Inputs are converted to the graph's own types (integers and floats alike).

        Raises:
            BackendError: if an input is missing, unknown or of a wrong shape, or the run fails.
        """
        unknown = sorted(set(inputs) - set(self.inputs))
        if unknown:
            raise BackendError(f"{self.name} has no input named {', '.join(unknown)}")
        feeds = {
            name: np.ascontiguousarray(value, dtype=self.inputs[name].dtype).reshape(value.shape)
            for name, value in inputs.items()
        }
        try:
            values = self._session.run(self.output_names, feeds)
        except RUNTIME_ERRORS as error:
            raise BackendError(f"running {self.name} failed: {first_line(error)}") from error
        return dict(zip(self.output_names, values, strict=True))


class GraphState:
    """State tensors of one sequence: growing buffers for ``past_*``, plain arrays otherwise."""

    def __init__(self, arrays: Mapping[str, AnyArray]) -> None:
        """Copy the first values; ``past_*`` arrays are time first."""
        self._buffers: dict[str, AnyArray] = {}
        self._lengths: dict[str, int] = {}
        self._arrays: dict[str, AnyArray] = {}
        for key, value in arrays.items():
            if key.startswith("past_"):
                capacity = max(_FIRST_CAPACITY, 2 * len(value))  # a fork is about to grow
                self._buffers[key] = np.empty((capacity, *value.shape[1:]), dtype=value.dtype)
                self._buffers[key][: len(value)] = value
                self._lengths[key] = len(value)
            else:
                self._arrays[key] = value.copy()

    def view(self) -> dict[str, AnyArray]:
        """All state tensors, without copying; valid until the next change."""
        past = {key: buffer[: self._lengths[key]] for key, buffer in self._buffers.items()}
        return {**past, **self._arrays}

    def update(self, new: Mapping[str, AnyArray]) -> None:
        """Append new rows to ``past_*`` tensors, replace the others."""
        for key, value in new.items():
            if key in self._buffers:
                self._append(key, value)
            else:
                self._arrays[key] = value

    def _append(self, key: str, rows: AnyArray) -> None:
        buffer, length = self._buffers[key], self._lengths[key]
        needed = length + len(rows)
        if needed > len(buffer):
            grown = np.empty((max(needed, 2 * len(buffer)), *buffer.shape[1:]), dtype=buffer.dtype)
            grown[:length] = buffer[:length]
            self._buffers[key] = buffer = grown
        buffer[length:needed] = rows
        self._lengths[key] = needed

    def length(self, key: str) -> int:
        """Rows kept under a ``past_*`` key."""
        return self._lengths[key]

    def trim(self, key: str, keep: int) -> None:
        """Keep only the last ``keep`` rows of a ``past_*`` tensor."""
        length = self._lengths[key]
        if keep >= length:
            return
        buffer = self._buffers[key]
        buffer[:keep] = buffer[length - keep : length].copy()
        self._lengths[key] = keep

    def fork(self) -> Self:
        """An independent copy."""
        return type(self)(self.view())

    def arrays(self) -> dict[str, AnyArray]:
        """Everything by name, to be stored."""
        return self.view()

    def nbytes(self) -> int:
        """Memory held, in bytes."""
        held = [*self._buffers.values(), *self._arrays.values()]
        return sum(array.nbytes for array in held)


class FrameState:
    """State of a network of a flow, which counts in frames."""

    def __init__(self, rows: GraphState, token_mel_ratio: int = 1) -> None:
        """``past_tokens`` has a row for so many frames, the others have one for each."""
        self.rows = rows
        self._ratio = token_mel_ratio

    def fork(self) -> Self:
        """An independent copy."""
        return type(self)(self.rows.fork(), self._ratio)

    def trim(self, keep_frames: int) -> None:
        """Forget all but the last ``keep_frames`` frames."""
        for key in filter(grows, self.rows.view()):
            self.rows.trim(key, keep_frames // (self._ratio if key == _TOKEN_KEY else 1))

    def arrays(self) -> dict[str, AnyArray]:
        """Everything by name, to be stored."""
        return self.rows.arrays()

    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.rows.nbytes()


class CachedGraph(Graph):
    """A graph with incremental state; which tensors are state is read from the graph."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Load ``path``; see ``Graph``."""
        super().__init__(path, threads)
        self.state_keys = [key for key in self.inputs if f"new_{key}" in self.output_names]
        if not self.state_keys:
            raise ModelFormatError(f"{path} has no state inputs; it is another kind of graph")

    def new_state(self, batch: int = 1) -> GraphState:
        """State of a sequence that has read nothing: no past rows, zero contexts."""
        return GraphState({key: self._initial(key, batch) for key in self.state_keys})

    def restore(self, arrays: Mapping[str, AnyArray], batch: int = 1) -> GraphState:
        """The state that ``GraphState.arrays`` was called on.

        Raises:
            ModelFormatError: if the arrays belong to another model.
        """
        expected = self.new_state(batch).view()
        check_stored(self.name, arrays, expected, {key: 0 for key in expected if grows(key)})
        return GraphState({key: arrays[key] for key in expected})

    def _initial(self, key: str, batch: int) -> AnyArray:
        spec = self.inputs[key]
        batch_axis = 1 if key.startswith("past_") else 0
        shape = list(spec.shape)
        if key.startswith("past_"):
            shape[0] = 0
        if shape[batch_axis] is None:
            shape[batch_axis] = batch
        if None in shape:
            raise ModelFormatError(f"{self.name}: state {key} has an unknown size in {spec.shape}")
        return np.zeros([size or 0 for size in shape], dtype=spec.dtype)

    def run(  # type: ignore[override]  # a stateful graph cannot run without its state
        self, inputs: Mapping[str, AnyArray], state: GraphState
    ) -> dict[str, AnyArray]:
        """Run on new positions; the state advances in place. Returns the outputs but the state."""
        outputs = super().run({**inputs, **state.view()})
        state.update({key: outputs.pop(f"new_{key}") for key in self.state_keys})
        return outputs


def grows(key: str) -> bool:
    """Whether a state tensor grows along axis 0."""
    return key.startswith("past_")


def check_stored(
    name: str,
    found: Mapping[str, AnyArray],
    expected: Mapping[str, AnyArray],
    free_axes: Mapping[str, int],
) -> None:
    """Refuse stored arrays that differ from a new state in more than the length of the past.

    Raises:
        ModelFormatError: naming the first array that does not fit.
    """
    for key, like in expected.items():
        array, free = found.get(key), free_axes.get(key)
        if array is not None and array.dtype == like.dtype and array.ndim == like.ndim:
            sizes = enumerate(zip(array.shape, like.shape, strict=True))
            if all(a == b or axis == free for axis, (a, b) in sizes):
                continue
        raise ModelFormatError(
            f"the stored state does not fit {name}: {key} is missing or of another form",
            hint="delete the stored state; it is computed again",
        )


def _spec(tensor: Any, path: Path) -> TensorSpec:
    if tensor.type not in _DTYPES:
        raise ModelFormatError(
            f"{path}: input {tensor.name} has the unsupported type {tensor.type}"
        )
    names = tuple(size if isinstance(size, str) else "" for size in tensor.shape)
    return TensorSpec(_DTYPES[tensor.type], _sizes(tensor.shape), names)


def _sizes(shape: Sequence[object]) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) and size >= 0 else None for size in shape)


def optimization(*, is_long: bool, processor: Processor) -> Any:
    """How far ONNX Runtime may rewrite a graph on a processor.

    A long one is left as it was built, but where products of eight-bit numbers overflow: the exact
    path (``session.x64quantprecision``) is such a rewriting. Without it the embedded flow's mel
    was 13 times as far from float32 (1.8 % against 0.14 %, an emulated processor with AVX2).
    """
    level = onnxruntime.GraphOptimizationLevel
    if not is_long:
        return level.ORT_ENABLE_ALL
    is_exact = processor.known != X86 or processor.has_fast_int8
    return level.ORT_ENABLE_BASIC if is_exact else level.ORT_ENABLE_EXTENDED


@cache
def _processor() -> Processor:
    return read_processor()


def first_line(error: Exception) -> str:
    """What an exception says first; its class where it says nothing."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
