"""Pulling files from a hub that misbehaves in every way that hubs do."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mynah.errors import (
    InvalidRequestError,
    ModelDownloadError,
    ModelNotFoundError,
    OfflineError,
    OutputError,
)
from mynah.hub import download as downloads
from mynah.hub.catalogue import MODELS, OfficialModel, PinnedFile, official_model
from mynah.hub.download import Plan, download, plan_download, read_source
from mynah.hub.network import Client
from mynah.hub.sources import HuggingFace, ModelScope, RemoteSource, open_source
from tests.hub_server import COMMIT, Fault, Hub, point_at, serving

REPOSITORY = "Org/Model"
BIG = bytes(range(256)) * 2000
VOCABULARY = b"IQ== 0\n"
MODEL = OfficialModel(
    name="toy",
    repositories={"hf": REPOSITORY, "modelscope": REPOSITORY},
    required=("toy.yaml", "deep/vocab.json"),
    optional=("spk2info.pt", "absent.pt"),
    pinned={
        "toy.tiktoken": PinnedFile(
            "Org/Tools", "abc", "assets/toy.tiktoken", len(VOCABULARY),
            hashlib.sha256(VOCABULARY).hexdigest(),
        )
    },
    has_rl=True,
)  # fmt: skip
WANTED = {"toy.yaml", "deep/vocab.json", "llm.pt", "spk2info.pt", "toy.tiktoken"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    root = tmp_path / "published"
    (root / "deep").mkdir(parents=True)
    (root / "toy.yaml").write_text("a: 1\n")
    (root / "deep" / "vocab.json").write_text("{}")
    (root / "llm.pt").write_bytes(BIG)
    (root / "llm.rl.pt").write_bytes(BIG[::-1])
    (root / "spk2info.pt").write_bytes(b"speakers")
    (root / "toy.tiktoken").write_bytes(VOCABULARY)
    (root / "flow.decoder.estimator.fp32.onnx").write_bytes(BIG)
    with serving(repositories={REPOSITORY: root}) as running:
        point_at(running, monkeypatch)
        yield running


@pytest.fixture
def pauses() -> list[float]:
    return []


def source(kind: str, pauses: list[float]) -> RemoteSource:
    made = open_source(kind)
    made.client = Client(made.client.headers, pauses.append)
    return made


def pull(kind: str, folder: Path, pauses: list[float], **options: Any) -> Path:
    remote = source(kind, pauses)
    return download(plan_download(MODEL, remote), folder, remote.client, **options)


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ["hf", "modelscope"])
def test_only_the_needed_files_come(
    kind: str, hub: Hub, tmp_path: Path, pauses: list[float]
) -> None:
    seen: list[tuple[str, int, int]] = []
    folder = pull(kind, tmp_path / "got", pauses, progress=lambda *what: seen.append(what))
    assert names(folder) == WANTED | {"source.json"}
    assert (folder / "llm.pt").read_bytes() == BIG
    record = read_source(folder)
    assert record["repository"] == REPOSITORY
    assert record["revision"] == (COMMIT if kind == "hf" else "master")
    counts = [done for _, done, _ in seen]
    assert counts == sorted(counts)
    assert counts[-1] == seen[-1][2]
    assert not pauses
    before = len(hub.requests)
    pull(kind, tmp_path / "got", pauses)  # all there: only the list is asked for
    assert all("resolve" not in path for _, path, _ in hub.requests[before:])


def test_the_other_language_model(hub: Hub, tmp_path: Path, pauses: list[float]) -> None:
    remote = source("hf", pauses)
    download(plan_download(MODEL, remote, rl=True), tmp_path / "got", remote.client)
    assert (tmp_path / "got" / "llm.rl.pt").is_file()
    assert not (tmp_path / "got" / "llm.pt").exists()
    with pytest.raises(InvalidRequestError, match="reinforcement"):
        MODELS["cosyvoice2-0.5b"].weights(rl=True)


def test_a_broken_connection_goes_on_where_it_stopped(
    hub: Hub, tmp_path: Path, pauses: list[float]
) -> None:
    hub.faults["llm.pt"] = [Fault(break_after=100_000), Fault(break_after=200_000)]
    folder = pull("hf", tmp_path / "got", pauses)
    assert (folder / "llm.pt").read_bytes() == BIG
    ranges = [h.get("range") for _, p, h in hub.requests if p == f"/cdn/{REPOSITORY}/llm.pt"]
    assert ranges == [None, "bytes=100000-", "bytes=300000-"]
    assert len(pauses) == 2


def test_an_interrupted_pull_is_continued_by_the_next(
    hub: Hub, tmp_path: Path, pauses: list[float]
) -> None:
    hub.faults["llm.pt"] = [Fault(break_after=100_000), Fault(status=403)]
    with pytest.raises(ModelDownloadError, match="403"):
        pull("modelscope", tmp_path / "got", pauses)
    assert not (tmp_path / "got" / "llm.pt").exists()
    folder = pull("modelscope", tmp_path / "got", pauses)
    assert (folder / "llm.pt").read_bytes() == BIG
    assert hub.requests[-1][2].get("range") or any(
        headers.get("range") == "bytes=100000-" for _, _, headers in hub.requests
    )
    assert names(folder) == WANTED | {"source.json"}


def test_a_server_without_ranges(hub: Hub, tmp_path: Path, pauses: list[float]) -> None:
    hub.faults["llm.pt"] = [Fault(break_after=100_000), Fault(ignore_range=True)]
    assert (pull("hf", tmp_path / "got", pauses) / "llm.pt").read_bytes() == BIG


def test_a_server_that_is_busy(hub: Hub, tmp_path: Path, pauses: list[float]) -> None:
    hub.faults["llm.pt"] = [Fault(status=503), Fault(status=429, headers={"Retry-After": "7"})]
    assert (pull("hf", tmp_path / "got", pauses) / "llm.pt").read_bytes() == BIG
    assert pauses[1] == 7
    hub.faults["spk2info.pt"] = [Fault(status=500)] * 100
    with pytest.raises(ModelDownloadError, match="goes on where it stopped"):
        pull("hf", tmp_path / "other", pauses)


def test_a_damaged_file_is_refused(hub: Hub, tmp_path: Path, pauses: list[float]) -> None:
    hub.faults["llm.pt"] = [Fault(corrupt=True)] * 2
    with pytest.raises(ModelDownloadError, match=r"llm\.pt arrived damaged: checksum"):
        pull("hf", tmp_path / "got", pauses)
    assert not [name for name in names(tmp_path / "got") if "llm" in name]
    hub.faults["vocab.json"] = [Fault(corrupt=True)] * 2  # small: git's own checksum
    with pytest.raises(ModelDownloadError, match=r"vocab\.json arrived damaged: checksum"):
        pull("hf", tmp_path / "other", pauses)


def test_a_wrong_part_is_thrown_away(hub: Hub, tmp_path: Path, pauses: list[float]) -> None:
    hub.faults["llm.pt"] = [Fault(corrupt=True, break_after=1000)]
    assert (pull("hf", tmp_path / "got", pauses) / "llm.pt").read_bytes() == BIG


def test_a_pinned_file_has_its_checksum(hub: Hub, tmp_path: Path, pauses: list[float]) -> None:
    published = hub.repositories[REPOSITORY] / "toy.tiktoken"
    published.unlink()
    raw = tmp_path / "raw" / "assets"
    raw.mkdir(parents=True)
    # the server serves Org/Tools/abc/... as a file of the repository "Org/Tools/abc"
    remote = source("hf", pauses)
    plan = plan_download(MODEL, remote)
    pinned = next(file for file in plan.files if file.path == "toy.tiktoken")
    assert pinned.url == f"{hub.url}/Org/Tools/abc/assets/toy.tiktoken"
    with pytest.raises(ModelDownloadError, match="404"):
        download(plan, tmp_path / "got", remote.client)
    other = Plan(plan.model, plan.source, plan.listing, [
        downloads.RemoteFile("toy.tiktoken", f"{hub.url}/{REPOSITORY}/resolve/{COMMIT}/toy.yaml",
                             5, pinned.sha256)])  # fmt: skip
    with pytest.raises(ModelDownloadError, match="arrived damaged"):
        download(other, tmp_path / "other", remote.client)


@pytest.mark.parametrize("kind", ["hf", "modelscope"])
def test_tokens_go_to_the_hub_only(
    kind: str, hub: Hub, tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "secret"
    with pytest.raises(ModelDownloadError, match=r"401.*HF_TOKEN or MODELSCOPE_API_TOKEN"):
        pull(kind, tmp_path / "got", pauses)
    monkeypatch.setenv("HF_TOKEN" if kind == "hf" else "MODELSCOPE_API_TOKEN", "secret")
    pull(kind, tmp_path / "got", pauses)
    for role, _, headers in hub.requests:
        if role == "cdn":
            assert "authorization" not in headers
            assert "cookie" not in headers
    assert any(role == "cdn" for role, _, _ in hub.requests)


def test_a_token_from_the_login_file(
    hub: Hub, tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "saved"
    (tmp_path / "token").write_text("saved\n")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    pull("hf", tmp_path / "got", pauses)


def test_missing_things_are_named(hub: Hub, tmp_path: Path, pauses: list[float]) -> None:
    (hub.repositories[REPOSITORY] / "toy.yaml").unlink()
    with pytest.raises(ModelDownloadError, match=r"has no toy\.yaml"):
        pull("hf", tmp_path / "got", pauses)
    hub.repositories.clear()
    with pytest.raises(ModelDownloadError, match="404"):
        pull("hf", tmp_path / "got", pauses)
    with pytest.raises(ModelNotFoundError, match=r"did you mean cosyvoice2-0\.5b"):
        official_model("cosyvoice2-0.5")
    with pytest.raises(InvalidRequestError, match="choose one of hf, modelscope"):
        open_source("ftp")


def test_a_full_disk_is_noticed_before(
    hub: Hub, tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match=r"not enough space.*MYNAH_HOME"):
        pull("hf", tmp_path / "got", pauses)
    assert all("resolve" not in path for _, path, _ in hub.requests)


@pytest.mark.parametrize("variable", ["MYNAH_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_means_no_connection(
    variable: str,
    hub: Hub,
    tmp_path: Path,
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, "1")
    for kind in ("hf", "modelscope"):
        with pytest.raises(OfflineError, match=variable):
            pull(kind, tmp_path / "got", pauses)
    assert not hub.requests


def test_paths_that_leave_the_folder_are_refused(
    hub: Hub, tmp_path: Path, pauses: list[float]
) -> None:
    remote = source("hf", pauses)
    plan = plan_download(MODEL, remote)
    bad = downloads.RemoteFile("../evil", plan.files[0].url, plan.files[0].size)
    with pytest.raises(ModelDownloadError, match="outside of the folder"):
        download(Plan(MODEL, "hf", plan.listing, [bad]), tmp_path / "got", remote.client)


def test_answers_that_are_no_list(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "ftp://example.org")
    with pytest.raises(ModelDownloadError, match="no address"):
        HuggingFace().listing(REPOSITORY, None)
    monkeypatch.setenv("MODELSCOPE_DOMAIN", "modelscope.example")
    assert ModelScope().endpoint == "https://modelscope.example"


def test_the_catalogue_is_consistent() -> None:
    for name, model in MODELS.items():
        assert name == model.name == name.lower()
        assert official_model(model.repositories["hf"]) == official_model(name)
        assert not any(word in f for f in model.required for word in ("fp32", "zip", "plan"))
        json.dumps(model.required)
