"""The token encoders as programs of the native kernels.

Rows are tokens, and frames after the up-sampling; there is one branch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mynah.backends.native.encoder_state import EncoderState
from mynah.backends.native.encoder_weights import (
    OUTPUT_TAPS,
    UPSAMPLE_TAPS,
    Block,
    ConformerWeights,
    InputLayer,
    LookaheadWeights,
    Norm,
    Stack,
)
from mynah.backends.native.kernels import Threads, Words
from mynah.backends.native.matrices import Matrix
from mynah.backends.native.program import FIRST_SLOT, Act, Codes, Program, RelativeHeads, Rows
from mynah.backends.native.relative import Distances, DistanceTable
from mynah.backends.native.segments import SegmentedState
from mynah.config import TokenEncoderConfig
from mynah.types import FloatArray

CONTEXTS, DISTANCES, CACHE = FIRST_SLOT, FIRST_SLOT + 1, FIRST_SLOT + 3
"""Slots: rows that convolutions keep, where the table of distances is, and what
``SegmentedState.extend`` says."""
_BLOCK_EPSILON = 1e-12


class _Layers:
    """Writes layers into a program."""

    def __init__(self, max_rows: int, *, is_exact: bool) -> None:
        self.program = Program(max_rows)
        self._is_exact = is_exact
        self._factors: dict[tuple[int, int], Rows | Codes] = {}

    def factor(self, x: Rows, **options: Any) -> Rows | Codes:
        """x as products take it, normalised or activated before; read by the next step only."""
        if self._is_exact and not options:
            return x
        key = (x.width, x.pad)
        if key not in self._factors:
            exact, codes = self.program.rows, self.program.codes
            self._factors[key] = exact(*key) if self._is_exact else codes(x.width, *key)
        made = self._factors[key]
        target: dict[str, Any] = {"y" if isinstance(made, Rows) else "codes": made}
        self.program.map(x, **options, **target)
        return made

    def product(self, x: Rows, matrix: Matrix, y: Rows, addend: Rows | None = None) -> None:
        """``y = x * matrix + addend``."""
        self.program.product(self.factor(x), matrix, y, addend=addend)

    def normed_product(self, x: Rows, norm: Norm, epsilon: float, matrix: Matrix, y: Rows) -> None:
        """``y = norm(x) * matrix``."""
        normed = self.factor(x, gain=norm[0], bias=norm[1], epsilon=epsilon)
        self.program.product(normed, matrix, y)

    def input(self, x: Rows, layer: InputLayer, y: Rows) -> None:
        """x to rows of the network's width."""
        self.product(x, layer.linear, y)
        gain, bias = layer.norm
        self.program.map(y, gain=gain, bias=bias, y=y)

    def look_ahead(self, known: Rows, weights: LookaheadWeights, y: Rows) -> None:
        """Tokens and those that follow to tokens; see ``mynah.networks.lookahead``."""
        following = Rows(known.memory, known.width, weights.ahead.taps - 1)
        hidden = self.program.rows(weights.ahead.columns, OUTPUT_TAPS - 1)
        self.product(following, weights.ahead, hidden)
        self.program.map(hidden, act=Act.LEAKY, y=hidden)
        self.program.context(hidden, CONTEXTS, 0)
        self.product(hidden, weights.output, y, addend=known)

    def stack(self, x: Rows, stack: Stack, heads: int) -> None:
        """Conformer blocks, in place."""
        width, rows = x.width, self.program.rows
        qkv, attended = rows(3 * width), rows(width)
        expanded = rows(stack.blocks[0].expand.columns) if stack.blocks else x
        for layer, block in enumerate(stack.blocks):
            self.normed_product(x, block.norm_attention, _BLOCK_EPSILON, block.qkv, qkv)
            self.program.relative(qkv, attended, _heads(block, heads, layer))
            self.product(attended, block.output, x, addend=x)
            norm = block.norm_feed_forward
            self.normed_product(x, norm, _BLOCK_EPSILON, block.expand, expanded)
            hidden = self.factor(expanded, act=Act.SILU)
            self.program.product(hidden, block.contract, x, addend=x)


def _heads(block: Block, heads: int, layer: int) -> RelativeHeads:
    return RelativeHeads(heads, layer, block.content, block.position, CACHE, DISTANCES)


