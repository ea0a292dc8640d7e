"""From what a user calls a model to a folder that can be loaded: installed, converted or pulled.

Torch is imported only when something must be converted, and what opens connections only for a
model of the catalogue that is not installed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mynah import hub
from mynah.backends.processor import read_cores
from mynah.errors import (
    BackendUnavailableError,
    ModelDownloadError,
    ModelNotFoundError,
    OfflineError,
)
from mynah.files import expand_user, locked
from mynah.hub.catalogue import SOURCES, OfficialModel, official_model
from mynah.hub.releases import is_official_folder, used_files
from mynah.hub.variants import DEFAULT_PRECISION, RL, SIZES, check_precision, installed_name

if TYPE_CHECKING:
    from mynah.export.official_folder import OfficialFolder
    from mynah.hub.download import Plan, Progress
    from mynah.hub.sources import RemoteSource

Report = Callable[[str], None]

_log = logging.getLogger(__name__)
_NEEDED = {"torch": "torch", "onnx": "onnx", "yaml": "pyyaml"}


def ready_model(
    model: str | os.PathLike[str] = hub.DEFAULT_MODEL,
    *,
    download: bool = True,
    confirm: Callable[[Plan], bool] = lambda plan: True,
    report: Report = _log.info,
    progress: Progress | None = None,
) -> hub.ModelFolder:
    """Find a model; convert or download it first where that is needed.

    Args:
        model: an installed name, the path of a model folder or of a released folder, or a name of
            the catalogue.
        download: whether a catalogue model that is not installed may be fetched.
        confirm: asked before a download, with what would be fetched.
        report: told about every step.
        progress: told about every block of a download.

    Raises:
        ModelNotFoundError: if there is no such model, or downloading it was declined.
        ModelFormatError: if a file of it is missing or damaged.
        OfflineError: if it would have to be downloaded and the network is forbidden.
        ModelDownloadError: if the download fails.
        BackendUnavailableError: if it must be converted and a package for that is missing.
    """
    text = os.fspath(model)
    path = expand_user(text)
    if text and is_official_folder(path):
        return convert_folder(path, report=report, threads=_threads())
    try:
        return hub.find_model(model)
    except ModelNotFoundError:
        entry = known_model(text)
        if entry is None:
            raise
    name, rl = entry
    installed = hub.home() / "models" / installed_name(name.name, rl=rl)
    if installed.is_dir():  # asked for by another spelling of its name
        return hub.find_model(installed)
    from mynah.hub.network import OFFLINE_VARIABLES, is_offline

    if is_offline():
        raise OfflineError(
            f"{name.name} is not installed, and the network is forbidden "
            f"({' or '.join(OFFLINE_VARIABLES)})",
            hint=f"run `mynah pull {name.name}` with a network once, "
            "or pass the path of a folder that was downloaded elsewhere",
        )
    declined = ModelNotFoundError(
        f"{name.name} is not installed", hint=f"run `mynah pull {name.name}`"
    )
    if not download:
        raise declined
    plan, remote = plan_pull(name.name, rl=rl)
    if not confirm(plan):
        raise declined
    return install(plan, remote, rl=rl, report=report, progress=progress)


def known_model(text: str) -> tuple[OfficialModel, bool] | None:
    """The catalogue's model of that name, and whether its ``-rl`` weights are meant."""
    for name, rl in ((text, False), (text.removesuffix(f"-{RL}"), True)):
        try:
            found = official_model(name)
        except ModelNotFoundError:
            continue
        if not rl or found.has_rl:
            return found, rl
    return None


def model_id_of(source: Path, *, rl: bool = False) -> str:
    """Model id that converting a released folder would give; ``rl`` as in ``convert_folder``.

    Raises:
        BackendUnavailableError: if a package that converting needs is missing.
        ModelError: if it is no released folder, or a damaged one.
    """
    used_files(source, rl=rl)  # what is wrong with the folder comes before what must be installed
    _require_packages(source)
    from mynah.export.official_folder import read_official_folder

    return read_official_folder(source).config.model_id


def convert_folder(
    source: Path,
    out: Path | None = None,
    *,
    precision: str = DEFAULT_PRECISION,
    rl: bool = False,
    threads: int = 1,
    name: str | None = None,
    report: Report = _log.info,
) -> hub.ModelFolder:
    """Convert a released folder; ``out`` = None puts the result into the cache.

    Whoever wants the same at the same time, in another process too, waits and finds it done.

    Raises:
        BackendUnavailableError: if a package that converting needs is missing.
        ModelError: see ``mynah.export.official.convert_official``.
        OutputError: if the result cannot be written.
    """
    check_precision(precision)
    used_files(source, rl=rl)
    _require_packages(source)
    from mynah.export.official_folder import read_official_folder

    folder = read_official_folder(source, name)
    if out is None:
        where = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:12]
        out = (
            hub.home()
            / "cache"
            / "converted"
            / where
            / installed_name(folder.config.model_id, precision, rl=rl)
        )
    with _alone(out, report):
        return _convert(folder, out, precision, rl=rl, threads=threads, report=report)


