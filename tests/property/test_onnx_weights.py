"""Damaged ONNX files are refused with our own errors, or read as what they say."""

from __future__ import annotations

import contextlib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from mynah.backends.native.onnx_weights import read_initializers
from mynah.errors import ModelFormatError
from tests.unit.backends.native.test_onnx_weights import ARRAYS, model

_TENSORS = [numpy_helper.from_array(array, name) for name, array in ARRAYS.items()]
CONTENT: bytes = model(_TENSORS).SerializeToString()


def _read_all(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "w.onnx"
        path.write_bytes(content)
        weights = read_initializers(path)
        for name in weights:
            assert weights[name].shape == weights.shape(name)


@given(st.integers(0, len(CONTENT) - 1))
def test_a_part_of_a_file(length: int) -> None:
    try:
        _read_all(CONTENT[:length])
    except ModelFormatError:
        return
    # cut between two fields, behind the weights
    assert length > len(CONTENT) - 200


@given(st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(0, 255)), min_size=1))
def test_bytes_that_changed(changes: list[tuple[int, int]]) -> None:
    content = bytearray(CONTENT)
    for place, value in changes:
        content[place] = value
    with contextlib.suppress(ModelFormatError):  # a KeyError, or worse, is none
        _read_all(bytes(content))


@given(st.binary(max_size=200))
def test_anything(content: bytes) -> None:
    with pytest.raises(ModelFormatError):
        _read_all(content)
