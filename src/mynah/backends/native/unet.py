"""The causal U-Net velocity network as a program of the native kernels.

Weights are those of ``flow_velocity.onnx``. What is in eight bits there is in eight bits here, with
a scale for every frame where ONNX Runtime has one for all of them; keys and values have scales of
their own. Convolutions, which are in floats there, are in eight bits here but for ``EXACT``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mynah.backends.native.kernels import AnyArray
from mynah.backends.native.matrices import Matrix
from mynah.backends.native.named_weights import NamedWeights
from mynah.backends.native.program import Act, Codes, Program, Rows
from mynah.backends.native.segments import CACHE, CONTEXTS, TERMS, CacheLayout
from mynah.config import VelocityConfig
from mynah.types import FloatArray

INPUTS = ("x", "mu", "speaker", "cond")
EXACT = ("down.resnet.conv1", "down_conv", "up_conv", "final_conv")
"""Convolutions in float32, like the last projection: the one that reads what is given, and those
that all of a stage goes through, which no other path goes around. These four make an eighth of the
products and most of the error: in eight bits each alone would move the result by 0.2, 0.5, 1.1 and
0.8 %, all others together by 0.6 % (docs/develop/native.md)."""
_LEFT = 2
_KERNEL = 3


@dataclass(frozen=True)
class _Block:
    """A transformer block's weights."""

    norms: tuple[FloatArray, FloatArray, FloatArray, FloatArray]
    qkv: Matrix
    output: Matrix
    expand: Matrix
    contract: Matrix


@dataclass(frozen=True)
class _Stage:
    """A resnet block's weights, and the blocks that follow it."""

    conv1: Matrix
    norm1: tuple[FloatArray, FloatArray]
    conv2: Matrix
    norm2: tuple[FloatArray, FloatArray]
    skip: Matrix
    blocks: tuple[_Block, ...]


class UNetWeights:
    """All matrices of the network, packed."""

    def __init__(self, weights: Mapping[str, AnyArray], sizes: VelocityConfig) -> None:
        """Read them by the names that ``mynah.export.flow_unet`` gives.

        Raises:
            ModelFormatError: if one is missing.
        """
        self.sizes = sizes
        named = NamedWeights(weights)
        names = ["down", *(f"mid.{n}" for n in range(sizes.num_mid_blocks)), "up"]
        self.stages = [_read_stage(named, name, sizes) for name in names]
        self.down_conv, self.up_conv, self.final_conv = (
            _convolution(named, name) for name in ("down_conv", "up_conv", "final_conv")
        )
        self.final_norm = named.norm("final_norm")
        self.projection = named.exact("projection")


def _convolution(named: NamedWeights, name: str) -> Matrix:
    return (named.exact if name in EXACT else named.rounded)(name, _KERNEL)


def _read_stage(named: NamedWeights, name: str, sizes: VelocityConfig) -> _Stage:
    own, count = f"{name}.resnet", sizes.transformers_per_block
    return _Stage(
        conv1=_convolution(named, f"{own}.conv1"),
        norm1=named.norm(f"{own}.norm1"),
        conv2=_convolution(named, f"{own}.conv2"),
        norm2=named.norm(f"{own}.norm2"),
        skip=named.linear(f"{own}.skip"),
        blocks=tuple(_read_block(named, f"{name}.transformers.{n}") for n in range(count)),
    )


def _read_block(named: NamedWeights, name: str) -> _Block:
    first, second = named.norm(f"{name}.norm_attention"), named.norm(f"{name}.norm_feed_forward")
    return _Block(
        norms=(*first, *second),
        qkv=named.linear(*(f"{name}.{part}" for part in ("query", "key", "value"))),
        output=named.linear(f"{name}.output"),
        expand=named.linear(f"{name}.expand"),
        contract=named.linear(f"{name}.contract"),
    )


def cache_layout(sizes: VelocityConfig, n_mels: int) -> CacheLayout:
    """What the network keeps of earlier frames."""
    channels, stages = sizes.channels, sizes.num_mid_blocks + 2
    widths = [4 * n_mels, 2 * channels, *[channels] * (stages - 2)]
    convs = sum(widths) + channels * (stages + 3)  # second convolutions, and those between
    return CacheLayout(
        layers=stages * sizes.transformers_per_block,
        heads=sizes.num_heads,
        size=sizes.head_dim,
        contexts=_LEFT * convs,
    )


