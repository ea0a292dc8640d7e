"""What Hugging Face and ModelScope say about a repository: files, sizes, checksums, addresses."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urljoin

from mynah.errors import InvalidRequestError, ModelDownloadError
from mynah.files import expand_user
from mynah.hub.catalogue import SOURCES, PinnedFile
from mynah.hub.network import Client

_GITHUB_VARIABLE = "MYNAH_GITHUB_ENDPOINT"
_NEXT_PAGE = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be downloaded."""

    path: str
    """Inside the repository, with ``/``."""
    url: str
    size: int
    """In bytes."""
    sha256: str | None = None
    git_sha1: str | None = None
    """Checksum that git gives to a file which is stored as it is."""


@dataclass(frozen=True)
class Listing:
    """A repository at one revision."""

    repository: str
    revision: str
    """The commit, where the source tells it, else what was asked for."""
    files: Mapping[str, RemoteFile]


class RemoteSource(Protocol):
    """A place where models are published."""

    name: str
    client: Client

    def listing(self, repository: str, revision: str | None) -> Listing:
        """List all files of a repository.

        Raises:
            OfflineError: if the network is forbidden.
            ModelDownloadError: if it cannot be had or understood.
        """


class HuggingFace:
    """huggingface.co, or a mirror named by ``HF_ENDPOINT``."""

    name = "hf"

    def __init__(self, client: Client | None = None) -> None:
        """Read endpoint and token from the environment, as ``huggingface_hub`` does."""
        self.endpoint = _endpoint("HF_ENDPOINT", "https://huggingface.co")
        token = _hf_token()
        self.client = client or Client({"Authorization": f"Bearer {token}"} if token else {})

    def listing(self, repository: str, revision: str | None) -> Listing:
        """See ``RemoteSource``."""
        api = f"{self.endpoint}/api/models/{repository}"
        info, _ = self.client.json(f"{api}/revision/{quote(revision or 'main', safe='')}")
        url: str | None
        try:
            commit = str(info["sha"])
            url = f"{api}/tree/{commit}?recursive=true"
            files: dict[str, RemoteFile] = {}
            while url:
                page, headers = self.client.json(url)
                for entry in page:
                    if entry["type"] == "file":
                        file = self._file(repository, commit, entry)
                        files[file.path] = file
                more = _NEXT_PAGE.search(headers.get("Link") or "")
                url = urljoin(url, more.group(1)) if more else None
        except (KeyError, TypeError, ValueError) as error:
            raise _strange(self.endpoint, error) from error
        return Listing(repository, commit, files)

    def _file(self, repository: str, commit: str, entry: Mapping[str, Any]) -> RemoteFile:
        path, large = str(entry["path"]), entry.get("lfs")
        return RemoteFile(
            path=path,
            url=f"{self.endpoint}/{repository}/resolve/{commit}/{quote(path)}",
            size=int((large or entry)["size"]),
            sha256=str(large["oid"]) if large else None,
            git_sha1=None if large else entry.get("oid"),
        )


class ModelScope:
    """modelscope.cn, or the site named by ``MODELSCOPE_DOMAIN``."""

    name = "modelscope"

    def __init__(self, client: Client | None = None) -> None:
        """Read domain and token from the environment, as the ``modelscope`` package does."""
        self.endpoint = _endpoint("MODELSCOPE_DOMAIN", "https://www.modelscope.cn")
        token = os.environ.get("MODELSCOPE_API_TOKEN")
        headers = {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"}
        self.client = client or Client(headers if token else {})

    def listing(self, repository: str, revision: str | None) -> Listing:
        """See ``RemoteSource``."""
        wanted = revision or "master"
        url = f"{self.endpoint}/api/v1/models/{repository}/repo/files"
        answer, _ = self.client.json(f"{url}?Revision={quote(wanted, safe='')}&Recursive=true")
        try:
            if answer.get("Code", 200) != 200 or answer.get("Data") is None:
                raise ModelDownloadError(
                    f"{url} answered {answer.get('Code')}: {answer.get('Message', '')}",
                    hint="check the name, the revision and MODELSCOPE_API_TOKEN",
                )
            base = f"{self.endpoint}/models/{repository}/resolve/{quote(wanted, safe='')}"
            files = {
                str(entry["Path"]): RemoteFile(
                    path=str(entry["Path"]),
                    url=f"{base}/{quote(str(entry['Path']))}",
                    size=int(entry["Size"]),
                    sha256=entry.get("Sha256") or None,
                )
                for entry in answer["Data"]["Files"]
                if entry.get("Type") != "tree"
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _strange(self.endpoint, error) from error
        return Listing(repository, wanted, files)


def open_source(name: str) -> RemoteSource:
    """Make the source of that name.

    Raises:
        InvalidRequestError: if there is none.
    """
    if name not in SOURCES:
        raise InvalidRequestError(
            f"there is no source {name!r}", hint=f"choose one of {', '.join(SOURCES)}"
        )
    return HuggingFace() if name == "hf" else ModelScope()


def pinned_file(name: str, file: PinnedFile) -> RemoteFile:
    """Where a file of a GitHub repository is; ``MYNAH_GITHUB_ENDPOINT`` names a mirror."""
    endpoint = _endpoint(_GITHUB_VARIABLE, "https://raw.githubusercontent.com")
    url = f"{endpoint}/{file.repository}/{file.commit}/{file.path}"
    return RemoteFile(name, url, file.size, file.sha256)


def _endpoint(variable: str, default: str) -> str:
    value = os.environ.get(variable, "").strip().rstrip("/")
    if not value:
        return default
    return value if "://" in value else f"https://{value}"


def _hf_token() -> str | None:
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if token := os.environ.get(variable, "").strip():
            return token
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    path = os.environ.get("HF_TOKEN_PATH") or str(Path(home) / "token")
    try:
        return expand_user(path).read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None


def _strange(endpoint: str, error: Exception) -> ModelDownloadError:
    return ModelDownloadError(
        f"the answer of {endpoint} cannot be understood: {type(error).__name__} {error}",
        hint="check the endpoint; a newer mynah may know a newer format",
    )
