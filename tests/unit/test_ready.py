"""What a user calls a model becomes a folder: found, converted, or pulled."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mynah import TTS
from mynah.errors import ModelDownloadError, ModelNotFoundError, OfflineError
from mynah.hub.catalogue import MODELS
from mynah.hub.network import Client
from mynah.ready import known_model, pull_model, ready_model
from tests.hub_server import point_at, serving
from tests.official import copy_release, released_folder

NAME = "cosyvoice-300m-sft"


def test_names_of_the_catalogue() -> None:
    for name, model in MODELS.items():
        assert known_model(name) == (model, False)
        assert known_model(name.upper()) == (model, False)
    assert known_model("cosyvoice3-0.5b-rl") == (MODELS["cosyvoice3-0.5b"], True)
    assert known_model("cosyvoice2-0.5b-rl") is None
    assert known_model("nano") is None
    assert known_model("") is None


@pytest.mark.parametrize("variable", ["MYNAH_OFFLINE", "HF_HUB_OFFLINE"])
def test_nothing_is_downloaded_where_that_is_forbidden(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelNotFoundError, match=f"mynah pull {NAME}"):
        TTS.load(NAME, download=False)
    monkeypatch.setenv(variable, "1")
    with pytest.raises(OfflineError, match=f"mynah pull {NAME}"):
        TTS.load(NAME)
    with pytest.raises(OfflineError):
        pull_model(NAME)
    with pytest.raises(ModelNotFoundError, match="known models"):
        TTS.load("no-such-model")


def test_a_download_can_be_declined(monkeypatch: pytest.MonkeyPatch, mynah_home: Path) -> None:
    repository = MODELS[NAME].repositories["hf"]
    with serving(repositories={repository: released_folder(1)}) as server:
        point_at(server, monkeypatch)
        sizes: list[int] = []
        with pytest.raises(ModelNotFoundError, match="mynah pull"):
            ready_model(NAME, confirm=lambda plan: bool(sizes.append(plan.size)))
        assert sizes[0] > 1_000_000
        assert all("resolve" not in path for _, path, _ in server.requests)
    assert not (mynah_home / "models").exists()


def test_the_second_source_is_tried(monkeypatch: pytest.MonkeyPatch, mynah_home: Path) -> None:
    repository = MODELS[NAME].repositories["modelscope"]
    with serving(repositories={repository: released_folder(1)}) as server:
        point_at(server, monkeypatch)
        said: list[str] = []
        folder = pull_model(NAME, keep_source=True, report=said.append)
        assert folder.conversion["source"]["source"] == "modelscope"
        assert any("the release is kept in" in line for line in said)
        with pytest.raises(ModelDownloadError, match="404"):
            pull_model(NAME, source="hf")
        requests = len(server.requests)
        assert ready_model(NAME).path == folder.path
        assert ready_model(NAME.upper()).path == folder.path
        assert len(server.requests) == requests
    (kept,) = (mynah_home / "cache" / "official").iterdir()
    assert (kept / "llm.pt").is_file()


def test_a_released_folder_is_converted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = copy_release(1, tmp_path / "release")
    first = ready_model(release)
    stamp = (first.path / "manifest.json").stat().st_mtime_ns
    assert ready_model(release).path == first.path
    assert (first.path / "manifest.json").stat().st_mtime_ns == stamp


def test_two_who_pull_the_same_download_it_once(
    monkeypatch: pytest.MonkeyPatch, mynah_home: Path
) -> None:
    """The second one waits, in another process as well as in another thread."""
    repository = MODELS[NAME].repositories["hf"]
    waits, said = threading.Event(), []
    folders: list[Path] = []

    def report(message: str) -> None:
        said.append(message)
        if message.startswith("waiting"):
            waits.set()

    def pull() -> None:
        folders.append(pull_model(NAME, source="hf", report=report).path)

    with serving(repositories={repository: released_folder(1)}) as server:
        point_at(server, monkeypatch)
        second = threading.Thread(target=pull)

        def meanwhile(message: str) -> None:
            report(message)
            if message.startswith("downloading"):
                second.start()
                assert waits.wait(20)

        folders.append(pull_model(NAME, source="hf", report=meanwhile).path)
        second.join(60)
        fetched = [path for _, path, _ in server.requests if "resolve" in path]
    assert len(fetched) == len(set(fetched))
    assert len(folders) == 2
    assert folders[0] == folders[1] == mynah_home / "models" / NAME
    assert sum(message.startswith("downloading") for message in said) == 1


def test_loading_imports_nothing_that_opens_connections() -> None:
    code = (
        "import sys, mynah.api; "
        "print([m for m in ('torch', 'yaml', 'onnx', 'urllib.request', 'mynah.hub.network', "
        "'mynah.hub.download') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_pauses_are_real_by_default() -> None:
    import time

    assert Client().pause is time.sleep
