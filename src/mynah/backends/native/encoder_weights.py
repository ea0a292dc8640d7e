"""Weights of the flow's token encoders, from ``flow_encoder.onnx`` to what the kernels read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mynah.backends.composed_flow import ENCODER_GRAPH
from mynah.backends.native.matrices import Matrix, pack_codes, pack_floats
from mynah.backends.native.traced_weights import StoredRows, TracedWeights
from mynah.config import FlowConfig, LookaheadEncoderConfig, TokenEncoderConfig
from mynah.errors import ModelFormatError
from mynah.types import FloatArray

OUTPUT_TAPS, UPSAMPLE_TAPS = 3, 5
"""Of the convolutions that read earlier positions."""
_NETWORK = "network."
_ATTENTION = ("query", "key", "value", "position", "output")
_BIASES = ("content", "position")
_WIDTH_STEP, _WIDEST_ROW = 16, 8192
_HEAD_SIZES = (16, 32, 48, 64)

Norm = tuple[FloatArray, FloatArray]


@dataclass(frozen=True, eq=False)
class Block:
    """A conformer block."""

    norm_attention: Norm
    qkv: Matrix
    content: FloatArray
    position: FloatArray
    output: Matrix
    norm_feed_forward: Norm
    expand: Matrix
    contract: Matrix


@dataclass(frozen=True, eq=False)
class Stack:
    """Blocks at one rate, and the projection of distances of all of them."""

    blocks: tuple[Block, ...]
    distances: Matrix


@dataclass(frozen=True, eq=False)
class InputLayer:
    """A product and a norm, which scales by the root of the width."""

    width: int
    """Of what comes in."""
    linear: Matrix
    norm: Norm


@dataclass(frozen=True, eq=False)
class LookaheadWeights:
    """The two convolutions."""

    ahead: Matrix
    output: Matrix


@dataclass(frozen=True, eq=False)
class ConformerWeights:
    """Everything around them."""

    input: InputLayer
    lookahead: LookaheadWeights
    tokens: Stack
    upsample: Matrix
    up_input: InputLayer
    frames: Stack
    norm: Norm
    projection: Matrix


class EncoderWeights:
    """One encoder's weights; matrices are in eight bits where the graph multiplies so."""

    def __init__(self, folder: Path, config: FlowConfig) -> None:
        """Find them.

        Raises:
            ModelNotFoundError: if the graph is missing.
            ModelFormatError: if it is damaged.
        """
        path = folder / ENCODER_GRAPH
        self._weights = TracedWeights(path, numbered_encoder_names(config))
        self.is_exact = not self._weights.is_dynamic(f"{_NETWORK}lookahead_conv.weight")
        """Whether products are in float32."""

    def missing(self, config: FlowConfig) -> str | None:
        """The first weight that the graph lacks.

        Raises:
            ModelFormatError: if a matrix has another shape than ``config`` says.
        """
        names = (_NETWORK + name for name in _names(config))
        missing = next((name for name in names if name not in self._weights), None)
        if missing is not None:
            return missing
        for name, shape in _shapes(config):
            found = self._weights.shape(_NETWORK + name)
            if found != shape:
                raise ModelFormatError(
                    f"the token encoder has {name} of the shape {found}, "
                    f"the configuration needs {shape}",
                    hint="config.json and the weights belong to different models",
                )
        return None

    def embedding(self) -> StoredRows:
        """Vectors of the tokens."""
        return StoredRows(self._weights, f"{_NETWORK}embedding.weight")

    def lookahead(self, ahead: int) -> LookaheadWeights:
        """``ahead``: tokens after its own that a position sees."""
        return LookaheadWeights(
            self._matrix("lookahead_conv", taps=ahead + 1),
            self._matrix("lookahead_output", taps=OUTPUT_TAPS),
        )

    def conformer(self, sizes: TokenEncoderConfig) -> ConformerWeights:
        """Pack everything; raises ModelFormatError if a weight is missing."""
        return ConformerWeights(
            input=self._input("input", sizes.dim),
            lookahead=self.lookahead(sizes.lookahead_tokens),
            tokens=self._stack("blocks", sizes.num_blocks),
            upsample=self._matrix("upsample", taps=UPSAMPLE_TAPS),
            up_input=self._input("up_input", sizes.dim),
            frames=self._stack("up_blocks", sizes.num_up_blocks),
            norm=self._norm("norm"),
            projection=self._matrix("projection"),
        )

    def _stack(self, name: str, count: int) -> Stack:
        names = [f"{name}.{index}" for index in range(count)]
        positions = [f"{block}.attention.position" for block in names]
        return Stack(
            tuple(self._block(block) for block in names),
            self._matrix(*positions, has_bias=False),
        )

    def _block(self, name: str) -> Block:
        own = f"{name}.attention"
        return Block(
            norm_attention=self._norm(f"{name}.norm_attention"),
            qkv=self._matrix(*(f"{own}.{part}" for part in ("query", "key", "value"))),
            content=self._floats(f"{own}.content_bias"),
            position=self._floats(f"{own}.position_bias"),
            output=self._matrix(f"{own}.output"),
            norm_feed_forward=self._norm(f"{name}.norm_feed_forward"),
            expand=self._matrix(f"{name}.expand"),
            contract=self._matrix(f"{name}.contract"),
        )

    def _input(self, name: str, width: int) -> InputLayer:
        scale = np.float32(np.sqrt(width))
        gain, bias = self._norm(f"{name}.norm")
        inner, _ = self._weights.shape(f"{_NETWORK}{name}.linear.weight")
        return InputLayer(inner, self._matrix(f"{name}.linear"), (gain * scale, bias * scale))

    def _norm(self, name: str) -> Norm:
        return self._floats(f"{name}.weight"), self._floats(f"{name}.bias")

    def _floats(self, name: str) -> FloatArray:
        return self._weights[_NETWORK + name]

    def _matrix(self, *names: str, taps: int = 1, has_bias: bool = True) -> Matrix:
        """One matrix for several products of the same rows; the graph has (inner, outer)."""
        parts = [self._weights.stored(f"{_NETWORK}{name}.weight") for name in names]
        values = np.concatenate([part for part, _ in parts], axis=1)
        found = [np.ones(part.shape[1]) if scale is None else scale for part, scale in parts]
        scales = np.concatenate(found).astype(np.float32)
        biases = [self._floats(f"{name}.bias") for name in names] if has_bias else []
        bias = np.concatenate(biases) if biases else None
        if self.is_exact:
            return pack_floats((values * scales).T, bias=bias, taps=taps)
        return pack_codes(values.T, scales, bias=bias, taps=taps)


