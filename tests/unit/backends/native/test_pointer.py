"""The pointer of small language models on the native kernels, against its graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from mynah.backends.base import Cursor
from mynah.backends.native.kernels import Threads, instruction_sets
from mynah.backends.native.language_model import why_no_native_lm
from mynah.backends.native.pointer import NativePointer
from mynah.backends.onnx.language_model import OnnxPointer
from mynah.errors import BackendError
from mynah.export.lm import POINTER_ADVANCE_GRAPH, POINTER_FEATURES_GRAPH, export_lm
from mynah.export.shrink import Variant, shrink
from tests.lm_models import tiny_config, tiny_module

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="the kernels were not built")

CONFIG = tiny_config("pointer")


def written(folder: Path, variant: Variant = "float32") -> Path:
    export_lm(tiny_module("pointer"), folder)
    for name in (POINTER_FEATURES_GRAPH, POINTER_ADVANCE_GRAPH):
        shrink(folder / name, variant)
    return folder


@pytest.mark.parametrize(
    ("variant", "tolerance"), [("float32", 1e-5), ("int8_weights", 1e-5), ("int8", 0.1)]
)
def test_as_the_graphs(variant: Variant, tolerance: float, tmp_path: Path) -> None:
    folder = written(tmp_path, variant)
    exact, rng = OnnxPointer(folder, 1), np.random.default_rng(0)
    text = rng.standard_normal((6, CONFIG.hidden_size)).astype(np.float32)
    hidden = rng.standard_normal((4, CONFIG.hidden_size)).astype(np.float32)
    tokens = rng.integers(0, CONFIG.speech_vocab_size, 4)
    for name in instruction_sets():
        pointer = NativePointer(folder, CONFIG, Threads(1, name))
        for position in range(len(text)):
            cursor = Cursor(position, 40 * position)
            expected = exact.features(text, cursor)
            np.testing.assert_allclose(pointer.features(text, cursor), expected, atol=tolerance)
        expected = exact.advance(hidden, tokens)
        assert pointer.advance(hidden, tokens).shape == expected.shape
        np.testing.assert_allclose(pointer.advance(hidden, tokens), expected, atol=tolerance)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    pointer = NativePointer(written(tmp_path), CONFIG, Threads(1))
    text = np.zeros((3, CONFIG.hidden_size), np.float32)
    for position in (-1, 3):
        with pytest.raises(BackendError, match=f"position {position}"):
            pointer.features(text, Cursor(position, 0))
    with pytest.raises(BackendError, match="speech token"):
        pointer.advance(text[:1], np.array([CONFIG.speech_vocab_size]))


def test_unknown_weights_are_an_obstacle(tmp_path: Path) -> None:
    path = written(tmp_path) / POINTER_ADVANCE_GRAPH
    model = onnx.load(str(path))
    for weight in model.graph.initializer:
        weight.name = weight.name.replace("advance.2.bias", "something")
    onnx.save(model, str(path))
    assert "pointer.advance.2.bias" in str(why_no_native_lm(tmp_path, CONFIG))
