"""The ONNX graphs of the language model against the torch modules they were exported from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mynah.backends.base import Cursor
from mynah.backends.onnx.language_model import OnnxSpeechLM
from mynah.backends.torch.language_model import TorchSpeechLM
from mynah.export.lm import export_lm
from mynah.pipeline.prompt import build_segments
from tests.lm_models import KINDS, tiny_backends, tiny_config, tiny_module, tiny_prompt

# Measured: 4.8e-7 on these models.
TOLERANCE = 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_text", [1, 9])
def test_same_scores(kind: str, num_text: int, tmp_path: Path) -> None:
    networks = tiny_backends(kind, tmp_path)
    config = tiny_config(kind)
    has_pointer = config.pointer is not None
    segments = build_segments(tiny_prompt(kind, 1, num_text), config)
    logits, states = {}, {}
    for name, network in networks.items():
        cursor = Cursor(0, 0) if has_pointer else None
        logits[name], states[name] = network.prefill(segments, None, cursor)
    np.testing.assert_allclose(logits["onnx"], logits["torch"], rtol=0, atol=TOLERANCE)
    for index in range(70):  # past the first growth of the cache
        token = np.array([index % 50])
        cursors = [Cursor(min(index // 3, num_text - 1), index)] if has_pointer else None
        rows = {n: networks[n].step(token, [states[n]], cursors)[0] for n in networks}
        np.testing.assert_allclose(rows["onnx"], rows["torch"], rtol=0, atol=TOLERANCE)
        if has_pointer:
            moves = {n: networks[n].advance_logits(token, [states[n]]) for n in networks}
            assert moves["onnx"].shape == (1, config.pointer.max_advance + 2)  # type: ignore[union-attr]  # has_pointer
            np.testing.assert_allclose(moves["onnx"], moves["torch"], rtol=0, atol=TOLERANCE)


def test_half_precision_tables_stay_close(tmp_path: Path) -> None:
    module = tiny_module("speaker")
    export_lm(module, tmp_path, "float16")
    segments = build_segments(tiny_prompt("speaker", 2), module.config)
    half, _ = OnnxSpeechLM(tmp_path, module.config, 1).prefill(segments)
    exact, _ = TorchSpeechLM(module).prefill(segments)
    np.testing.assert_allclose(half, exact, rtol=0, atol=5e-3)  # measured: 3.1e-4
