"""Fetching files: resumable, verified, and never half there under their final name."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mynah.errors import ModelDownloadError, OutputError
from mynah.files import output_error
from mynah.hub.catalogue import OfficialModel
from mynah.hub.network import Client, PassingError, RangeRefusedError
from mynah.hub.sources import Listing, RemoteFile, RemoteSource, pinned_file

SOURCE_NAME = "source.json"
"""File in a downloaded folder: where it came from, with the checksum of every file."""

Progress = Callable[[str, int, int], None]
"""Called with the file's name, bytes done and bytes in all (of everything)."""

_BLOCK = 1 << 20
_SPARE = 50_000_000


@dataclass(frozen=True)
class Plan:
    """What has to be fetched for a model."""

    model: OfficialModel
    source: str
    listing: Listing
    files: Sequence[RemoteFile]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(file.size for file in self.files)


def plan_download(
    model: OfficialModel, source: RemoteSource, revision: str | None = None, *, rl: bool = False
) -> Plan:
    """Ask the source which files there are, and choose the needed ones.

    Args:
        model: of the catalogue.
        source: Hugging Face or ModelScope.
        revision: branch, tag or commit; None = the newest.
        rl: take the language model after reinforcement learning.

    Raises:
        InvalidRequestError: if ``rl`` is not published.
        OfflineError: if the network is forbidden.
        ModelDownloadError: if the source does not answer, or the repository lacks a file.
    """
    weights = model.weights(rl=rl)
    listing = source.listing(model.repositories[source.name], revision)  # type: ignore[index]
    missing = [name for name in (*model.required, weights) if name not in listing.files]
    if missing:
        raise ModelDownloadError(
            f"{listing.repository} at {listing.revision} has no {', '.join(missing)}",
            hint="choose another revision or source",
        )
    names = [*model.required, weights, *(n for n in model.optional if n in listing.files)]
    files = [listing.files[name] for name in names]
    for name, pin in (model.pinned or {}).items():
        files.append(listing.files.get(name) or pinned_file(name, pin))
    return Plan(model, source.name, listing, files)


