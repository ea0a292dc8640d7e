"""The language model's trunk as an ONNX graph, written node by node from plain arrays.

Per layer: one packed query/key/value product, grouped-query attention that rotates, appends to the
cache it is given and reads it in place, one packed gate/up product. Only the last position is
scored. Weights come by the names of ``SpeechLanguageModel``'s state dict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mynah.config import LMConfig
from mynah.export.blocks import BLOCK_SIZE, Array, block_codes, channel_codes
from mynah.export.builder import MICROSOFT, GraphBuilder, Value
from mynah.export.shrink import STORED

LMVariant: TypeAlias = Literal["float32", "float16", "int8", "int8_rows", "int8_weights", "int4"]
"""How matrices are stored, and how they are multiplied:

- ``float32``.
- ``float16``: half the file; float32 once loaded.
- ``int8_weights``: a quarter of the file, one scale per output channel; float32 once loaded.
- ``int8``: one scale per 128 weights, activations in eight bits with one scale per 128 as well.
- ``int8_rows``: one scale per output channel, activations in eight bits with one scale for each
  position. Prompts are read faster than with ``int8``, tokens are made slower.
- ``int4``: one scale per 32 weights, activations in eight bits.

In all of them the numbers of a position depend on no other row of its batch.
"""

ROW_MULTIPLE = "mynah.row_multiple"
"""Metadata key: numbers do not depend on the batch when its size is a multiple of this."""

_HEAD_MULTIPLE = 16  # the attention kernel reads heads in steps of this
_INLINE_BYTES = 1 << 25  # larger graphs keep their weights beside them, where they can be mapped
_SMALLEST_EXTERNAL = 1024
_SMALLEST_HALF = 256
_BITS: Mapping[str, int] = {"int8": 8, "int4": 4}
_ZERO_POINT = 128
_MAX_CODE = 127.0
_TINY = 1e-12

Weights: TypeAlias = Mapping[str, Array]


def write_lm_graph(
    weights: Weights, config: LMConfig, path: Path, variant: LMVariant = "float32"
) -> None:
    """Write the trunk and the speech head.

    Inputs: inputs_embeds (B, T, D); seqlens_k (B,) int32, positions before and with the new ones,
    minus one; total_sequence_length () int32, the largest of those plus one; cos_cache, sin_cache
    (P, head / 2); past_key.N and past_value.N (B, kv heads, S, head). Outputs: logits (B, V) and
    hidden (B, D) of the last position; present_key.N, present_value.N, which share the memory of
    the past. Heads are padded to a multiple of 16. More than one sequence: T is 1.
    """
    graph = _LMGraph(weights, config, variant)
    graph.write()
    model = graph.model()
    # An odd number of rows ends in a kernel that adds up in another order.
    rows = "2" if variant == "int8" else "1"
    helper.set_model_props(model, {STORED: variant, ROW_MULTIPLE: rows})
    _save(model, path)


def _save(model: onnx.ModelProto, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = path.with_name(f"{path.name}.data")
    data.unlink(missing_ok=True)  # it would be appended to
    large = sum(len(weight.raw_data) for weight in model.graph.initializer) > _INLINE_BYTES
    onnx.save(
        model,
        str(path),
        save_as_external_data=large,
        location=data.name,
        size_threshold=_SMALLEST_EXTERNAL,
    )


class _LMGraph(GraphBuilder):
    """Builds one trunk; rows (R, D) stand for all positions of all sequences."""

    def __init__(self, weights: Weights, config: LMConfig, variant: LMVariant) -> None:
        super().__init__()
        self._weights_in = weights
        self._config = config
        self._variant = variant
        self._head = -(-config.head_dim // _HEAD_MULTIPLE) * _HEAD_MULTIPLE
        self._mid_shape: Value = ""

    def write(self) -> None:
        """Add everything."""
        c = self._config
        embeds = self.input("inputs_embeds", ["batch", "time", c.hidden_size])
        self.input("seqlens_k", ["batch"], TensorProto.INT32)
        self.input("total_sequence_length", [], TensorProto.INT32)
        for name in ("cos_cache", "sin_cache"):
            self.input(name, ["positions", self._head // 2])
        batch_time = self.slice(self.op("Shape", embeds), 0, 2)
        self._mid_shape = self.concat(batch_time, self.ints(-1), axis=0)
        x, delta = self.reshape(embeds, -1, c.hidden_size), ""
        for index in range(c.num_layers):
            x, delta = self._layer(x, delta, index)
        _, hidden = self._norm(x, delta, "trunk.norm.weight")
        bias = self._get("speech_head.bias") if c.has_head_bias else None
        logits = self._product(hidden, "speech_head", self._get("speech_head.weight"), bias)
        self.output("logits", logits, ["batch", c.head_size])
        self.output("hidden", hidden, ["batch", c.hidden_size])
        for index in range(c.num_layers):
            for name in ("key", "value"):
                self.output(f"present_{name}.{index}", f"present_{name}.{index}", self._past_shape)

    @property
    def _past_shape(self) -> list[int | str]:
        return ["batch", self._config.num_kv_heads, "capacity", self._head]

    def _layer(self, x: Value, delta: Value, index: int) -> tuple[Value, Value]:
        """Residual rows and what is still to be added to them, before and after a layer."""
        name, c = f"trunk.layers.{index}", self._config
        x, normed = self._norm(x, delta, f"{name}.attention_norm.weight")
        attended = self._attention(normed, f"{name}.attention", index)
        if index == c.num_layers - 1:  # only the last position is scored
            attended = self.op("Gather", attended, self.weight(np.array(-1)), axis=1)
            x = self.op("Reshape", x, self._mid_shape)
            x = self.op("Gather", x, self.weight(np.array(-1)), axis=1)
        else:
            attended = self.reshape(attended, -1, c.num_heads * self._head)
        output = f"{name}.attention.output"
        matrix = self._padded(self._get(f"{output}.weight").T, "value").T
        delta = self._product(attended, output, matrix)
        x, normed = self._norm(x, delta, f"{name}.feed_forward_norm.weight")
        name = f"{name}.feed_forward"
        inner = np.concatenate([self._get(f"{name}.{part}.weight") for part in ("gate", "up")])
        both = self._product(normed, f"{name}.gate_up", inner)
        gate, up = self.ops("Split", both, count=2, axis=-1)
        product = self.op("Mul", self.silu(gate), up)
        return x, self._product(product, f"{name}.down", self._get(f"{name}.down.weight"))

    def _attention(self, rows: Value, name: str, index: int) -> Value:
        """Rows (R, D) -> (B, T, heads * head)."""
        c = self._config
        parts = ("query", "key", "value")
        matrix = [self._padded(self._get(f"{name}.{part}.weight"), part) for part in parts]
        bias = [self._padded(self._get(f"{name}.{part}.bias"), part) for part in parts]
        packed = self._product(rows, f"{name}.qkv", np.concatenate(matrix), np.concatenate(bias))
        past = [f"past_{part}.{index}" for part in ("key", "value")]
        present = [f"present_{part}.{index}" for part in ("key", "value")]
        for part in past:
            self.input(part, self._past_shape)
        return self._named(
            "GroupQueryAttention",
            (f"attended.{index}", *present),
            self.op("Reshape", packed, self._mid_shape),
            "",
            "",
            *past,
            "seqlens_k",
            "total_sequence_length",
            "cos_cache",
            "sin_cache",
            num_heads=c.num_heads,
            kv_num_heads=c.num_kv_heads,
            do_rotary=1,
            scale=c.head_dim**-0.5,
        )

    def _named(
        self, kind: str, outputs: Sequence[Value], *inputs: Value, **attributes: Any
    ) -> Value:
        """Add a node of ONNX Runtime's own kind whose outputs have names; the first of them."""
        made = helper.make_node(kind, inputs, outputs, domain=MICROSOFT, **attributes)
        self._nodes.append(made)
        return outputs[0]

    def _norm(self, x: Value, delta: Value, weight: str) -> tuple[Value, Value]:
        """``x + delta`` and its norm."""
        gain, epsilon = self.weight(self._get(weight), weight), self._config.rms_norm_eps
        if not delta:
            kind = "SimplifiedLayerNormalization"
            return x, self.op(kind, x, gain, axis=-1, epsilon=epsilon)
        made = (f"normed.{weight}", f"sum.{weight}")
        self._named(
            "SkipSimplifiedLayerNormalization",
            (made[0], "", "", made[1]),
            x,
            delta,
            gain,
            epsilon=epsilon,
        )
        return made[1], made[0]

    def _product(self, x: Value, name: str, matrix: Array, bias: Array | None = None) -> Value:
        """Rows (R, K) times matrix (N, K) transposed, plus bias (N,).

        The native backend finds the weights by ``name``, as ``name.weight``, ``.scale``, ``.bias``.
        """
        tail = () if bias is None else (self.weight(bias, f"{name}.bias"),)
        if self._variant in _BITS:
            return self._block_product(x, name, matrix, tail)
        if self._variant == "int8_rows":
            made = self._row_product(x, name, matrix)
        else:
            made = self.op("MatMul", x, self._stored(name, np.ascontiguousarray(matrix.T)))
        return self.op("Add", made, tail[0]) if tail else made

    def _codes(self, name: str, codes: Array, scales: Array) -> tuple[Value, Value]:
        return self.weight(codes, f"{name}.weight"), self.weight(scales, f"{name}.scale")

    def _block_product(self, x: Value, name: str, matrix: Array, tail: Sequence[Value]) -> Value:
        bits = _BITS[self._variant]
        optional = ("", "", *tail) if tail else ()
        return self.op(
            "MatMulNBits",
            x,
            *self._codes(name, *block_codes(matrix, bits)),
            *optional,
            domain=MICROSOFT,
            N=matrix.shape[0],
            K=matrix.shape[1],
            bits=bits,
            block_size=BLOCK_SIZE[bits],
            accuracy_level=4,
        )

    def _row_product(self, x: Value, name: str, matrix: Array) -> Value:
        """Both sides in eight bits; each row of ``x`` has a scale of its own."""
        codes, scale = self._codes(name, *channel_codes(matrix.T))
        largest = self.op("ReduceMax", self.op("Abs", x), axes=[-1], keepdims=1)
        step = self.op("Mul", largest, self.weight(np.array(1 / _MAX_CODE, dtype=np.float32)))
        step = self.op("Max", step, self.weight(np.array(_TINY, dtype=np.float32)))
        flat = self.op("Squeeze", step, self.ints(-1))
        value = numpy_helper.from_array(np.array([_ZERO_POINT], dtype=np.uint8))
        zeros = self.op("ConstantOfShape", self.op("Shape", flat), value=value)
        product = self.op(
            "MatMulIntegerToFloat",
            self.op("QuantizeLinear", x, flat, zeros, axis=0),
            codes,
            self.weight(np.array(1, dtype=np.float32)),
            scale,
            self.weight(np.array(_ZERO_POINT, dtype=np.uint8)),
            domain=MICROSOFT,
        )
        return self.op("Mul", product, step)

    def _stored(self, name: str, matrix: Array) -> Value:
        """A float32 matrix (K, N), in the file as the variant says."""
        if self._variant == "int8_weights":
            return self.op("DequantizeLinear", *self._codes(name, *channel_codes(matrix)), axis=1)
        if self._variant == "float16" and matrix.size >= _SMALLEST_HALF:
            half = self.weight(matrix.astype(np.float16), f"{name}.weight")
            return self.op("Cast", half, to=TensorProto.FLOAT)
        return self.weight(matrix, f"{name}.weight")

    def _padded(self, rows: Array, part: str) -> Array:
        """Rows of all heads, (heads * head_dim, ...) -> (heads * head, ...), zeros where new.

        Both halves of a query or key are lengthened: a feature turns with the one half a head on.
        """
        size, head = self._config.head_dim, self._head
        if size == head:
            return rows
        pieces = 1 if part == "value" else 2
        split = rows.reshape(-1, pieces, size // pieces, *rows.shape[1:])
        extra = [(0, 0)] * split.ndim
        extra[2] = (0, (head - size) // pieces)
        return np.pad(split, extra).reshape(-1, *rows.shape[1:])

    def _get(self, name: str) -> Array:
        found: Any = self._weights_in[name]
        return np.asarray(found, dtype=np.float32)