class UNetProgram:
    """The steps for up to ``max_frames`` new frames of ``branches`` guidance branches."""

    def __init__(self, weights: UNetWeights, n_mels: int, branches: int, max_frames: int) -> None:
        """Write the program; see ``inputs`` and ``velocity`` for what goes in and comes out."""
        self.weights, self.max_frames = weights, max_frames
        self.program = program = Program(branches * (max_frames + _LEFT))
        sizes = weights.sizes
        channels, inner = sizes.channels, sizes.num_heads * sizes.head_dim
        self.inputs = program.rows(4 * n_mels, _LEFT)
        """What ``INPUTS`` says, of every branch."""
        self._contexts = self._layers = self._resnets = 0
        rows: Callable[[int], Rows] = program.rows
        self._hidden, self._x, self._conv_out = rows(channels), rows(channels), rows(channels)
        self._between = program.rows(channels, _LEFT)
        self._qkv, self._attended = rows(3 * inner), rows(inner)
        self._expanded = rows(4 * channels)
        self._codes: dict[tuple[int, int], Codes] = {}
        self._between_codes = program.codes(channels, channels, _LEFT)
        first, last = program.rows(channels, _LEFT), program.rows(channels, _LEFT)
        joined = program.rows(2 * channels, _LEFT)

        down, *middle, up = weights.stages
        self._stage(self.inputs, down, first)
        program.map(first, y=joined.columns(channels, channels))
        places = [first, last]
        self._conv(first, weights.down_conv, last)
        for stage in middle[:-1]:
            self._stage(places[1], stage, places[0])
            places.reverse()
        self._stage(places[1], middle[-1], joined.columns(0, channels))
        self._stage(joined, up, first)
        self._conv(first, weights.up_conv, last)
        self._conv(last, weights.final_conv, self._hidden)
        self._normed_mish(self._hidden, weights.final_norm, self._x)
        self.velocity = program.rows(n_mels)
        """(branches * frames, n_mels)."""
        program.product(self._x, weights.projection, self.velocity)

    def _stage(self, x: Rows, stage: _Stage, y: Rows) -> None:
        """x with padding -> y."""
        program, hidden = self.program, self._hidden
        codes = self._codes_of(x.width, _LEFT)
        self._context(x)
        program.map(x, codes=codes)
        program.product(x if stage.conv1.is_exact else codes, stage.conv1, hidden)
        shift = (TERMS, self._resnets * hidden.width)
        self._resnets += 1
        self._normed_mish(hidden, stage.norm1, self._between, shift)
        self._conv(self._between, stage.conv2, hidden)
        self._normed_mish(hidden, stage.norm2, self._conv_out)
        program.product(codes, stage.skip, self._x, addend=self._conv_out)
        for block in stage.blocks[:-1]:
            self._block(block, self._x)
        self._block(stage.blocks[-1], y)

    def _block(self, block: _Block, y: Rows) -> None:
        """A transformer block on ``self._x``; the result goes to y."""
        program, x, sizes = self.program, self._x, self.weights.sizes
        narrow = self._codes_of(x.width)
        gain, bias, gain2, bias2 = block.norms
        program.map(x, gain=gain, bias=bias, codes=narrow)
        program.product(narrow, block.qkv, self._qkv)
        program.attend(
            self._qkv,
            self._attended,
            heads=sizes.num_heads,
            size=sizes.head_dim,
            layer=self._layers,
            slot=CACHE,
        )
        self._layers += 1
        attended = self._codes_of(self._attended.width)
        program.map(self._attended, codes=attended)
        program.product(attended, block.output, x, addend=x)
        program.map(x, gain=gain2, bias=bias2, codes=narrow)
        program.product(narrow, block.expand, self._expanded)
        wide = self._codes_of(self._expanded.width)
        program.map(self._expanded, act=Act.GELU, codes=wide)
        program.product(wide, block.contract, y, addend=x)

    def _codes_of(self, width: int, pad: int = 0) -> Codes:
        """The buffer for such rows in eight bits; with padding it is the input of a stage."""
        key = (width, pad)
        if key not in self._codes:
            self._codes[key] = self.program.codes(width, width, pad)
        return self._codes[key]

    def _context(self, x: Rows) -> None:
        self.program.context(x, CONTEXTS, self._contexts)
        self._contexts += _LEFT * x.width

    def _conv(self, x: Rows, matrix: Matrix, y: Rows) -> None:
        self._context(x)
        if matrix.is_exact:
            self.program.product(x, matrix, y)
        else:
            self.program.map(x, codes=self._between_codes)
            self.program.product(self._between_codes, matrix, y)

    def _normed_mish(
        self,
        x: Rows,
        norm: tuple[FloatArray, FloatArray],
        y: Rows,
        shift: tuple[int, int] | None = None,
    ) -> None:
        gain, bias = norm
        self.program.map(x, gain=gain, bias=bias, act=Act.MISH, shift=shift, y=y)
