"""The hand-built graphs of the diffusion transformer: times in a table, eight bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mynah.backends.onnx.flow import OnnxFlow
from mynah.backends.torch.flow import TorchFlow
from mynah.export.flow import export_flow
from mynah.pipeline.flow import decode_whole
from mynah.pipeline.solver import euler_steps
from mynah.types import FloatArray
from tests.property.flow_model import CONFIGS, NOISE, flow, network, prompt, tokens

CONFIG = CONFIGS["dit"]
TIMES = [t for t, _ in euler_steps(CONFIG.num_steps)]


def velocity(net: TorchFlow | OnnxFlow, t: float) -> FloatArray:
    """Both branches (2, F, n_mels) of two calls in a row, the second one's."""
    rng, state = np.random.default_rng(1), net.new_velocity_state()
    for _ in range(2):
        x, mu, cond = (rng.standard_normal((9, CONFIG.n_mels)).astype(np.float32) for _ in "xmc")
        speaker = net.speaker(np.ones(CONFIG.speaker_dim, np.float32))
        given = [net.to_device(part) for part in (x, mu, cond)]
        rows = net.velocity(given[0], t, given[1], speaker, given[2], state)
    return np.stack([net.to_numpy(row) for row in rows])


@pytest.mark.parametrize("t", TIMES)
def test_every_time_of_the_solver(t: float) -> None:
    ours, exact = (velocity(network(name, "dit"), t) for name in ("onnx", "torch"))
    np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("t", [TIMES[1] + 0.01, -1.0, 2.0])
def test_another_time_cannot_be_mistaken_for_one(t: float) -> None:
    assert np.isnan(velocity(network("onnx", "dit"), t)).all()


@pytest.mark.parametrize(("variant", "limit"), [("float32", 1e-5), ("int8", 0.03)])
def test_variants_make_nearly_the_same_mel(tmp_path: Path, variant: str, limit: float) -> None:
    export_flow(flow("dit"), tmp_path, variant)  # type: ignore[arg-type]  # one of the names
    voice, speech = prompt(10), tokens(23)
    exact, ours = (
        decode_whole(net, CONFIG, voice, speech, NOISE)
        for net in (network("torch", "dit"), OnnxFlow(tmp_path, threads=1))
    )
    assert np.abs(ours - exact).max() <= limit * exact.std()
