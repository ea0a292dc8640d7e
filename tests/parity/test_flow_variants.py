"""The flow in every variant against torch: what eight bits cost. Streaming costs nothing."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from mynah.backends.onnx.flow import OnnxFlow
from mynah.backends.torch.flow import TorchFlow
from mynah.errors import ModelFormatError
from mynah.export.flow import export_flow
from mynah.export.shrink import Variant, shrink
from mynah.pipeline.flow import advance, decode_whole, fork, prefix_state
from mynah.pipeline.flow_prefix import load_prefix, save_prefix
from mynah.types import FloatArray
from tests.property.flow_model import CHUNK, CONFIG, NOISE, flow, prompt, tokens

# Largest difference of mels with a standard deviation of 2; measured: 2e-6, 0.0036, 0.054, 0.12.
TOLERANCES: dict[Variant, float] = {
    "float32": 1e-5,
    "float16": 0.02,
    "int8_weights": 0.15,
    "int8": 0.4,
}
variants = pytest.mark.parametrize("variant", TOLERANCES)


@cache
def network(variant: Variant) -> OnnxFlow:
    with TemporaryDirectory() as name:
        folder = Path(name)
        export_flow(flow(), folder, variant)
        for path in folder.glob("*.onnx"):
            shrink(path, variant)
        return OnnxFlow(folder, threads=1)


@cache
def reference() -> FloatArray:
    return decode_whole(TorchFlow(flow()), CONFIG, prompt(2 * CHUNK), tokens(33), NOISE)


@variants
def test_mel(variant: Variant) -> None:
    mel = decode_whole(network(variant), CONFIG, prompt(2 * CHUNK), tokens(33), NOISE)
    np.testing.assert_allclose(mel, reference(), rtol=0, atol=TOLERANCES[variant])


@variants
@pytest.mark.parametrize("piece", [1, 4, 33])
def test_streamed_equals_whole(variant: Variant, piece: int) -> None:
    """Bit for bit, also in eight bits: scales are found chunk by chunk either way."""
    net, speech = network(variant), tokens(33)
    state = fork(net, prefix_state(net, CONFIG, prompt(2 * CHUNK), NOISE))
    mel = [
        advance(net, CONFIG, speech[i : i + piece], state, final=i + piece >= len(speech))
        for i in range(0, len(speech), piece)
    ]
    whole = decode_whole(net, CONFIG, prompt(2 * CHUNK), speech, NOISE)
    np.testing.assert_array_equal(np.concatenate(mel), whole)


@pytest.mark.parametrize("guided_steps", [None, 1])
@pytest.mark.parametrize("kind", ["torch", "float32", "int8"])
def test_prefix_comes_back_from_disk(kind: Any, guided_steps: int | None, tmp_path: Path) -> None:
    net = TorchFlow(flow()) if kind == "torch" else network(kind)
    config = CONFIG.model_copy(update={"guided_steps": guided_steps})
    voice = prompt(3 * CHUNK + 2)
    state = prefix_state(net, config, voice, NOISE)
    save_prefix(net, state, tmp_path / "voice.flow")
    fresh = prefix_state(net, config, prompt(0, seed=1), NOISE)
    again = load_prefix(net, config, fresh, tmp_path / "voice.flow")
    mels = [
        advance(net, config, tokens(20), fork(net, one), final=True)
        for one in (state, again, again)
    ]
    np.testing.assert_array_equal(mels[0], mels[1])
    np.testing.assert_array_equal(mels[1], mels[2])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["voice.flow"]


@pytest.mark.parametrize("kind", ["torch", "float32", "int8"])
def test_a_prefix_guided_otherwise_is_refused(kind: Any, tmp_path: Path) -> None:
    net = TorchFlow(flow()) if kind == "torch" else network(kind)
    state = prefix_state(net, CONFIG, prompt(3 * CHUNK + 2), NOISE)
    save_prefix(net, state, tmp_path / "voice.flow")
    less = CONFIG.model_copy(update={"guided_steps": 1})
    fresh = prefix_state(net, less, prompt(0, seed=1), NOISE)
    with pytest.raises(ModelFormatError, match="does not fit"):
        load_prefix(net, less, fresh, tmp_path / "voice.flow")
