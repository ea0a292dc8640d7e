from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from mynah.api import TTS
from mynah.backends.native.kernels import instruction_sets
from mynah.config import VelocityConfig
from mynah.errors import BackendUnavailableError, InvalidRequestError, ModelFormatError
from mynah.export import writer
from mynah.hub import verify_model
from mynah.networks.flow import Flow
from tests.tiny_model import build_tiny_model, tiny_config


def test_a_folder_is_complete_and_says_how_exact_it_is(tmp_path: Path) -> None:
    extra = tmp_path / "card.md"
    extra.write_text("about")
    errors = build_tiny_model(tmp_path / "m", variants={"flow": "float16"}, files={"CARD": extra})
    folder = verify_model(tmp_path / "m")
    assert folder.config() == tiny_config()
    assert {"CARD", "weights.safetensors", "voices/tiny.safetensors"} <= folder.files.keys()
    manifest = json.loads((folder.path / "manifest.json").read_text())
    assert manifest["lm.onnx"]["variant"] == "float32"
    assert manifest["flow_velocity.onnx"]["variant"] == "float16"
    for name, error in errors.items():
        assert manifest[name]["max_abs_error"] == pytest.approx(error, rel=1e-2)
    assert max(error for name, error in errors.items() if "flow" not in name) < 1e-5
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_shrinking_makes_files_smaller(tmp_path: Path) -> None:
    sizes = {}
    for variant in ("float32", "float16", "int8", "int8_weights"):
        build_tiny_model(tmp_path / variant, variants={"*": variant}, weights=False)
        files = verify_model(tmp_path / variant).files
        assert "weights.safetensors" not in files
        with pytest.raises(BackendUnavailableError, match="without weights for torch"):
            TTS.load(tmp_path / variant, backend="torch")
        model = onnx.load(str(tmp_path / variant / "flow_velocity.onnx"))
        sizes[variant] = sum(len(weight.raw_data) for weight in model.graph.initializer)
    assert sizes["int8"] < sizes["float16"] < 0.6 * sizes["float32"]
    assert sizes["int8_weights"] < sizes["float16"]


def test_weights_in_half_precision_speak_too(tmp_path: Path) -> None:
    build_tiny_model(tmp_path / "m", weights="float16")
    build_tiny_model(tmp_path / "n")
    sizes = [(tmp_path / name / "weights.safetensors").stat().st_size for name in "mn"]
    assert sizes[0] < 0.7 * sizes[1]  # the vocoder, a third of this tiny model, is not rounded
    with TTS.load(tmp_path / "m", backend="torch") as tts:
        assert len(tts.synthesize("Hello.", seed=1)) > 0


def test_replacing_a_model_leaves_nothing_of_the_old_one(tmp_path: Path) -> None:
    build_tiny_model(tmp_path / "m")
    (tmp_path / "m" / "left-over").write_text("old")
    build_tiny_model(tmp_path / "m")
    assert not (tmp_path / "m" / "left-over").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_failed_export_leaves_the_old_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_tiny_model(tmp_path / "m")
    before = verify_model(tmp_path / "m").files
    with pytest.raises(InvalidRequestError, match="no graphs lmm"):
        build_tiny_model(tmp_path / "m", variants={"lmm": "int8"})

    def damage(*args: object) -> None:
        raise ModelFormatError("damaged")

    monkeypatch.setattr(writer, "deviations", damage)
    with pytest.raises(ModelFormatError):
        build_tiny_model(tmp_path / "m")
    assert verify_model(tmp_path / "m", force=True).files == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_the_official_noise_is_fixed() -> None:
    config = tiny_config()
    noise = writer.official_noise(config)
    assert noise.shape == (15000, 80)
    np.testing.assert_array_equal(noise, writer.official_noise(config))


@pytest.mark.skipif(not instruction_sets(), reason="the kernels were not built")
def test_the_errors_of_the_native_kernels_are_in_the_manifest(tmp_path: Path) -> None:
    config = tiny_config()
    velocity = VelocityConfig(channels=32, num_heads=2, head_dim=16, num_mid_blocks=1)
    encoder = config.flow.encoder.model_copy(update={"num_heads": 1, "feed_forward": 32})
    sizes = {"n_mels": 16, "velocity": velocity, "encoder": encoder}
    config = config.model_copy(update={"flow": config.flow.model_copy(update=sizes)})
    with writer.ModelWriter(
        tmp_path / "model", config, variants={"flow": "int8"}, weights=None
    ) as made:
        made.add_stage("flow", Flow(config.flow))
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text(encoding="utf-8"))
    for name in ("flow_encoder.onnx", "flow_velocity.onnx"):
        entry = manifest[name]
        assert 0 < entry["native_relative_error"] < 0.3
        assert entry["native_relative_error"] != entry["relative_error"]
