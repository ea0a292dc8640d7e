"""Token encoders on the native kernels, in place of the graph ``flow_encoder.onnx``.

Products are in eight bits where those of the graph are, with a scale for every row; attention is in
float32. The numbers of a position depend on its chunk and on what came before, and on nothing that
is computed beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mynah.backends.base import NO_IDS
from mynah.backends.native.encoder_state import EncoderState, Part
from mynah.backends.native.encoder_steps import ConformerSteps, LookaheadSteps
from mynah.backends.native.encoder_weights import OUTPUT_TAPS, UPSAMPLE_TAPS, EncoderWeights
from mynah.backends.native.kernels import AnyArray, Threads
from mynah.backends.native.relative import Distances, FloatLayout
from mynah.config import FlowConfig, LookaheadEncoderConfig, TokenEncoderConfig
from mynah.types import FloatArray, TokenArray

_LEAST_TOKENS = 32


class _Steps(Protocol):
    """Programs with the buffers that they work on."""

    max_tokens: int

    def run(
        self, embedded: FloatArray, count: int, state: EncoderState, threads: Threads
    ) -> FloatArray: ...


class NativeEncoder:
    """``TokenEncoder`` without ONNX Runtime; ``encoder_obstacle`` tells which ones can be."""

    def __init__(self, folder: Path, config: FlowConfig, threads: Threads) -> None:
        """Read and pack the weights.

        Raises:
            ModelNotFoundError: if the graph is missing.
            ModelFormatError: if it is damaged, or lacks a weight.
        """
        self._threads = threads
        self._ahead = config.encoder.lookahead_tokens
        self._n_mels = config.n_mels
        weights = EncoderWeights(folder, config)
        self._embedding = weights.embedding()
        self._new_steps, self._parts = _KINDS[config.encoder.kind](weights, config, threads)
        self._idle: list[_Steps] = []  # a call takes one

    def new_state(self) -> EncoderState:
        """State of an encoder that has read nothing."""
        return EncoderState.new(self._parts)

    def restore(self, arrays: Mapping[str, AnyArray]) -> EncoderState:
        """A state that was stored.

        Raises:
            ModelFormatError: if the arrays are of another model or backend.
        """
        return EncoderState.restored(self._parts, arrays)

    def encode(
        self, tokens: TokenArray, lookahead: TokenArray | None, state: EncoderState
    ) -> FloatArray:
        """Tokens (T,) to mu (2T, n_mels); the state advances.

        Raises:
            BackendError: if a token has no vector, or the sequence is too long.
        """
        following = NO_IDS if lookahead is None else lookahead[: self._ahead]
        embedded = self._embedding(np.concatenate([tokens, following]))
        if not len(tokens):
            return np.zeros((0, self._n_mels), dtype=np.float32)
        steps = self._take_steps(len(tokens))
        mu = steps.run(embedded, len(tokens), state, self._threads)
        self._idle.append(steps)
        return mu

    def _take_steps(self, tokens: int) -> _Steps:
        """Steps for so many tokens, which no other call uses."""
        try:
            known = self._idle.pop()
        except IndexError:
            known = None
        if known is None or known.max_tokens < tokens:
            room = max(tokens, _LEAST_TOKENS, 2 * known.max_tokens if known else 0)
            known = self._new_steps(room)
        return known


_Made = tuple[Callable[[int], _Steps], Mapping[str, Part]]


def _lookahead(weights: EncoderWeights, config: FlowConfig, threads: Threads) -> _Made:
    sizes: Any = config.encoder  # of this kind, as the table below says
    assert isinstance(sizes, LookaheadEncoderConfig)
    packed, ratio = weights.lookahead(sizes.lookahead_tokens), config.frames_per_token

    def steps(tokens: int) -> _Steps:
        exact = weights.is_exact
        return LookaheadSteps(packed, config.input_size, ratio, tokens, is_exact=exact)

    contexts = (OUTPUT_TAPS - 1) * sizes.channels
    return steps, {"tokens": Part.of(FloatLayout(0, 0, 0, contexts), ratio)}


def _conformer(weights: EncoderWeights, config: FlowConfig, threads: Threads) -> _Made:
    sizes: Any = config.encoder
    assert isinstance(sizes, TokenEncoderConfig)
    packed, ratio = weights.conformer(sizes), config.frames_per_token
    heads, size = sizes.num_heads, sizes.dim // sizes.num_heads
    stacks = packed.tokens, packed.frames
    tokens, frames = (
        Distances(stack.distances, len(stack.blocks), heads, size, threads) for stack in stacks
    )

    def steps(count: int) -> _Steps:
        return ConformerSteps(packed, sizes, (tokens, frames), ratio, count)

    kept = OUTPUT_TAPS - 1, UPSAMPLE_TAPS - 1
    layouts = [
        FloatLayout(len(stack.blocks), heads, size, rows * sizes.dim)
        for stack, rows in zip(stacks, kept, strict=True)
    ]
    return steps, {"tokens": Part.of(layouts[0], ratio), "frames": Part.of(layouts[1], 1)}


_KINDS: Mapping[str, Callable[[EncoderWeights, FlowConfig, Threads], _Made]] = {
    "upsample_conformer": _conformer,
    "lookahead": _lookahead,
}
