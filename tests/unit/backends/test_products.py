"""The two graphs that are written byte by byte, and what they compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from mynah.backends.onnx import products
from mynah.backends.onnx.graph import Graph

ROWS = np.random.default_rng(0).standard_normal((3, 896)).astype(np.float32)
# weights are 0.01; 130 with a zero of 128, and 2, both in hundredths
WRITERS = {"_float32": 0.01, "_int8_blocks": 0.02, "_int8_channels": 0.02}


@pytest.mark.parametrize("name", WRITERS)
def test_they_are_right(tmp_path: Path, name: str) -> None:
    content = getattr(products, name)()
    onnx.checker.check_model(onnx.load_from_string(content))
    (tmp_path / "product.onnx").write_bytes(content)
    (found,) = Graph(tmp_path / "product.onnx", 1).run({"x": ROWS}).values()
    expected = np.repeat(WRITERS[name] * ROWS.sum(1, keepdims=True), 1152, axis=1)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_both_stages_are_timed() -> None:
    found = {one.name: one for one in products.time_products()}
    assert set(found) == {"lm", "flow"}
    for one in found.values():
        assert one.int8_s > 0
        assert one.gain == one.float32_s / one.int8_s