class LookaheadSteps:
    """Look ahead, then repeat each token's row."""

    def __init__(
        self,
        weights: LookaheadWeights,
        width: int,
        ratio: int,
        max_tokens: int,
        *,
        is_exact: bool,
    ) -> None:
        """Write the program for up to ``max_tokens`` new tokens."""
        self.max_tokens = max_tokens
        self._ratio = ratio
        reach = max(weights.ahead.taps, OUTPUT_TAPS) - 1
        layers = _Layers(max_tokens + reach, is_exact=is_exact)
        self._program = program = layers.program
        self._known, self._made = program.rows(width), program.rows(width)
        layers.look_ahead(self._known, weights, self._made)

    def run(
        self, embedded: FloatArray, count: int, state: EncoderState, threads: Threads
    ) -> FloatArray:
        """Rows of ``count`` tokens and those that follow to frames (count * ratio, n_mels)."""
        self._known.memory[: len(embedded)] = embedded
        self._known.memory[len(embedded) :] = 0
        self._program.run(threads, _slots(count, state["tokens"]))
        return np.repeat(self._made.memory[:count], self._ratio, axis=0)


class ConformerSteps:
    """Blocks at the token rate, up-sampling, blocks at the frame rate."""

    def __init__(
        self,
        weights: ConformerWeights,
        sizes: TokenEncoderConfig,
        distances: tuple[Distances, Distances],
        ratio: int,
        max_tokens: int,
    ) -> None:
        """Write the programs for up to ``max_tokens`` new tokens."""
        self.max_tokens = max_tokens
        self._ratio, self._distances = ratio, distances
        is_exact = not weights.projection.scales.size
        ahead = max(sizes.lookahead_tokens, OUTPUT_TAPS - 1)
        tokens = _Layers(max_tokens + ahead, is_exact=is_exact)
        self._tokens = program = tokens.program
        self._embedded = program.rows(weights.input.width)
        self._known, self._x = program.rows(sizes.dim), program.rows(sizes.dim)
        tokens.input(self._embedded, weights.input, self._known)
        self._cut = len(program)  # what comes before is computed for the following tokens, too
        tokens.look_ahead(self._known, weights.lookahead, self._x)
        tokens.stack(self._x, weights.tokens, sizes.num_heads)

        left = UPSAMPLE_TAPS - 1
        frames = _Layers(ratio * max_tokens + left, is_exact=is_exact)
        self._frames = program = frames.program
        self._repeated = program.rows(sizes.dim, left)
        hidden, x = program.rows(sizes.dim), program.rows(sizes.dim)
        program.context(self._repeated, CONTEXTS, 0)
        frames.product(self._repeated, weights.upsample, hidden)
        frames.input(hidden, weights.up_input, x)
        frames.stack(x, weights.frames, sizes.num_heads)
        self._mu = program.rows(weights.projection.columns)
        frames.normed_product(x, weights.norm, 1e-5, weights.projection, self._mu)

    def run(
        self, embedded: FloatArray, count: int, state: EncoderState, threads: Threads
    ) -> FloatArray:
        """As of ``LookaheadSteps``."""
        self._embedded.memory[: len(embedded)] = embedded
        known = np.array([len(embedded), 1], dtype=np.int64)
        self._tokens.run(threads, known, stop=self._cut)
        self._known.memory[len(embedded) :] = 0
        slots, table = _attending(count, state["tokens"], self._distances[0])
        self._tokens.run(threads, slots, first=self._cut)
        count *= self._ratio
        left = self._repeated.pad
        self._repeated.memory[left : left + count] = np.repeat(
            self._x.memory[: count // self._ratio], self._ratio, axis=0
        )
        slots, table = _attending(count, state["frames"], self._distances[1])
        self._frames.run(threads, slots)
        del table  # the slots named its memory
        return self._mu.memory[:count].copy()


def _slots(count: int, state: SegmentedState, *more: int) -> Words:
    return np.array([count, 1, state.contexts.ctypes.data, *more], dtype=np.int64)


def _attending(
    count: int, state: SegmentedState, distances: Distances
) -> tuple[Words, DistanceTable]:
    """Slots for new rows, and a table that must be held while they are used."""
    words = state.extend(count)
    table = distances.table(words[0], count)
    return _slots(count, state, *table.words(), *words), table