def encoder_obstacle(folder: Path, config: FlowConfig) -> str | None:
    """Why the token encoder of a model folder cannot run natively; None if it can.

    Raises:
        ModelNotFoundError: if its graph is missing.
        ModelFormatError: if it is damaged, or does not fit ``config``.
    """
    kind, sizes = config.encoder.kind, config.encoder
    if kind not in _NAMES:
        return f"there are no kernels for the kind {kind!r}"
    widths = _WIDTHS[kind](config, sizes)
    if any(width % _WIDTH_STEP or width > _WIDEST_ROW for width in widths):
        return f"rows of {', '.join(str(width) for width in widths)} fit no vector"
    if isinstance(sizes, TokenEncoderConfig) and sizes.dim // sizes.num_heads not in _HEAD_SIZES:
        return f"heads of {sizes.dim // sizes.num_heads} fit no vector"
    missing = EncoderWeights(folder, config).missing(config)
    return missing and f"its graph has no weight {missing} (convert the model again)"


def numbered_encoder_names(config: FlowConfig) -> dict[str, list[str]]:
    """Operator -> names of the weights that the tracing exporter numbers, in their order."""
    return {"MatMul": [f"{_NETWORK}{name}.weight" for name, _, _ in _products(config)]}


def node_names(config: FlowConfig) -> Iterator[str]:
    """Names of what the products of a traced graph read, in the order of its nodes."""
    for name, _, _ in _products(config):
        yield f"{_NETWORK}{name}.weight"
        if name == "input.linear":  # of the tokens, and of those that follow
            yield f"{_NETWORK}{name}.weight"


