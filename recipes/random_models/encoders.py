"""Stand-ins for ``campplus.onnx`` and ``speech_tokenizer_v*.onnx``: same inputs and outputs.

They are small convolutions, much cheaper than the released networks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from recipes.random_models.sizes import SPEAKER_DIM

_BANDS, _LOG_MEL_BANDS = 80, 128
_OPSET = 17


def write_speaker_encoder(path: Path, width: int, seed: int) -> None:
    """Write input (1, T, 80) -> output (1, 192)."""
    rng = np.random.default_rng([seed, 1])
    nodes = [
        helper.make_node("MatMul", ["input", "expand"], ["hidden"]),
        helper.make_node("Tanh", ["hidden"], ["active"]),
        helper.make_node("ReduceMean", ["active"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "project"], ["output"]),
    ]
    weights = {
        "expand": rng.standard_normal((_BANDS, width)) / _BANDS,
        "project": rng.standard_normal((width, SPEAKER_DIM)),
    }
    _write(
        path,
        nodes,
        {key: value.astype(np.float32) for key, value in weights.items()},
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, "frames", _BANDS])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, SPEAKER_DIM])],
    )


def write_speech_tokenizer(path: Path, vocabulary: int, stride: int, width: int, seed: int) -> None:
    """Write feats (1, 128, T), feats_length (1,) -> ids (1, T // stride), int32."""
    rng = np.random.default_rng([seed, 2])
    nodes = [
        helper.make_node("Slice", ["feats", "zero", "feats_length", "time"], ["whole"]),
        helper.make_node(
            "Conv", ["whole", "kernel"], ["hidden"], kernel_shape=[stride], strides=[stride]
        ),
        helper.make_node("Tanh", ["hidden"], ["active"]),
        helper.make_node("Transpose", ["active"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["rows", "codes"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=2, keepdims=0),
        helper.make_node("Cast", ["best"], ["indices"], to=TensorProto.INT32),
    ]
    weights = {
        "kernel": rng.standard_normal((width, _LOG_MEL_BANDS, stride)).astype(np.float32),
        "codes": rng.standard_normal((width, vocabulary)).astype(np.float32),
        "zero": np.zeros(1, np.int32),
        "time": np.full(1, 2, np.int32),
    }
    frames = [1, _LOG_MEL_BANDS, "frames"]
    _write(
        path,
        nodes,
        weights,
        [
            helper.make_tensor_value_info("feats", TensorProto.FLOAT, frames),
            helper.make_tensor_value_info("feats_length", TensorProto.INT32, [1]),
        ],
        [helper.make_tensor_value_info("indices", TensorProto.INT32, [1, "tokens"])],
    )


def _write(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> None:
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
