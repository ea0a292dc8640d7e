"""The language model's trunk by mynah's own kernels: input vectors in, scores of the last one out.

Weights and activations are in eight bits, in blocks of 128 with a scale each, as ONNX Runtime has
them, or in float32. Scales of weights, keys and values are kept in half precision; attention is
computed in float32. The numbers of a row depend on nothing that is computed beside it, and not on
the pieces in which a prompt is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mynah.backends.native.kernels import Guard, Threads, Words
from mynah.backends.native.key_values import CacheShape, KeyValues
from mynah.backends.native.program import FIRST_SLOT, Act, CausalHeads, Codes, Program, Rows
from mynah.backends.native.trunk_weights import (
    BLOCK,
    MULTIPLE,
    TrunkWeights,
    padded_head,
    read_trunk,
)
from mynah.backends.rotary import rotary_tables
from mynah.config import LMConfig
from mynah.errors import BackendError
from mynah.types import FloatArray

_MOST_ROWS = 192
_FIRST_POSITIONS = 1024


class NativeTrunk:
    """``lm.onnx`` run by our kernels; ``why_not_native`` tells which ones can be."""

    def __init__(self, path: Path, config: LMConfig, threads: Threads) -> None:
        """Read and pack the weights.

        Raises:
            ModelNotFoundError: if a file is missing.
            ModelFormatError: if it is damaged, lacks a weight, or does not fit ``config``.
        """
        self._config = config
        self._threads = threads
        self._head = padded_head(config)
        self._shape = CacheShape(config.num_layers, config.num_kv_heads, self._head)
        self._rotary = rotary_tables(config, _FIRST_POSITIONS, self._head)
        self._lock = Guard()  # one call at a time works on the buffers
        self._build(read_trunk(path, config, threads.count))

    def new_sequence(self) -> KeyValues:
        """A sequence that has read nothing."""
        return KeyValues(self._shape)

    def read(self, inputs: FloatArray, sequence: KeyValues) -> tuple[FloatArray, FloatArray]:
        """Append positions (T, D) to a sequence; logits (V,) and hidden (D,) of the last one."""
        if not len(inputs):
            raise BackendError("there is nothing to read")
        pieces = np.array_split(inputs, -(-len(inputs) // _MOST_ROWS))
        for index, piece in enumerate(pieces):
            with self._lock:
                count, is_last = len(piece), index + 1 == len(pieces)
                sequence.make_room(count)
                self._x.memory[:count] = piece
                slots = self._slots(count, [sequence], sequence.length)
                self._program.run(self._threads, slots, stop=self._cut)
                sequence.length += count
                if is_last:  # only the last position is scored
                    for rows in (self._x, self._qkv):
                        rows.memory[0] = rows.memory[count - 1]
                    slots = self._slots(1, [sequence], sequence.length - 1)
                    self._program.run(self._threads, slots, first=self._cut)
                    logits, hidden = self._results(1)
        return logits[0], hidden[0]

    def step(
        self, inputs: FloatArray, sequences: Sequence[KeyValues]
    ) -> tuple[FloatArray, FloatArray]:
        """Append one position (B, D) to each sequence; logits (B, V) and hidden (B, D)."""
        found = []
        for first in range(0, len(sequences), _MOST_ROWS):
            part = sequences[first : first + _MOST_ROWS]
            with self._lock:
                for sequence in part:
                    sequence.make_room(1)
                self._x.memory[: len(part)] = inputs[first : first + len(part)]
                self._program.run(self._threads, self._slots(1, part))
                found.append(self._results(len(part)))
                for sequence in part:
                    sequence.length += 1
        if len(found) == 1:
            return found[0]
        logits, hidden = zip(*found, strict=True)
        return np.concatenate(logits), np.concatenate(hidden)

    def _slots(
        self, frames: int, sequences: Sequence[KeyValues], position: int | None = None
    ) -> Words:
        needed = frames + max(sequence.length for sequence in sequences)
        if needed > len(self._rotary[0]):
            self._rotary = rotary_tables(self._config, 2 * needed, self._head)
        words = [frames, len(sequences), *(table.ctypes.data for table in self._rotary)]
        for sequence in sequences:
            words += [sequence.length if position is None else position, sequence.address]
        return np.array(words, dtype=np.int64)

    def _results(self, rows: int) -> tuple[FloatArray, FloatArray]:
        logits = self._logits.memory[:rows, : self._config.head_size]
        return logits.copy(), self._hidden.memory[:rows].copy()

    def _build(self, weights: TrunkWeights) -> None:
        """Write the program."""
        c, program = self._config, Program(_MOST_ROWS)
        width, inner = c.hidden_size, c.num_heads * self._head
        heads = CausalHeads(c.num_heads, c.num_kv_heads, self._head, c.head_dim**-0.5)
        matrices, gains, is_exact = weights.matrices, weights.gains, weights.is_exact

        def factor(size: int) -> Rows | Codes:
            """What is multiplied with matrices."""
            return program.rows(size) if is_exact else program.codes(size, BLOCK)

        self._x = x = program.rows(width)
        self._qkv = qkv = program.rows(inner + 2 * c.num_kv_heads * self._head)
        self._hidden = program.rows(width)
        attended, gates = program.rows(inner), program.rows(2 * c.intermediate_size)
        normed, product = factor(width), factor(c.intermediate_size)
        heard = attended if is_exact else factor(inner)

        def norm(name: str) -> None:
            program.map(x, gain=gains[name], epsilon=c.rms_norm_eps, **_target(normed))

        for layer in range(c.num_layers):
            name = f"trunk.layers.{layer}"
            norm(f"{name}.attention_norm.weight")
            program.product(normed, matrices[f"{name}.attention.qkv"], qkv)
            program.append(qkv, heads, layer=layer, slot=FIRST_SLOT)
            if layer == c.num_layers - 1:
                self._cut = len(program)  # from here on, rows but the last need not be known
            program.causal(qkv, attended, heads, layer=layer, slot=FIRST_SLOT)
            if not is_exact:
                program.map(attended, **_target(heard))
            program.product(heard, matrices[f"{name}.attention.output"], x, addend=x)
            norm(f"{name}.feed_forward_norm.weight")
            program.product(normed, matrices[f"{name}.feed_forward.gate_up"], gates)
            program.map(gates, act=Act.SILU_GATE, **_target(product))
            program.product(product, matrices[f"{name}.feed_forward.down"], x, addend=x)
        gain = gains["trunk.norm.weight"]
        program.map(x, gain=gain, epsilon=c.rms_norm_eps, y=self._hidden)
        if not is_exact:
            program.map(self._hidden, **_target(normed))
        self._logits = program.rows(-(-c.head_size // MULTIPLE) * MULTIPLE)
        head = self._hidden if is_exact else normed
        program.product(head, matrices["speech_head"], self._logits)
        self._program = program


def _target(result: Rows | Codes) -> dict[str, Any]:
    return {"codes" if isinstance(result, Codes) else "y": result}
