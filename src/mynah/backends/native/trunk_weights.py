"""Weights of a language model's trunk, from its ONNX file to what the kernels read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mynah.backends.native.kernels import Pages
from mynah.backends.native.matrices import Matrix, pack_codes, pack_floats
from mynah.backends.native.onnx_weights import OnnxWeights, read_initializers
from mynah.config import LMConfig
from mynah.errors import ModelFormatError
from mynah.types import FloatArray

BLOCK = 128
"""Weights that share a scale."""
MULTIPLE = 16
"""What the sizes of rows and heads must be multiples of; heads are padded in the file."""

_VARIANT, _INT8 = "mynah.variant", "int8"
_EXACT_VARIANTS = ("float32", "float16", "int8_weights")  # computed in float32
_LARGEST_HEAD = 256
_WIDEST_ROW = 8192


@dataclass(frozen=True)
class TrunkWeights:
    """Everything that a trunk multiplies with, by the names in the file."""

    matrices: Mapping[str, Matrix]
    is_exact: bool
    """Whether matrices are in float32, and not in eight bits."""
    gains: Mapping[str, FloatArray]


def padded_head(config: LMConfig) -> int:
    """Features of a head as they are stored."""
    return -(-config.head_dim // MULTIPLE) * MULTIPLE


def why_not_native(path: Path, config: LMConfig) -> str | None:
    """What keeps the kernels from running a trunk; None if nothing does.

    Raises:
        ModelError: if the file is missing or damaged.
    """
    if config.trunk != "qwen2":
        return f"there are no kernels for the trunk {config.trunk!r}"
    sizes = (config.hidden_size, config.intermediate_size, config.head_dim)
    if any(size % MULTIPLE for size in sizes[:2]) or padded_head(config) > _LARGEST_HEAD:
        return f"width, inner width and head size {sizes} do not suit the kernels"
    if max(sizes[:2]) > _WIDEST_ROW:
        return f"rows of {max(sizes[:2])} are too wide for the kernels"
    weights = read_initializers(path)
    variant, known = weights.metadata.get(_VARIANT), (_INT8, *_EXACT_VARIANTS)
    if variant not in known:
        return f"{path.name} is of the variant {variant}, the kernels take {', '.join(known)}"
    if "speech_head.weight" not in weights:
        return f"{path.name} was written by an earlier version; convert or download it again"
    return None


def read_trunk(path: Path, config: LMConfig, threads: int) -> TrunkWeights:
    """Read and pack everything.

    Raises:
        ModelNotFoundError: if a file is missing.
        ModelFormatError: if it is damaged, lacks a weight, or does not fit ``config``.
    """
    file = read_initializers(path)
    shapes, gains = dict(_matrix_shapes(config)), list(_gain_names(config))
    is_exact = file.metadata.get(_VARIANT) in _EXACT_VARIANTS
    for name, (rows, inner) in shapes.items():
        blocks = -(-inner // BLOCK)
        _check(file, path, f"{name}.weight", (inner, rows) if is_exact else (rows, blocks, BLOCK))
        if not is_exact or f"{name}.scale" in file:
            _check(file, path, f"{name}.scale", (rows if is_exact else rows * blocks,))
        if f"{name}.bias" in file:
            _check(file, path, f"{name}.bias", (rows,))
    for name in gains:
        _check(file, path, name, (config.hidden_size,))

    def packed(name: str) -> Matrix:
        rows, inner = shapes[name]
        values, bias = file[f"{name}.weight"], file.get(f"{name}.bias")
        if not is_exact:
            codes, scales = values.reshape(rows, -1)[:, :inner], file[f"{name}.scale"]
            return pack_codes(codes, scales, block=BLOCK, bias=bias, pages=pages)
        scale = file.get(f"{name}.scale", np.ones(1, dtype=np.float32))
        return pack_floats((values * scale).T, bias=bias, pages=pages)

    pages = Pages()
    with ThreadPoolExecutor(threads) as pool:
        matrices = dict(zip(shapes, pool.map(packed, shapes), strict=True))
    return TrunkWeights(matrices, is_exact, {name: file[name] for name in gains})


def _matrix_shapes(config: LMConfig) -> Iterator[tuple[str, tuple[int, int]]]:
    """Names, columns of the product, and inner sizes."""
    c, head, width = config, padded_head(config), config.hidden_size
    for layer in range(c.num_layers):
        name = f"trunk.layers.{layer}"
        yield f"{name}.attention.qkv", ((c.num_heads + 2 * c.num_kv_heads) * head, width)
        yield f"{name}.attention.output", (width, c.num_heads * head)
        yield f"{name}.feed_forward.gate_up", (2 * c.intermediate_size, width)
        yield f"{name}.feed_forward.down", (width, c.intermediate_size)
    yield "speech_head", (c.head_size, width)


def _gain_names(config: LMConfig) -> Iterator[str]:
    for layer in range(config.num_layers):
        for part in ("attention", "feed_forward"):
            yield f"trunk.layers.{layer}.{part}_norm.weight"
    yield "trunk.norm.weight"


def _check(file: OnnxWeights, path: Path, name: str, shape: tuple[int, ...]) -> None:
    found = file.shape(name) if name in file else None
    if found != shape:
        raise ModelFormatError(
            f"{path} holds {name} of the shape {found}, the configuration needs {shape}",
            hint="config.json and the weights belong to different models",
        )
