from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mynah.errors import ModelFormatError, ModelNotFoundError
from mynah.networks.checkpoint import KeyTable, fold_weight_norm, load_strict, read_tensors
from mynah.networks.official import model_config_from_golden

TABLE = KeyTable({"a.weight": "x.weight", "b.bias": "y.bias"}, {"tied": "a.weight"})


def _official() -> dict[str, Tensor]:
    return {"a.weight": torch.ones(2), "b.bias": torch.zeros(3), "tied": torch.ones(2)}


def test_names_go_both_ways() -> None:
    ours = TABLE.to_ours(_official())
    assert set(ours) == {"x.weight", "y.bias"}
    assert TABLE.to_official(ours).keys() == _official().keys()


def test_a_missing_tensor_is_named() -> None:
    official = _official()
    del official["b.bias"]
    with pytest.raises(ModelFormatError, match=r"missing b\.bias"):
        TABLE.to_ours(official)


def test_a_left_over_tensor_is_named() -> None:
    with pytest.raises(ModelFormatError, match="unexpected extra"):
        TABLE.to_ours(_official() | {"extra": torch.ones(1)})
    with pytest.raises(ModelFormatError, match="unexpected extra"):
        TABLE.to_official(TABLE.to_ours(_official()) | {"extra": torch.ones(1)})


@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "transposed conv"])
@pytest.mark.parametrize("spelling", ["old", "new"])
def test_weight_norm_folds_to_what_torch_computes(transposed: bool, spelling: str) -> None:
    kind = nn.ConvTranspose1d if transposed else nn.Conv1d
    conv = nn.utils.parametrizations.weight_norm(kind(3, 4, 5))
    state = dict(conv.state_dict())
    if spelling == "old":
        state["weight_g"] = state.pop("parametrizations.weight.original0")
        state["weight_v"] = state.pop("parametrizations.weight.original1")
    folded = fold_weight_norm({f"c.{key}": value for key, value in state.items()})
    assert set(folded) == {"c.weight", "c.bias"}
    torch.testing.assert_close(folded["c.weight"], conv.weight)


def test_half_a_weight_norm_is_an_error() -> None:
    with pytest.raises(ModelFormatError, match="incomplete"):
        fold_weight_norm({"c.weight_g": torch.ones(2, 1, 1)})


def test_strict_loading() -> None:
    linear = nn.Linear(2, 3)
    load_strict(linear, {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}, "here")
    assert float(linear.weight.detach().sum()) == 6
    with pytest.raises(ModelFormatError, match=r"here.*weight is \(2, 3\), expected \(3, 2\)"):
        load_strict(linear, {"weight": torch.ones(2, 3), "bias": torch.zeros(3)}, "here")
    with pytest.raises(ModelFormatError, match="missing bias"):
        load_strict(linear, {"weight": torch.ones(3, 2)}, "here")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_reading_by_prefix(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    tensors = {"lm.a": torch.ones(2), "flow.b": torch.zeros(3)}
    if suffix == ".pt":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    assert set(read_tensors(path)) == {"lm.a", "flow.b"}
    assert set(read_tensors(path, "lm.")) == {"a"}
    with pytest.raises(ModelNotFoundError, match="missing"):
        read_tensors(path.with_stem("other"))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelFormatError, match="cannot read"):
        read_tensors(path)


@pytest.mark.parametrize("config", [{"version": 3}, {"version": 2, "llm": {}}])
def test_official_configurations_that_cannot_be_read(config: dict[str, object]) -> None:
    with pytest.raises(ModelFormatError, match="official configuration"):
        model_config_from_golden(config)
