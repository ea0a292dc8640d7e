"""The single checks of ``mynah doctor``. Each says what it found; none raises."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from mynah import __version__
from mynah.backends.processor import read_processor
from mynah.errors import OutputError, SynthesisError
from mynah.files import check_folder

DISTRIBUTION = "mynah-tts"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    name: str
    state: Literal["ok", "missing", "slow", "failed"]
    """``missing``: optional, and not there. ``slow``: works, but there is something faster."""
    detail: str
    cure: str = ""

    def as_dict(self) -> dict[str, str]:
        """Plain values for JSON."""
        return asdict(self)


def all_checks(model: str) -> Iterator[Check]:
    """Run every check, one after the other; that of the model's files comes last."""
    yield python_version()
    yield Check("machine", "ok", machine())
    yield from packages()
    yield writable_home()
    yield model_files(model)


def python_version() -> Check:
    """Which interpreter runs (an older one than 3.11 cannot even read these files)."""
    return Check("python", "ok", f"{platform.python_version()} ({sys.executable})")


def machine() -> str:
    """Describe system, processor, cores and the instructions that matter for speed."""
    processor = read_processor()
    there = [name for name in processor.known if name in (processor.features or ())]
    shown = f", {' '.join(there)}" if there else ""
    return (
        f"{platform.system()} {platform.release()} {processor.machine}, "
        f"{processor.name}, {processor.cores}{shown}"
    )


def packages() -> Iterator[Check]:
    """The packages of the base installation, then those of each extra."""
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Check(
            "packages", "missing", "mynah runs from a folder and is not installed", "pip install ."
        )
        return
    groups: dict[str, list[str]] = {}
    for requirement in requirements:
        name = re.split(r"[\s\[<>=!~;(]", requirement, maxsplit=1)[0]
        extra = re.search(r"extra\s*==\s*['\"](\w+)['\"]", requirement)
        if name != DISTRIBUTION:
            groups.setdefault(extra[1] if extra else "", []).append(name)
    yield _group("packages", groups.pop("", []), needed=True, install=DISTRIBUTION)
    for extra_name in sorted(groups.keys() - {"dev"}):
        target = f"'{DISTRIBUTION}[{extra_name}]'"
        yield _group(f"extra {extra_name}", groups[extra_name], needed=False, install=target)


def writable_home() -> Check:
    """Voices and checksums are kept in the home folder of mynah."""
    from mynah.hub import home

    try:
        return Check("voices folder", "ok", f"{check_folder(home())} can be written")
    except OutputError as error:
        cure = "set MYNAH_HOME to a folder that you may write to"
        return Check("voices folder", "failed", error.message, cure)


def model_files(model: str) -> Check:
    """Compare every file of a model with its sha256."""
    from mynah.cli.console import megabytes
    from mynah.hub import find_model, verify_model

    name = f"model {Path(model).name}"
    try:
        found = verify_model(find_model(model, checksums=False).path, force=True)
    except SynthesisError as error:
        return Check(name, "failed", error.message, error.hint)
    return Check(
        name, "ok", f"{len(found.files)} files, {megabytes(found.size)}, all checksums right"
    )


def _group(name: str, members: list[str], *, needed: bool, install: str) -> Check:
    versions: dict[str, str] = {}
    missing = []
    for member in members:
        try:
            versions[member] = metadata.version(member)
        except metadata.PackageNotFoundError:
            missing.append(member)
    there = ", ".join(f"{member} {version}" for member, version in versions.items())
    if not missing:
        return Check(name, "ok", there)
    detail = f"missing: {', '.join(missing)}" + (f"; there: {there}" if there else "")
    return Check(name, "failed" if needed else "missing", detail, f"pip install {install}")


def environment() -> dict[str, Any]:
    """Describe what a measurement was made on."""
    return {
        "machine": machine(),
        "python": platform.python_version(),
        "onnxruntime": _version("onnxruntime"),
        "numpy": _version("numpy"),
        "mynah": __version__,
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
