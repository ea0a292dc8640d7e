"""Converting a release: what the manifest says, what is refused, what is left alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import onnx
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import mynah
from mynah.api import TTS
from mynah.errors import (
    BackendUnavailableError,
    ConversionError,
    InvalidRequestError,
    ModelFormatError,
    ModelNotFoundError,
    OutputError,
)
from mynah.export import official, writer
from mynah.export.merge import merge_safetensors
from mynah.export.official_folder import read_official_folder
from mynah.hub import ModelFolder, verify_model
from mynah.ready import convert_folder, model_id_of
from tests.official import copy_release, released_folder


def convert(source: Path, out: Path, **options: object) -> ModelFolder:
    return official.convert_official(read_official_folder(source), out, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return convert(released_folder(1), tmp_path_factory.mktemp("out") / "m", precision="float16")


def test_the_manifest_tells_everything(converted: ModelFolder) -> None:
    release = released_folder(1)
    content = json.loads((converted.path / "manifest.json").read_text())
    about = content.pop("conversion")
    assert about["converter"] == f"mynah {mynah.__version__}"
    assert about["variant"] == "float16"
    for name, entry in about["files"].items():
        data = (release / name).read_bytes()
        assert entry == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert {"llm.pt", "flow.pt", "hift.pt", "cosyvoice.yaml"} <= about["files"].keys()
    for name, entry in content.items():
        data = (converted.path / name).read_bytes()
        assert entry["size"] == len(data)
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
    for name in ("lm.onnx", "flow_encoder.onnx", "flow_velocity.onnx", "weights.safetensors"):
        assert 0 < content[name]["relative_error"] < 0.03
        assert content[name]["max_abs_error"] > 0
        assert content[name]["variant"] == "float16"
    for name in ("vocoder_f0.onnx", "vocoder_decode.onnx"):
        assert content[name]["variant"] == "float32"
        assert content[name]["relative_error"] < 1e-4


def test_encoders_and_text_files_are_copied_unchanged(converted: ModelFolder) -> None:
    release = released_folder(1)
    for target, source in (
        ("speech_tokenizer.onnx", "speech_tokenizer_v1.onnx"),
        ("campplus.onnx", "campplus.onnx"),
        ("tokenizer/multilingual.tiktoken", "multilingual.tiktoken"),
    ):
        assert converted.file(target).read_bytes() == (release / source).read_bytes()
    assert converted.config().default_voice == "中文女"


def test_the_vocoder_is_never_rounded(converted: ModelFolder) -> None:
    tensors = load_file(converted.file("weights.safetensors"))
    kinds = {key.startswith("vocoder."): value.dtype for key, value in tensors.items()}
    assert kinds == {True: torch.float32, False: torch.float16}


def test_the_second_time_is_free(
    converted: ModelFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(official, "_write", lambda *a, **k: pytest.fail("written again"))
    again = convert(released_folder(1), converted.path, precision="float16")
    assert again.conversion == converted.conversion
    for options in ({"precision": "float32"}, {}):
        with pytest.raises(pytest.fail.Exception, match="written again"):
            convert(released_folder(1), converted.path, **options)
    release = copy_release(1, tmp_path / "release")
    with open(release / "cosyvoice.yaml", "a", encoding="utf-8") as file:
        file.write("# another revision\n")
    with pytest.raises(pytest.fail.Exception, match="written again"):
        convert(release, converted.path, precision="float16")


def test_a_damaged_result_is_made_again(converted: ModelFolder, tmp_path: Path) -> None:
    out = tmp_path / "m"
    shutil.copytree(converted.path, out)
    graph = out / "lm.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelFormatError, match="damaged"):
        verify_model(out)
    convert(released_folder(1), out, precision="float16")
    assert verify_model(out, force=True).conversion == converted.conversion


def test_a_wrong_graph_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damage(path: Path, variant: str) -> None:
        if path.name == "flow_velocity.onnx":
            model = onnx.load(str(path))
            largest = max(model.graph.initializer, key=lambda weight: len(weight.raw_data))
            largest.raw_data = bytes(len(largest.raw_data))
            onnx.save(model, str(path))

    monkeypatch.setattr(writer, "shrink", damage)
    with pytest.raises(ConversionError, match=r"flow_velocity\.onnx as float32 deviates"):
        convert(released_folder(1), tmp_path / "m", precision="float32")
    assert list(tmp_path.iterdir()) == []


def test_the_release_is_never_changed(tmp_path: Path) -> None:
    release = copy_release(1, tmp_path / "release")
    for out in (release, release / "inside"):
        with pytest.raises(InvalidRequestError, match="never changed"):
            convert(release, out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "novel.txt").write_text("precious")
    with pytest.raises(InvalidRequestError, match="something else than a model"):
        convert(release, tmp_path / "mine")
    with pytest.raises(InvalidRequestError, match="no variant 'int3'"):
        convert(release, tmp_path / "m", precision="int3")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        convert(release, tmp_path / "file" / "m")


def test_weights_without_graphs(tmp_path: Path) -> None:
    folder = convert(released_folder(1), tmp_path / "m", precision="bf16")
    assert not [name for name in folder.files if name.startswith(("lm", "flow_v", "vocoder"))]
    with pytest.raises(BackendUnavailableError, match='backend="torch"'):
        TTS.load(folder.path)
    with TTS.load(folder.path, backend="torch") as tts:
        assert tts.synthesize("Hello.", seed=1).duration_s > 0


def test_the_language_model_after_reinforcement_learning(tmp_path: Path) -> None:
    folder = read_official_folder(released_folder(3))
    base, rl = (folder.load_stage("lm", rl=flag).state_dict() for flag in (False, True))
    assert not torch.equal(base["speech_head.weight"], rl["speech_head.weight"])
    assert "llm.rl.pt" in folder.used_files(rl=True)
    assert "llm.rl.pt" not in folder.used_files()


def test_what_converting_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mynah import ready

    monkeypatch.setattr(ready, "find_spec", lambda name: None if name == "yaml" else name)
    with pytest.raises(BackendUnavailableError, match=r"pyyaml.*mynah-tts\[convert\]"):
        convert_folder(released_folder(1), tmp_path / "m")
    # What is wrong with the folder is said first: nobody installs torch to hear it.
    with pytest.raises(ModelNotFoundError, match="no folder of a released model"):
        convert_folder(tmp_path, tmp_path / "m")
    with pytest.raises(ModelNotFoundError, match="there is no folder"):
        model_id_of(tmp_path / "gone")
    with pytest.raises(ModelNotFoundError, match=r"has no llm\.rl\.pt"):
        model_id_of(released_folder(1), rl=True)


def test_merging_keeps_every_tensor(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    parts = [
        {"a": torch.randn(3, 5), "b": torch.arange(7)},
        {"c": torch.randn(2).bfloat16(), "d": torch.zeros(0)},
    ]
    paths = [tmp_path / f"{index}.safetensors" for index in range(len(parts))]
    for part, path in zip(parts, paths, strict=True):
        save_file(part, path)
    merge_safetensors(paths, tmp_path / "all.safetensors")
    with safe_open(str(tmp_path / "all.safetensors"), framework="pt") as file:
        for key, value in (parts[0] | parts[1]).items():
            torch.testing.assert_close(file.get_tensor(key), value, rtol=0, atol=0)
