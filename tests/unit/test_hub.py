from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from mynah import hub
from mynah.errors import InvalidRequestError, ModelFormatError, ModelNotFoundError
from mynah.hub import folders


def make_model(folder: Path) -> Path:
    (folder / "voices").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "lm.onnx").write_bytes(b"weights" * 100)
    (folder / "voices" / "anna.safetensors").write_bytes(b"voice")
    hub.write_manifest(folder)
    return folder


@pytest.fixture
def model(mynah_home: Path) -> Path:
    return make_model(mynah_home / "models" / "tiny")


def test_a_model_is_found_by_name_and_path(model: Path) -> None:
    for key in ("tiny", str(model), model):
        found = hub.find_model(key)
        assert (found.name, found.path) == ("tiny", model.resolve())
    assert "tiny" in hub.model_names()
    assert sorted(found.files) == ["config.json", "lm.onnx", "voices/anna.safetensors"]
    assert found.file("lm.onnx").read_bytes().startswith(b"weights")
    assert found.voices_path.is_dir()
    assert found.size == 707
    with pytest.raises(ModelFormatError, match=r"has no vocoder\.onnx"):
        found.file("vocoder.onnx")
    with pytest.raises(ModelFormatError, match="cannot read the model configuration"):
        found.config()


def test_an_unknown_model_names_what_was_tried(model: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no model 'tyny'; tried .*models") as caught:
        hub.find_model("tyny")
    assert "did you mean tiny?" in caught.value.hint
    assert str(model.with_name("tyny")) in caught.value.message
    for key in ("", "..", "a/b/c"):
        with pytest.raises((ModelNotFoundError, ModelFormatError)):
            hub.find_model(key)


def test_a_folder_without_configuration_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"it has no config\.json"):
        hub.find_model(tmp_path)


def test_truncated_and_missing_files_are_found_without_checksums(model: Path) -> None:
    (model / "lm.onnx").write_bytes(b"weights")
    with pytest.raises(ModelFormatError, match=r"lm\.onnx is truncated: 7 bytes, expected 700"):
        hub.find_model("tiny", checksums=False)
    (model / "lm.onnx").unlink()
    with pytest.raises(ModelFormatError, match=r"lm\.onnx is missing"):
        hub.find_model("tiny", checksums=False)


def test_a_changed_byte_is_found(model: Path) -> None:
    hub.find_model("tiny")
    (model / "lm.onnx").write_bytes(b"Weights" * 100)
    os.utime(model / "lm.onnx", ns=(1, 1))  # the clock may be coarser than this test
    hub.find_model("tiny", checksums=False)
    with pytest.raises(ModelFormatError, match=r"lm\.onnx is damaged: sha256"):
        hub.find_model("tiny")


def test_checksums_are_computed_once(
    model: Path, mynah_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.find_model("tiny")
    assert (mynah_home / "cache" / "checksums.json").is_file()
    calls: list[Path] = []
    original = folders.file_sha256

    def counted(path: Path) -> str:
        calls.append(path)
        return original(path)

    monkeypatch.setattr(folders, "file_sha256", counted)
    hub.find_model("tiny")
    assert not calls
    hub.verify_model(model, force=True)
    assert len(calls) == 3
    (mynah_home / "cache" / "checksums.json").write_text("[")
    hub.find_model("tiny")
    assert len(calls) == 6


def test_an_unwritable_home_is_no_obstacle(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MYNAH_HOME", str(tmp_path / "file"))
    hub.verify_model(model)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot read the manifest"),
        ("[]", "cannot read the manifest"),
        ('{"config.json": {"size": 2}}', "cannot read the manifest .*sha256"),
        ("{}", r"does not list config\.json"),
        ('{"../x": {"size": 1, "sha256": ""}}', "outside of the folder"),
        ('{"/etc/x": {"size": 1, "sha256": ""}}', "outside of the folder"),
    ],
    ids=["json", "list", "entry", "empty", "parent", "absolute"],
)
def test_an_unusable_manifest_is_refused(model: Path, content: str, message: str) -> None:
    (model / "manifest.json").write_text(content)
    with pytest.raises(ModelFormatError, match=message) as caught:
        hub.find_model("tiny")
    assert caught.value.hint


def test_the_manifest_does_not_list_itself(model: Path) -> None:
    hub.write_manifest(model)
    assert "manifest.json" not in json.loads((model / "manifest.json").read_text())


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="other rules there")
def test_home_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MYNAH_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert hub.home() == tmp_path / "mynah"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert hub.home() == Path.home() / ".local" / "share" / "mynah"


def test_an_unknown_account_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.delenv(hub.HOME_VARIABLE)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    with pytest.raises(InvalidRequestError, match="home folder") as caught:
        hub.home()
    assert "MYNAH_HOME" in caught.value.hint


def test_a_tilde_of_nobody_is_a_plain_path() -> None:
    with pytest.raises(ModelNotFoundError):
        hub.find_model("~no-such-user/model")


def test_what_a_model_was_made_from_is_no_file(model: Path) -> None:
    path = model / "manifest.json"
    content = json.loads(path.read_text())
    content["conversion"] = {"converter": "mynah 1"}
    path.write_text(json.dumps(content))
    folder = hub.verify_model(model, force=True)
    assert folder.conversion == {"converter": "mynah 1"}
    assert set(folder.files) == {"config.json", "lm.onnx", "voices/anna.safetensors"}
    assert hub.find_model("tiny").size == sum(entry.size for entry in folder.files.values())


def test_how_graphs_are_stored_is_read(model: Path) -> None:
    manifest = model / "manifest.json"
    content = json.loads(manifest.read_text())
    content["lm.onnx"]["variant"] = "int8"
    manifest.write_text(json.dumps(content))
    assert hub.verify_model(model).variants == {"lm.onnx": "int8"}


def test_a_note_on_fidelity_is_no_file(model: Path) -> None:
    before = hub.verify_model(model)
    folders.note_fidelity(model, {"mel_error": 0.1})
    folders.note_fidelity(model, {"mel_error": 0.2})
    assert hub.verify_model(model) == before
    assert json.loads((model / "manifest.json").read_text())["fidelity"] == {"mel_error": 0.2}
    assert sorted(path.name for path in model.iterdir()) == [
        "config.json", "lm.onnx", "manifest.json", "voices"
    ]  # fmt: skip
