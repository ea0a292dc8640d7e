"""The diffusion transformer velocity network as a program of the native kernels.

Weights are those of ``flow_velocity.onnx``, numbers as in ``unet``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mynah.backends.native.kernels import TILE, AnyArray
from mynah.backends.native.matrices import Matrix, pack_floats
from mynah.backends.native.named_weights import NamedWeights
from mynah.backends.native.program import Act, Codes, Program, Rows
from mynah.backends.native.segments import CACHE, CONTEXTS, ROTATION, TERMS, CacheLayout
from mynah.config import DiTConfig

INPUTS = ("x", "cond", "mu", "speaker")
_EPSILON = 1e-6
_TERMS_PER_BLOCK = 6


@dataclass(frozen=True)
class _Block:
    """A transformer block's weights."""

    qkv: Matrix
    output: Matrix
    expand: Matrix
    contract: Matrix


class DiTWeights:
    """All matrices of the network, packed."""

    def __init__(self, weights: Mapping[str, AnyArray], sizes: DiTConfig) -> None:
        """Read them by the names that ``mynah.export.flow_dit`` gives.

        Raises:
            ModelFormatError: if one is missing.
        """
        self.sizes = sizes
        named = NamedWeights(weights)
        self.input = named.linear("input")
        self.convs = [_grouped(named, f"positions.conv{n}", sizes.conv_kernel) for n in (1, 2)]
        self.blocks = [_read_block(named, f"blocks.{n}") for n in range(sizes.depth)]
        self.projection = named.exact("projection")


def _grouped(named: NamedWeights, name: str, taps: int) -> Matrix:
    """Stored (columns, elements of a group, taps); a tile of columns is a group."""
    weight = named.floats(f"{name}.weight").transpose(0, 2, 1)
    bias = named.floats(f"{name}.bias")
    return pack_floats(weight.reshape(len(weight), -1), bias=bias, taps=taps)


def _read_block(named: NamedWeights, name: str) -> _Block:
    return _Block(
        qkv=named.linear(*(f"{name}.{part}" for part in ("query", "key", "value"))),
        output=named.linear(f"{name}.output"),
        expand=named.linear(f"{name}.expand"),
        contract=named.linear(f"{name}.contract"),
    )


def cache_layout(sizes: DiTConfig) -> CacheLayout:
    """What the network keeps of earlier frames."""
    return CacheLayout(
        layers=sizes.depth,
        heads=sizes.num_heads,
        size=sizes.head_dim,
        contexts=2 * (sizes.conv_kernel - 1) * sizes.dim,
    )


class DiTProgram:
    """The steps for up to ``max_frames`` new frames of ``branches`` guidance branches."""

    def __init__(self, weights: DiTWeights, n_mels: int, branches: int, max_frames: int) -> None:
        """Write the program; see ``inputs`` and ``velocity`` for what goes in and comes out."""
        self.weights, self.max_frames = weights, max_frames
        sizes, left = weights.sizes, weights.sizes.conv_kernel - 1
        self.program = program = Program(branches * (max_frames + left))
        width, inner = sizes.dim, sizes.num_heads * sizes.head_dim
        self.inputs = program.rows(4 * n_mels)
        """What ``INPUTS`` says, of every branch."""
        self._codes: dict[int, Codes] = {}
        self._x, self._changed = program.rows(width), program.rows(width)
        self._qkv, self._attended = program.rows(3 * inner), program.rows(inner)
        self._expanded = program.rows(sizes.feed_forward_factor * width)
        first, second = program.rows(width, left), program.rows(width, left)
        self._product(self.inputs, weights.input, first)
        self._conv(first, weights.convs[0], 0)
        program.map(self._changed, act=Act.MISH, y=second)
        self._conv(second, weights.convs[1], left * width)
        program.map(self._changed, act=Act.MISH, y=self._changed)
        program.map(first, addend=self._changed, y=self._x)
        for index, block in enumerate(weights.blocks):
            self._block(block, index)
        last = _TERMS_PER_BLOCK * sizes.depth * width
        program.map(self._x, norm=(TERMS, last), epsilon=_EPSILON, y=self._changed)
        self.velocity = program.rows(n_mels)
        """(branches * frames, n_mels)."""
        program.product(self._changed, weights.projection, self.velocity)

    def _block(self, block: _Block, index: int) -> None:
        program, x, sizes = self.program, self._x, self.weights.sizes
        inner = sizes.num_heads * sizes.head_dim
        terms = [(TERMS, (_TERMS_PER_BLOCK * index + n) * x.width) for n in range(_TERMS_PER_BLOCK)]
        codes = self._codes_of(x.width)
        program.map(x, norm=terms[0], epsilon=_EPSILON, codes=codes)
        program.product(codes, block.qkv, self._qkv)
        program.rotate(self._qkv, width=inner, size=sizes.head_dim, slot=ROTATION)
        program.attend(
            self._qkv,
            self._attended,
            heads=sizes.num_heads,
            size=sizes.head_dim,
            layer=index,
            slot=CACHE,
        )
        self._product(self._attended, block.output, x, gate=terms[2])
        program.map(x, norm=terms[3], epsilon=_EPSILON, codes=codes)
        program.product(codes, block.expand, self._expanded)
        self._product(self._expanded, block.contract, x, act=Act.GELU_TANH, gate=terms[5])

    def _product(
        self,
        x: Rows,
        matrix: Matrix,
        y: Rows,
        *,
        act: Act = Act.NONE,
        gate: tuple[int, int] | None = None,
    ) -> None:
        """Product in eight bits; with a gate it is added to y."""
        codes = self._codes_of(x.width)
        self.program.map(x, act=act, codes=codes)
        self.program.product(codes, matrix, y, gate=gate, addend=y if gate else None)

    def _codes_of(self, width: int) -> Codes:
        """The buffer for rows of that width in eight bits; it is read by the next step only."""
        if width not in self._codes:
            self._codes[width] = self.program.codes(width, width)
        return self._codes[width]

    def _conv(self, x: Rows, matrix: Matrix, offset: int) -> None:
        self.program.context(x, CONTEXTS, offset)
        self.program.product(x, matrix, self._changed, group=TILE)
