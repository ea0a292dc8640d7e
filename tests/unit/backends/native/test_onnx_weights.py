from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mynah.backends.native.onnx_weights import read_initializers
from mynah.errors import ModelFormatError, ModelNotFoundError

RNG = np.random.default_rng(0)
ARRAYS: dict[str, npt.NDArray[Any]] = {
    "float32": RNG.standard_normal((3, 5)).astype(np.float32),
    "float64": RNG.standard_normal(3),
    "float16": RNG.standard_normal((2, 3, 4)).astype(np.float16),
    "int8": RNG.integers(-128, 128, (4, 4), dtype=np.int8),
    "uint8": RNG.integers(0, 256, (4, 1), dtype=np.uint8),
    "int32": RNG.integers(-(1 << 31), 1 << 31, 9, dtype=np.int32),
    "int64": RNG.integers(-(1 << 62), 1 << 62, 7, dtype=np.int64),
    "scalar": np.array(-2.5, dtype=np.float32),
    "empty": np.zeros((0, 4), dtype=np.float32),
}


def model(tensors: list[onnx.TensorProto]) -> onnx.ModelProto:
    node = helper.make_node("Identity", ["x"], ["y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    made = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], tensors))
    helper.set_model_props(made, {"mynah.variant": "int8", "Straße": "鸟"})
    return made


def _write(path: Path, **options: Any) -> Path:
    tensors = [numpy_helper.from_array(array, name) for name, array in ARRAYS.items()]
    onnx.save(model(tensors), str(path), **options)
    return path


@pytest.mark.parametrize("is_external", [False, True])
def test_every_type_inside_and_beside(is_external: bool, tmp_path: Path) -> None:
    beside = {"save_as_external_data": True, "location": "w.data", "size_threshold": 8}
    path = _write(tmp_path / "w.onnx", **(beside if is_external else {}))
    assert (tmp_path / "w.data").is_file() == is_external
    weights = read_initializers(path)
    assert weights.metadata == {"mynah.variant": "int8", "Straße": "鸟"}
    assert list(weights) == list(ARRAYS)
    assert len(weights) == len(ARRAYS)
    assert "int8" in weights
    assert "other" not in weights
    for name, array in ARRAYS.items():
        assert weights.shape(name) == array.shape
        assert weights[name].dtype == array.dtype
        np.testing.assert_array_equal(weights[name], array)
    weights["int8"][:] = 0  # memory of its own
    np.testing.assert_array_equal(weights["int8"], ARRAYS["int8"])


def test_values_in_typed_fields(tmp_path: Path) -> None:
    kinds = {
        "float32": 1,
        "uint8": 2,
        "int8": 3,
        "int32": 6,
        "int64": 7,
        "float16": 10,
        "float64": 11,
    }
    tensors = []
    for name, kind in kinds.items():
        array = ARRAYS[name]
        tensors.append(helper.make_tensor(name, kind, array.shape, array.reshape(-1).tolist()))
        assert not tensors[-1].raw_data
    onnx.save(model(tensors), str(tmp_path / "w.onnx"))
    weights = read_initializers(tmp_path / "w.onnx")
    for name in kinds:
        assert weights[name].dtype == ARRAYS[name].dtype
        np.testing.assert_array_equal(weights[name], ARRAYS[name])


def test_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"w\.onnx"):
        read_initializers(tmp_path / "w.onnx")
    with pytest.raises(KeyError):
        read_initializers(_write(tmp_path / "w.onnx"))["other"]


def test_another_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "w.onnx"
    for content in (b"", b"{}", b"\x80\x04\x95pickle", bytes(100), b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(ModelFormatError, match=r"w\.onnx"):
            read_initializers(path)


def test_an_unknown_type_is_named(tmp_path: Path) -> None:
    tensor = helper.make_tensor("w", TensorProto.BOOL, [1], [True])
    onnx.save(model([tensor]), str(tmp_path / "w.onnx"))
    weights = read_initializers(tmp_path / "w.onnx")
    with pytest.raises(ModelFormatError, match="w: a weight has the unknown type 9"):
        weights["w"]


def test_two_of_one_name(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(ARRAYS["int8"], "w")
    onnx.save(model([tensor, tensor]), str(tmp_path / "w.onnx"))
    with pytest.raises(ModelFormatError, match="two weights named w"):
        read_initializers(tmp_path / "w.onnx")


def _external(path: Path, **entries: str) -> ModelFormatError:
    """What reading a weight (4,) float32 says that is kept elsewhere."""
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model([tensor]).SerializeToString())
    weights = read_initializers(path)
    with pytest.raises(ModelFormatError) as caught:
        weights["w"]
    return caught.value


@pytest.mark.parametrize(
    "location", ["", "../w.data", "a/../../w.data", "..\\w.data", "/w.data", "C:\\w.data", "w\0"]
)
def test_no_file_outside_the_folder(location: str, tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(bytes(16))
    (tmp_path / "in").mkdir()
    error = _external(tmp_path / "in" / "w.onnx", location=location)
    assert "outside the model's folder" in error.message
    assert "convert the model again" in error.hint


@pytest.mark.parametrize(
    ("offset", "length", "reason"),
    [
        ("4", "16", "only 16 bytes"),
        ("0", "12", r"12 bytes do not make"),
        ("-1", "16", "no number"),
        ("0", "x", "no number"),
        ("9" * 30, "16", "only 16 bytes"),
    ],
)
def test_places_that_cannot_be(offset: str, length: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(bytes(16))
    error = _external(tmp_path / "w.onnx", location="w.data", offset=offset, length=length)
    assert reason in error.message


def test_the_file_beside_it_is_missing(tmp_path: Path) -> None:
    assert "w.data" in _external(tmp_path / "w.onnx", location="w.data").message


@pytest.mark.parametrize("dims", [[5], [-1, -4], [1 << 40, 1 << 40]])
def test_a_shape_that_does_not_fit(dims: list[int], tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.dims[:] = dims
    (tmp_path / "w.onnx").write_bytes(model([tensor]).SerializeToString())
    weights = read_initializers(tmp_path / "w.onnx")
    with pytest.raises(ModelFormatError, match="shape"):
        weights["w"]
