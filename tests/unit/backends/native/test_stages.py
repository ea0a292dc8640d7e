"""Which network runs where, on the embedded model: all natively, or all but the token encoder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from mynah.backends.composed_flow import ENCODER_GRAPH
from mynah.backends.native.stages import machine_obstacle
from mynah.backends.registry import load_backend
from mynah.config import ModelConfig
from mynah.hub import find_model

pytestmark = pytest.mark.skipif(machine_obstacle() is not None, reason="no native kernels here")

SPEAK = """
import sys
from mynah import TTS
assert len(TTS.load("nano").synthesize("Hello.").samples)
sys.exit("onnxruntime" in sys.modules)
"""


def test_speaking_needs_no_onnx_runtime() -> None:
    assert subprocess.run([sys.executable, "-c", SPEAK]).returncode == 0


def test_a_token_encoder_that_only_onnx_runtime_can_run(tmp_path: Path) -> None:
    """The rest of the flow runs natively all the same, and the reason is told."""
    known = find_model("nano", checksums=False).path
    for path in known.iterdir():
        (tmp_path / path.name).symlink_to(path)
    model = onnx.load(str(known / ENCODER_GRAPH))
    renamed = "network.norm.weight"
    for weight in model.graph.initializer:
        weight.name = weight.name.replace(renamed, "other")
    for node in model.graph.node:
        node.input[:] = [name.replace(renamed, "other") for name in node.input]
    (tmp_path / ENCODER_GRAPH).unlink()
    onnx.save(model, str(tmp_path / ENCODER_GRAPH))
    config = ModelConfig.load(known / "config.json")
    mixed, native = (load_backend(folder, config, threads=1) for folder in (tmp_path, known))
    assert mixed.name == native.name == "native"
    assert mixed.splits_guidance
    assert native.splits_guidance
    assert not load_backend(known, config, backend="onnx", threads=1).splits_guidance
    told = f"the token encoder by ONNX Runtime: its graph has no weight {renamed}"
    assert told in mixed.reason
    assert "ONNX Runtime" not in native.reason
    tokens = np.arange(30)
    mu = [
        one.flow.to_numpy(one.flow.encode(tokens, None, one.flow.new_encoder_state()))
        for one in (mixed, native)
    ]
    np.testing.assert_allclose(*mu, atol=1e-4)