def plan_pull(
    name: str, source: str | None = None, revision: str | None = None, *, rl: bool = False
) -> tuple[Plan, RemoteSource]:
    """Ask what a download would fetch; ``source`` = None tries all of them in turn.

    Raises:
        ModelNotFoundError: if the catalogue has no such model.
        InvalidRequestError: for an unknown source, or ``rl`` where it is not published.
        OfflineError: if the network is forbidden.
        ModelDownloadError: if no source answers.
    """
    from mynah.hub.download import plan_download
    from mynah.hub.sources import open_source

    model = official_model(name)
    failures: list[str] = []
    for candidate in (source,) if source is not None else SOURCES:
        remote = open_source(candidate)
        try:
            return plan_download(model, remote, revision, rl=rl), remote
        except ModelDownloadError as error:
            if source is not None:
                raise
            failures.append(f"{candidate}: {error.message}")
            last = error
    raise ModelDownloadError("; ".join(failures), hint=last.hint) from last


def pull_model(
    name: str,
    *,
    source: str | None = None,
    revision: str | None = None,
    precision: str = DEFAULT_PRECISION,
    rl: bool = False,
    keep_source: bool = False,
    report: Report = _log.info,
    progress: Progress | None = None,
) -> hub.ModelFolder:
    """Download a model of the catalogue and convert it; it is installed under its name.

    Raises:
        ModelNotFoundError: if the catalogue has no such model.
        InvalidRequestError: for an unknown source or variant.
        OfflineError: if the network is forbidden.
        ModelDownloadError: if a file cannot be had or its checksum is wrong.
        OutputError: if the disk is too small or cannot be written.
        BackendUnavailableError: if a package that converting needs is missing.
        ModelError: if the conversion fails.
    """
    check_precision(precision)
    plan, remote = plan_pull(name, source, revision, rl=rl)
    return install(
        plan,
        remote,
        precision=precision,
        rl=rl,
        keep_source=keep_source,
        report=report,
        progress=progress,
    )


def install(
    plan: Plan,
    remote: RemoteSource,
    *,
    precision: str = DEFAULT_PRECISION,
    rl: bool = False,
    keep_source: bool = False,
    report: Report = _log.info,
    progress: Progress | None = None,
) -> hub.ModelFolder:
    """Carry out a plan; see ``pull_model``.

    Somebody who installs the same at the same time is waited for; then nothing is left to do.
    """
    _require_packages(plan.model.name)  # before anything is downloaded
    out = hub.home() / "models" / installed_name(plan.model.name, precision, rl=rl)
    before = _stamp(out)
    with _alone(out, report) as waited:
        if waited and before != _stamp(out) is not None:
            return hub.find_model(out)
        spare = int(plan.size * SIZES[precision])
        place = _fetch(plan, remote, spare, report, progress)
        from mynah.export.official_folder import read_official_folder

        source = read_official_folder(place)
        folder = _convert(source, out, precision, rl=rl, threads=_threads(), report=report)
        if keep_source:
            report(f"the release is kept in {place}")
        else:
            shutil.rmtree(place, ignore_errors=True)
    report(f"installed as {folder.name} in {folder.path}")
    return folder


def _fetch(
    plan: Plan, remote: RemoteSource, spare: int, report: Report, progress: Progress | None
) -> Path:
    """Download what is missing of a release, leaving ``spare`` bytes free; return its folder."""
    from mynah.hub.download import download

    revision = hashlib.sha256(plan.listing.revision.encode()).hexdigest()[:12]
    place = hub.home() / "cache" / "official" / f"{plan.model.name}-{plan.source}-{revision}"
    report(
        f"downloading {plan.model.name} ({plan.size / 1e6:.0f} MB) from {plan.source}:"
        f"{plan.listing.repository} at {plan.listing.revision[:12]}"
    )
    return download(plan, place, remote.client, progress, spare=spare)


def _convert(
    folder: OfficialFolder,
    out: Path,
    precision: str,
    *,
    rl: bool,
    threads: int,
    report: Report,
) -> hub.ModelFolder:
    from mynah.export.official import convert_official

    return convert_official(folder, out, precision=precision, rl=rl, threads=threads, report=report)


def _alone(out: Path, report: Report) -> AbstractContextManager[bool]:
    """Be the only one who writes a model folder; tells whether somebody else was before."""
    where = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:12]
    return locked(
        hub.home() / "cache" / "locks" / f"{where}.lock",
        lambda: report(f"waiting for another process that makes {out.name}"),
    )


def _stamp(out: Path) -> int | None:
    """Changes when a model folder is written; None = there is none."""
    try:
        return (out / hub.MANIFEST_NAME).stat().st_mtime_ns
    except OSError:
        return None


def _require_packages(source: Path | str) -> None:
    missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise BackendUnavailableError(
            f"{source} must be converted first, which needs {', '.join(missing)}",
            hint='pip install "mynah-tts[convert]", or convert on another machine: '
            "the result runs without these packages",
        )


def _threads() -> int:
    return min(read_cores().usable, 4)