Product = tuple[str, int, int]
"""Name of a layer with a matrix, and how many elements go in and come out."""


def _products(config: FlowConfig) -> Iterator[Product]:
    """In the order of the network."""
    return _NAMES[config.encoder.kind](config, config.encoder)


def _lookahead_products(config: FlowConfig, sizes: LookaheadEncoderConfig) -> Iterator[Product]:
    width, channels = config.input_size, sizes.channels
    yield "lookahead_conv", (sizes.lookahead_tokens + 1) * width, channels
    yield "lookahead_output", OUTPUT_TAPS * channels, width


def _conformer_products(config: FlowConfig, sizes: TokenEncoderConfig) -> Iterator[Product]:
    dim = sizes.dim
    yield "input.linear", config.input_size, dim
    yield "lookahead_conv", (sizes.lookahead_tokens + 1) * dim, dim
    yield "lookahead_output", OUTPUT_TAPS * dim, dim
    yield from _block_products("blocks", sizes.num_blocks, sizes)
    yield "upsample", UPSAMPLE_TAPS * dim, dim
    yield "up_input.linear", dim, dim
    yield from _block_products("up_blocks", sizes.num_up_blocks, sizes)
    yield "projection", dim, config.n_mels


def _block_products(stack: str, count: int, sizes: TokenEncoderConfig) -> Iterator[Product]:
    for index in range(count):
        for part in _ATTENTION:
            yield f"{stack}.{index}.attention.{part}", sizes.dim, sizes.dim
        yield f"{stack}.{index}.expand", sizes.dim, sizes.feed_forward
        yield f"{stack}.{index}.contract", sizes.feed_forward, sizes.dim


def _shapes(config: FlowConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Of the matrices, and of the table."""
    yield "embedding.weight", (config.speech_vocab_size, config.input_size)
    for name, inner, outer in _products(config):
        yield f"{name}.weight", (inner, outer)


def _names(config: FlowConfig) -> Iterator[str]:
    """Of everything that is read."""
    yield "embedding.weight"
    for name, _, _ in _products(config):
        yield f"{name}.weight"
        if name.endswith(".position"):
            yield from (name.replace(".position", f".{kind}_bias") for kind in _BIASES)
            block = name.removesuffix(".attention.position")
            yield from _parts(f"{block}.norm_attention", f"{block}.norm_feed_forward")
        else:
            yield f"{name}.bias"
        if name.endswith("input.linear"):
            yield from _parts(name.replace(".linear", ".norm"))
        if name == "projection":
            yield from _parts("norm")


def _parts(*names: str) -> Iterator[str]:
    for name in names:
        yield from (f"{name}.weight", f"{name}.bias")


def _conformer_widths(config: FlowConfig, sizes: TokenEncoderConfig) -> tuple[int, ...]:
    return config.input_size, sizes.dim, sizes.feed_forward, config.n_mels


def _lookahead_widths(config: FlowConfig, sizes: LookaheadEncoderConfig) -> tuple[int, ...]:
    return config.input_size, sizes.channels


_NAMES: Mapping[str, Callable[[FlowConfig, Any], Iterator[Product]]] = {
    "upsample_conformer": _conformer_products,
    "lookahead": _lookahead_products,
}
_WIDTHS: Mapping[str, Callable[[FlowConfig, Any], tuple[int, ...]]] = {
    "upsample_conformer": _conformer_widths,
    "lookahead": _lookahead_widths,
}
