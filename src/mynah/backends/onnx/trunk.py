"""The language model's trunk as a graph that keeps its keys and values in place.

Inputs and outputs stay bound to the same arrays from step to step, so that a step moves nothing but
one row in and one row of scores out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from mynah.backends.base import FloatArray
from mynah.backends.onnx.graph import RUNTIME_ERRORS, Graph, first_line
from mynah.backends.onnx.kv_cache import CacheShape, KVBlock, KVCache, KVSequence, Window
from mynah.backends.rotary import rotary_tables
from mynah.config import LMConfig
from mynah.errors import BackendError, ModelFormatError

_ROW_MULTIPLE = "mynah.row_multiple"


@dataclass(frozen=True)
class _Run:
    """A run of the graph with everything bound; arrays are written and read between runs."""

    binding: Any
    inputs_embeds: FloatArray
    seqlens: npt.NDArray[np.int32]
    total: npt.NDArray[np.int32]
    logits: FloatArray
    hidden: FloatArray
    kept: tuple[Any, ...]
    """What else is bound and must not be freed."""


class TrunkGraph(Graph):
    """``lm.onnx``: input vectors in, scores and last hidden states out."""

    def __init__(self, path: Path, config: LMConfig, threads: int = 0) -> None:
        """Load ``path``.

        Raises:
            ModelNotFoundError: if there is no such file.
            ModelFormatError: if it is damaged, of another kind, or does not fit ``config``.
        """
        super().__init__(path, threads, spins=True)
        past = self.inputs.get("past_key.0")
        if past is None or "seqlens_k" not in self.inputs:
            raise ModelFormatError(
                f"{path} is no language model of this version",
                hint="download or convert the model again",
            )
        _, heads, _, head = past.shape
        found = (self.inputs["inputs_embeds"].shape[-1], heads)
        if found != (config.hidden_size, config.num_kv_heads) or head is None:
            raise ModelFormatError(
                f"{path} has width and key heads {found}, the configuration needs "
                f"{(config.hidden_size, config.num_kv_heads)}",
                hint="config.json and the weights belong to different models",
            )
        metadata = self._session.get_modelmeta().custom_metadata_map
        self._config = config
        self._layers = sum(name.startswith("past_key.") for name in self.inputs)
        self._cache = KVCache(
            CacheShape(self._layers, config.num_kv_heads, head), int(metadata[_ROW_MULTIPLE])
        )
        self._head = head
        # what a long prompt took is given back, not kept for the single positions that follow
        self._shrinking = onnxruntime.RunOptions()
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._rotary: dict[int, tuple[FloatArray, FloatArray]] = {}

    def new_sequence(self) -> KVSequence:
        """A sequence that has read nothing."""
        return self._cache.new_sequence()

    def read(self, inputs: FloatArray, sequence: KVSequence) -> tuple[FloatArray, FloatArray]:
        """Append positions (T, D) to a sequence; logits (V,) and hidden (D,) of the last one."""
        window = self._cache.make_room(sequence, len(inputs))
        run = self._bind(window.block, window.first, 1, len(inputs))
        run.inputs_embeds[0] = inputs
        run.seqlens[0] = sequence.length + len(inputs) - 1
        self._execute(run, self._shrinking if len(inputs) > 1 else None)
        sequence.length += len(inputs)
        return run.logits[0], run.hidden[0]

    def step(
        self, inputs: FloatArray, sequences: Sequence[KVSequence]
    ) -> tuple[FloatArray, FloatArray]:
        """Append one position (B, D) to each sequence; logits (B, V) and hidden (B, D)."""
        window = self._cache.gather(sequences)
        run = self._prepared(window)
        rows = [sequence.slot.index - window.first for sequence in sequences]
        run.seqlens[:] = 0  # padding starts over
        run.seqlens[rows] = [sequence.length for sequence in sequences]
        run.inputs_embeds[rows, 0] = inputs
        self._execute(run)
        for sequence in sequences:
            sequence.length += 1
        return run.logits[rows], run.hidden[rows]  # copies

    def _execute(self, run: _Run, options: Any = None) -> None:
        run.total[...] = run.seqlens.max() + 1
        try:
            self._session.run_with_iobinding(run.binding, options)
        except RUNTIME_ERRORS as error:
            raise BackendError(f"running {self.name} failed: {first_line(error)}") from error

    def _prepared(self, window: Window) -> _Run:
        """The run that steps a window; made once, as long as its block lives."""
        block, key = window.block, (window.first, len(window.slots))
        run: _Run | None = block.bindings.get(key)
        if run is None:
            run = block.bindings[key] = self._bind(block, *key, 1)
        return run

    def _bind(self, block: KVBlock, first: int, count: int, time: int) -> _Run:
        config, binding = self._config, self._session.io_binding()
        rotary = self._rotary_tables(block.capacity)
        run = _Run(
            binding=binding,
            inputs_embeds=np.zeros((count, time, config.hidden_size), dtype=np.float32),
            seqlens=np.zeros(count, dtype=np.int32),
            total=np.zeros((), dtype=np.int32),
            logits=np.empty((count, config.head_size), dtype=np.float32),
            hidden=np.empty((count, config.hidden_size), dtype=np.float32),
            kept=rotary,
        )
        _bind(binding.bind_input, "inputs_embeds", run.inputs_embeds)
        _bind(binding.bind_input, "seqlens_k", run.seqlens)
        _bind(binding.bind_input, "total_sequence_length", run.total)
        _bind(binding.bind_input, "cos_cache", rotary[0])
        _bind(binding.bind_input, "sin_cache", rotary[1])
        for layer in range(self._layers):
            for index, part in enumerate(("key", "value")):
                values = block.values[2 * layer + index, first : first + count]
                _bind(binding.bind_input, f"past_{part}.{layer}", values)
                _bind(binding.bind_output, f"present_{part}.{layer}", values)
        _bind(binding.bind_output, "logits", run.logits)
        _bind(binding.bind_output, "hidden", run.hidden)
        return run

    def _rotary_tables(self, positions: int) -> tuple[FloatArray, FloatArray]:
        if positions not in self._rotary:
            self._rotary[positions] = rotary_tables(self._config, positions, self._head)
        return self._rotary[positions]


def _bind(bind: Any, name: str, array: npt.NDArray[Any]) -> None:
    """Bind an array's own memory."""
    bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
