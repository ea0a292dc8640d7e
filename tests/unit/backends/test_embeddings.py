from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from mynah.backends.base import NO_IDS, Segment
from mynah.backends.onnx.embeddings import EmbeddingTables
from mynah.config import LMConfig, TextEncoderConfig
from mynah.errors import BackendError, ModelFormatError

SIZES: dict[str, Any] = {
    "text_vocab_size": 7,
    "hidden_size": 4,
    "num_layers": 1,
    "num_heads": 1,
    "num_kv_heads": 1,
    "head_dim": 4,
    "intermediate_size": 4,
    "speech_vocab_size": 5,
}


def _config(**changes: Any) -> LMConfig:
    return LMConfig.model_validate(SIZES | changes)


def _rows(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def _tables(path: Path, config: LMConfig, **changes: Any) -> EmbeddingTables:
    tables = {
        "text_embedding.weight": _rows(7, 4),
        "speech_embedding.weight": _rows(8, 4),
        "marker_embedding.weight": -_rows(2, 4),
    }
    tables |= {key.replace("__", "."): value for key, value in changes.items()}
    save_file({key: value for key, value in tables.items() if value is not None}, str(path))
    return EmbeddingTables(path, config)


def test_rows_of_every_kind(tmp_path: Path) -> None:
    tables = _tables(tmp_path / "t", _config())
    ids = np.array([1, 0])
    for kind, sign in (("text", 1), ("speech", 1), ("marker", -1)):
        rows = tables.segment(Segment(kind, ids))  # type: ignore[arg-type]  # a literal
        np.testing.assert_array_equal(rows, sign * _rows(2, 4)[::-1])
        rows += 1  # a copy: the table is as before
        np.testing.assert_array_equal(tables.text(np.array([1])), _rows(2, 4)[1:])
    assert tables.text(NO_IDS).shape == (0, 4)


def test_markers_among_the_speech_rows(tmp_path: Path) -> None:
    config = _config(marker_offsets=(0, 2))
    tables = _tables(tmp_path / "t", config, marker_embedding__weight=None)
    np.testing.assert_array_equal(tables.marker(np.array([0, 1])), _rows(8, 4)[[5, 7]])
    with pytest.raises(BackendError, match=r"id 2 for marker_embedding is outside 0 \.\. 1"):
        tables.marker(np.array([0, 2]))


def test_a_table_in_eight_bits(tmp_path: Path) -> None:
    codes = np.array([[1, -2, 3, 127]] * 7, dtype=np.int8)
    scale = np.arange(7, dtype=np.float32) / 4
    tables = _tables(
        tmp_path / "t", _config(), text_embedding__weight=codes, text_embedding__scale=scale
    )
    np.testing.assert_array_equal(tables.text(np.array([2])), [[0.5, -1, 1.5, 63.5]])
    with pytest.raises(ModelFormatError, match="the configuration needs"):
        _tables(tmp_path / "u", _config(), text_embedding__weight=codes)


def test_the_first_generation_has_no_rows_for_control_tokens(tmp_path: Path) -> None:
    config = _config(
        fill_offset=None, num_control_tokens=1, text_encoder=TextEncoderConfig(input_size=3)
    )
    changes = {"text_embedding__weight": _rows(7, 3), "speech_embedding__weight": _rows(5, 4)}
    tables = _tables(tmp_path / "t", config, **changes)
    assert tables.text(np.array([6])).shape == (1, 3)
    with pytest.raises(BackendError, match="id 5 for speech_embedding"):
        tables.speech(np.array([5]))


def test_a_speaker_of_any_length(tmp_path: Path) -> None:
    changes = {"speaker_affine__weight": np.eye(4, 3, dtype=np.float32)}
    changes["speaker_affine__bias"] = np.ones(4, dtype=np.float32)
    tables = _tables(tmp_path / "t", _config(speaker_dim=3), **changes)
    vector = np.array([0, 3, 4], dtype=np.float32)
    np.testing.assert_allclose(tables.speaker(vector), [[1, 1.6, 1.8, 1]], rtol=1e-6)
    plain = _tables(tmp_path / "u", _config())
    with pytest.raises(BackendError, match="no speaker"):
        plain.speaker(vector)


@pytest.mark.parametrize("bad", [-1, 7])
def test_ids_without_a_row(tmp_path: Path, bad: int) -> None:
    tables = _tables(tmp_path / "t", _config())
    with pytest.raises(BackendError, match=f"id {bad} for text_embedding"):
        tables.text(np.array([0, bad]))
