"""What velocity networks make of the flow time, against the graphs and the torch modules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mynah.backends.composed_flow import TIME_GRAPH
from mynah.backends.native.flow_time import TIME_TERMS
from mynah.backends.onnx.graph import Graph
from mynah.config import FlowConfig
from mynah.errors import BackendError, ModelFormatError
from mynah.export.flow import export_flow
from mynah.export.shrink import Variant, shrink
from mynah.networks.flow import Flow
from mynah.pipeline.solver import euler_steps
from tests.unit.backends.native.test_velocity import DIT, UNET

PRIOR = UNET.model_copy(
    update={
        "cfg_rate": 0.0,
        "velocity": UNET.velocity.model_copy(update={"prior_std": 0.3}),
    }
)
TIMES = [t for t, _ in euler_steps(UNET.num_steps)]


def written(config: FlowConfig, folder: Path, variant: Variant = "float32") -> Path:
    torch.manual_seed(0)
    export_flow(Flow(config).eval(), folder, variant)
    shrink(folder / TIME_GRAPH, variant)
    return folder


@pytest.mark.parametrize(
    ("variant", "tolerance"),
    [("float32", 5e-5), ("float16", 5e-5), ("int8_weights", 5e-5), ("int8", 0.05)],
)
@pytest.mark.parametrize("config", [UNET, PRIOR, DIT], ids=["unet", "prior", "dit"])
def test_as_the_graph(
    config: FlowConfig, variant: Variant, tolerance: float, tmp_path: Path
) -> None:
    """But for sines of large angles; in eight bits the graph rounds activations, too."""
    folder = written(config, tmp_path, variant)
    graph = Graph(folder / TIME_GRAPH, 1)
    native = TIME_TERMS[config.velocity.kind](folder, config, config.velocity)
    for t in TIMES:
        expected = graph.run({"t": np.full(1, t, np.float32)})
        terms = expected["modulation" if config is DIT else "time_bias"]
        size = float(np.abs(terms).max())
        np.testing.assert_allclose(native.terms(t), terms, atol=tolerance * size)
        gains = native.gains(t)
        if config is PRIOR:
            np.testing.assert_allclose(gains, expected["prior_gains"], rtol=1e-5, atol=1e-6)
        else:
            assert gains is None


def test_times_that_are_not_in_the_table(tmp_path: Path) -> None:
    native = TIME_TERMS["dit"](written(DIT, tmp_path), DIT, DIT.velocity)
    with pytest.raises(BackendError, match=r"no flow time 0\.123"):
        native.terms(0.123)


def test_tables_without_names(tmp_path: Path) -> None:
    """As earlier versions wrote them."""
    folder = written(DIT, tmp_path)
    named = TIME_TERMS["dit"](folder, DIT, DIT.velocity).terms(TIMES[1])
    model = onnx.load(str(folder / TIME_GRAPH))
    for weight in model.graph.initializer:
        weight.name = {"times": "w0", "table": "w1"}.get(weight.name, weight.name)
    onnx.save(model, str(folder / TIME_GRAPH))
    again = TIME_TERMS["dit"](folder, DIT, DIT.velocity).terms(TIMES[1])
    np.testing.assert_array_equal(again, named)


def test_graphs_of_another_kind(tmp_path: Path) -> None:
    written(UNET, tmp_path / "unet")
    with pytest.raises(ModelFormatError, match="has no weight"):
        TIME_TERMS["dit"](tmp_path / "unet", DIT, DIT.velocity)
    written(DIT, tmp_path / "dit")
    with pytest.raises(ModelFormatError, match="has no weight"):
        TIME_TERMS["unet"](tmp_path / "dit", UNET, UNET.velocity)
