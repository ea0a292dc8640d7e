"""Twin of ``backends/onnx/graph.py`` for torch modules: the same methods, so pipelines agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from mynah.errors import BackendError

_FIRST_CAPACITY = 64


class ModuleState:
    """State tensors of one sequence: growing buffers for ``past_*``, plain tensors otherwise."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy the first values; ``past_*`` tensors are time first."""
        self._buffers: dict[str, Tensor] = {}
        self._lengths: dict[str, int] = {}
        self._tensors: dict[str, Tensor] = {}
        for key, value in tensors.items():
            if key.startswith("past_"):
                capacity = max(_FIRST_CAPACITY, 2 * len(value))  # a fork is about to grow
                self._buffers[key] = value.new_empty((capacity, *value.shape[1:]))
                self._buffers[key][: len(value)] = value
                self._lengths[key] = len(value)
            else:
                self._tensors[key] = value.clone()

    def view(self) -> dict[str, Tensor]:
        """All state tensors, without copying; valid until the next change."""
        past = {key: buffer[: self._lengths[key]] for key, buffer in self._buffers.items()}
        return {**past, **self._tensors}

    def update(self, new: Mapping[str, Tensor]) -> None:
        """Append new rows to ``past_*`` tensors, replace the others."""
        for key, value in new.items():
            if key in self._buffers:
                self._append(key, value)
            else:
                self._tensors[key] = value

    def _append(self, key: str, rows: Tensor) -> None:
        buffer, length = self._buffers[key], self._lengths[key]
        needed = length + len(rows)
        if needed > len(buffer):
            grown = buffer.new_empty((max(needed, 2 * len(buffer)), *buffer.shape[1:]))
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
        buffer[:keep] = buffer[length - keep : length].clone()
        self._lengths[key] = keep

    def fork(self) -> Self:
        """An independent copy."""
        return type(self)(self.view())

    def nbytes(self) -> int:
        """Memory held, in bytes."""
        held = [*self._buffers.values(), *self._tensors.values()]
        return sum(tensor.nbytes for tensor in held)


class CachedModule:
    """A torch module whose forward takes ``state`` and returns ``(output, new)``."""

    def __init__(self, module: nn.Module) -> None:
        """Wrap ``module``; it must have ``initial_state(batch)``."""
        self.module = module

    @torch.inference_mode()
    def new_state(self, batch: int = 1) -> ModuleState:
        """State of a sequence that has read nothing."""
        initial: Any = self.module.initial_state
        return ModuleState(initial(batch))

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, Any], state: ModuleState) -> Any:
        """Run on new positions; the state advances in place. Returns the module's output.

        Raises:
            BackendError: if torch cannot run it (shapes, memory).
        """
        try:
            output, new = self.module(**inputs, state=state.view())
        except RuntimeError as error:
            name = type(self.module).__name__
            raise BackendError(f"running {name} failed: {error}") from error
        state.update(new)
        return output
