from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.backends.onnx.graph import CachedGraph, Graph, GraphState, optimization
from mynah.backends.onnx.language_model import OnnxSpeechLM
from mynah.backends.onnx.tensors import map_tensors
from mynah.backends.processor import Cores, Processor
from mynah.errors import BackendError, ModelFormatError, ModelNotFoundError
from mynah.export.builder import GraphBuilder
from mynah.export.lm import export_lm, export_lm_graph
from tests.lm_models import tiny_config, tiny_module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    export_lm(tiny_module("plain"), path)
    return path


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph that adds up what it has read; its state are the rows themselves."""
    graph = GraphBuilder()
    new = graph.input("inputs_embeds", [1, "time", 32])
    past = graph.input("past_kv", ["past", 1, 32])
    rows = graph.op("Transpose", new, perm=[1, 0, 2])
    total = graph.op("ReduceSum", graph.concat(past, rows, axis=0), graph.ints(0), keepdims=0)
    graph.output("logits", total, [1, 32])
    graph.output("new_past_kv", rows, ["time", 1, 32])
    path = tmp_path_factory.mktemp("cached") / "sum.onnx"
    graph.save(path)
    return path


def _inputs(time: int) -> dict[str, Any]:
    return {"inputs_embeds": np.ones((1, time, 32), dtype=np.float32)}


def _cut(source: Path, target: Path, size: int) -> Path:
    target.write_bytes(source.read_bytes()[:size])
    return target


def test_a_missing_graph(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"lm\.onnx is missing"):
        Graph(tmp_path / "lm.onnx")


@pytest.mark.parametrize("size", [0, 100, 9000])
def test_a_truncated_graph(folder: Path, tmp_path: Path, size: int) -> None:
    with pytest.raises(ModelFormatError, match="cannot read"):
        Graph(_cut(folder / "lm.onnx", tmp_path / "cut.onnx", size))


def test_a_graph_without_state_is_no_cached_graph(tmp_path: Path) -> None:
    export_lm(tiny_module("pointer"), tmp_path)
    with pytest.raises(ModelFormatError, match="no state"):
        CachedGraph(tmp_path / "lm_pointer_advance.onnx")


@pytest.mark.parametrize(
    "inputs",
    [{}, {"x": np.zeros(1)}, {"inputs_embeds": np.zeros((1, 2, 5))}],
    ids=["missing", "unknown", "shape"],
)
def test_wrong_inputs_are_backend_errors(cached: Path, inputs: dict[str, Any]) -> None:
    graph = CachedGraph(cached, 1)
    with pytest.raises(BackendError):
        graph.run(inputs, graph.new_state())


def test_nan_passes_through(cached: Path) -> None:
    graph = CachedGraph(cached, 1)
    inputs = {"inputs_embeds": np.full((1, 1, 32), np.nan, dtype=np.float32)}
    assert np.isnan(graph.run(inputs, graph.new_state())["logits"]).all()


def test_state_is_read_from_the_graph(cached: Path) -> None:
    graph = CachedGraph(cached, 1)
    assert graph.state_keys == ["past_kv"]
    assert graph.new_state().view()["past_kv"].shape == (0, 1, 32)


def _graph_state(*rows: float) -> GraphState:
    return GraphState({"past_x": np.array(rows, dtype=np.float32), "context_y": np.zeros((1, 2))})


def test_past_grows_and_context_is_replaced() -> None:
    state = _graph_state(1.0)
    for number in range(200):
        context = np.array([number])
        state.update({"past_x": np.array([number, -number]), "context_y": context})
    assert state.length("past_x") == 401
    assert state.view()["past_x"][:5].tolist() == [1, 0, 0, 1, -1]
    assert state.view()["context_y"].tolist() == [199]
    assert state.nbytes() >= 401 * 4


def test_trim_keeps_the_last_rows() -> None:
    state = _graph_state(1.0, 2.0, 3.0)
    state.trim("past_x", 5)
    assert state.length("past_x") == 3
    state.trim("past_x", 2)
    state.update({"past_x": np.array([4])})
    assert state.view()["past_x"].tolist() == [2, 3, 4]
    state.trim("past_x", 0)
    assert state.length("past_x") == 0


def test_a_fork_shares_nothing() -> None:
    state = _graph_state(1.0)
    copy = state.fork()
    state.update({"past_x": np.array([2])})
    copy.update({"past_x": np.array([3])})
    assert state.view()["past_x"].tolist() == [1, 2]
    assert copy.view()["past_x"].tolist() == [1, 3]


def test_mapped_tables_equal_the_weights(folder: Path) -> None:
    table = map_tensors(folder / "lm_embeddings.safetensors")["text_embedding.weight"]
    assert isinstance(table, np.memmap)
    np.testing.assert_array_equal(table, tiny_module("plain").text_embedding.weight.detach())


@pytest.mark.parametrize("size", [0, 4, 60, 2000])
def test_truncated_tables(folder: Path, tmp_path: Path, size: int) -> None:
    with pytest.raises(ModelFormatError, match="cannot read"):
        map_tensors(_cut(folder / "lm_embeddings.safetensors", tmp_path / "cut.safetensors", size))


def test_missing_tables(folder: Path, tmp_path: Path) -> None:
    export_lm_graph(tiny_module("plain"), tmp_path / "lm.onnx")
    with pytest.raises(ModelNotFoundError, match="lm_embeddings"):
        OnnxSpeechLM(tmp_path, tiny_config("plain"))


def test_tables_of_another_model(folder: Path) -> None:
    with pytest.raises(ModelFormatError, match="the configuration needs"):
        OnnxSpeechLM(folder, tiny_config("speaker"))


@pytest.mark.parametrize(
    ("machine", "features", "is_rewritten"),
    [
        ("x86_64", {"avx2", "avx512f", "avx512_vnni"}, False),
        ("x86_64", {"avx2", "avx_vnni"}, False),
        ("x86_64", {"avx2", "avx512f"}, True),
        ("AMD64", None, True),
        ("aarch64", set(), False),
    ],
)
def test_long_graphs_are_rewritten_where_eight_bits_would_overflow(
    machine: str, features: set[str] | None, is_rewritten: bool
) -> None:
    """The exact path of older processors is such a rewriting."""
    known = None if features is None else frozenset(features)
    processor = Processor("test", machine, Cores(2, 2), known)
    level = optimization(is_long=True, processor=processor)
    assert level.name == ("ORT_ENABLE_EXTENDED" if is_rewritten else "ORT_ENABLE_BASIC")
    assert optimization(is_long=False, processor=processor).name == "ORT_ENABLE_ALL"