def check_space(folder: Path, needed: int) -> None:
    """Refuse to start what the disk cannot hold.

    Raises:
        OutputError: with what is needed and what is free.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed + _SPARE:
        raise OutputError(
            f"not enough space on the disk of {existing}: {(needed + _SPARE) / 1e9:.1f} GB are "
            f"needed, {free / 1e9:.1f} GB are free",
            hint="free some space, or set MYNAH_HOME to a folder on another disk",
        )


def download(
    plan: Plan, folder: Path, client: Client, progress: Progress | None = None, *, spare: int = 0
) -> Path:
    """Fetch everything of a plan into ``folder``; what is there already is not fetched again.

    Args:
        plan: what to fetch.
        folder: where to; made if missing.
        client: with the source's credentials.
        progress: told about every block.
        spare: bytes that must stay free on the disk, for what comes after.

    Raises:
        OutputError: if the disk is full or the folder cannot be written.
        OfflineError: if the network is forbidden.
        ModelDownloadError: if a file cannot be had, or its checksum is wrong.
    """
    todo = [file for file in plan.files if not _is_there(folder, file)]
    done = plan.size - sum(file.size for file in todo)
    left = sum(file.size - _part_size(folder, file) for file in todo)
    check_space(folder, left + spare)
    # Credentials are for the source; files from elsewhere are asked for without.
    anonymous = Client(pause=client.pause)
    for file in todo:
        own = file.path in plan.listing.files
        before = done

        def report(count: int, name: str = file.path, start: int = before) -> None:
            if progress is not None:
                progress(name, start + count, plan.size)

        fetch(file, _place(folder, file.path), client if own else anonymous, report)
        done += file.size
    record = {
        "name": plan.model.name,
        "source": plan.source,
        "repository": plan.listing.repository,
        "revision": plan.listing.revision,
        "licence": plan.model.licence,
    }
    try:
        (folder / SOURCE_NAME).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise output_error(folder / SOURCE_NAME, error) from error
    return folder


def read_source(folder: Path) -> Mapping[str, Any]:
    """Where a downloaded folder came from; empty if nobody wrote it down."""
    try:
        content = json.loads((folder / SOURCE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def fetch(file: RemoteFile, target: Path, client: Client, progress: Callable[[int], None]) -> None:
    """Fetch one file; a part that an earlier call left is continued.

    Raises:
        OutputError: if it cannot be written.
        OfflineError: if the network is forbidden.
        ModelDownloadError: if it cannot be had, or its checksum is wrong twice.
    """
    part = _part(target, file)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for is_last in (False, True):
            client.retry(file.url, lambda: _continue(file, part, client, progress))
            problem = _problem(file, part)
            if problem is None:
                os.replace(part, target)
                return
            part.unlink()
            # Parts of several connections may not belong together: once more, in one go.
            if is_last:
                raise ModelDownloadError(
                    f"{file.url} arrived damaged: {problem}",
                    hint="try again, or another source; a proxy may have changed it",
                )
    except OutputError:
        raise
    except OSError as error:
        raise output_error(target, error) from error


def _continue(
    file: RemoteFile, part: Path, client: Client, progress: Callable[[int], None]
) -> None:
    """One connection's worth of a file; complete when it returns."""
    start = part.stat().st_size if part.exists() else 0
    if start == file.size and part.exists():
        progress(start)
        return
    if start > file.size:
        part.unlink()
        start = 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    count = start
    try:
        with client.open(file.url, headers) as answer:
            is_rest = answer.status == 206
            if is_rest and not _begins_at(answer.headers.get("Content-Range"), start):
                part.unlink()
                raise PassingError("the server sent another part than asked for")
            count = start if is_rest else 0
            with open(part, "ab" if is_rest else "wb") as stream:
                while block := answer.stream.read(_BLOCK):
                    try:
                        stream.write(block)
                    except OSError as error:
                        raise _WriteError(error) from error
                    count += len(block)
                    progress(min(count, file.size))
    except RangeRefusedError:
        part.unlink(missing_ok=True)
        raise PassingError("the server refused to continue the file") from None
    except _WriteError as error:
        raise output_error(part, error.cause) from error
    except PassingError as error:
        error.progressed = count > start
        raise
    if count < file.size:
        reason = f"the connection broke after {count} of {file.size} bytes"
        raise PassingError(reason, progressed=count > start)


class _WriteError(Exception):
    """A failed write, told apart from a failed read of the connection."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _begins_at(content_range: str | None, start: int) -> bool:
    return (content_range or "").replace("=", " ").startswith(f"bytes {start}-")


def _problem(file: RemoteFile, path: Path) -> str | None:
    """What is wrong with a downloaded file; None = nothing."""
    size = path.stat().st_size
    if size != file.size:
        return f"{size} bytes instead of {file.size}"
    wanted, digest = file.sha256, hashlib.sha256()
    if wanted is None and file.git_sha1 is not None:
        # Git's own checksum of a file; not a matter of security, the connection is encrypted.
        wanted, digest = file.git_sha1, hashlib.sha1(usedforsecurity=False)
        digest.update(f"blob {size}\0".encode())
    if wanted is None:
        return None
    with open(path, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    found = digest.hexdigest()
    if found == wanted.lower():
        return None
    return f"checksum {found[:12]}..., expected {wanted[:12]}..."


def _place(folder: Path, path: str) -> Path:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\\" in path or ":" in path:
        raise ModelDownloadError(
            f"the source lists {path!r}, which is outside of the folder", hint="use another source"
        )
    return folder / path


def _part(target: Path, file: RemoteFile) -> Path:
    """Name of the unfinished file; another version of the file has another one."""
    version = (file.sha256 or file.git_sha1 or str(file.size))[:12]
    return target.with_name(f".{target.name}.{version}.part")


def _part_size(folder: Path, file: RemoteFile) -> int:
    with suppress(OSError):
        return min(_part(_place(folder, file.path), file).stat().st_size, file.size)
    return 0


def _is_there(folder: Path, file: RemoteFile) -> bool:
    """Files get their final name only after their checksum was right."""
    try:
        return _place(folder, file.path).stat().st_size == file.size
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise output_error(folder, error) from error
