"""Finding model folders and proving that their files are whole. Never uses the network.

A model folder holds ``config.json``, ``manifest.json`` (file name -> size and sha256) and the
files named there. The manifest of a converted model also tells where it came from.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mynah.config import ModelConfig
from mynah.errors import InvalidRequestError, ModelFormatError, ModelNotFoundError
from mynah.files import expand_user

DEFAULT_MODEL = "nano"
CONFIG_NAME = "config.json"
MANIFEST_NAME = "manifest.json"
HOME_VARIABLE = "MYNAH_HOME"
CONVERSION = "conversion"
"""Entry of the manifest that is no file: what a converted model was made from, and by what."""
FIDELITY = "fidelity"
"""Another one: how far the model is from the exact one, measured end to end; for people."""

_AGAIN = "download or install the model again"
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What the manifest promises about one file."""

    size: int
    """In bytes."""
    sha256: str
    """Hexadecimal."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model on disk whose manifest was read and whose file sizes are right."""

    name: str
    path: Path
    files: Mapping[str, FileEntry]
    conversion: Mapping[str, Any] = field(default_factory=dict)
    """Source, revision and checksums of an official model that this one was made from."""
    variants: Mapping[str, str] = field(default_factory=dict)
    """How a graph's weights are stored, by its file name: ``int8``, ``float32`` ..."""

    def file(self, name: str) -> Path:
        """Return the path of one file of the manifest.

        Raises:
            ModelFormatError: if the model has no such file.
        """
        if name not in self.files:
            raise ModelFormatError(f"model {self.name} ({self.path}) has no {name}", hint=_AGAIN)
        return self.path / name

    def config(self) -> ModelConfig:
        """Read the configuration.

        Raises:
            ModelFormatError: if it is missing or wrong.
        """
        return ModelConfig.load(self.path / CONFIG_NAME)

    @property
    def voices_path(self) -> Path:
        """Folder of the voices that come with the model; may be missing."""
        return self.path / "voices"

    @property
    def size(self) -> int:
        """Sum of all files in bytes."""
        return sum(entry.size for entry in self.files.values())


def home() -> Path:
    """Folder for the user's models and voices: ``MYNAH_HOME``, or the platform's data folder."""
    if value := os.environ.get(HOME_VARIABLE):
        return expand_user(value)
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else _user_home() / "AppData" / "Local") / "mynah"
    if sys.platform == "darwin":
        return _user_home() / "Library" / "Application Support" / "mynah"
    # The specification says that relative values are to be ignored.
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (data if data.is_absolute() else _user_home() / ".local" / "share") / "mynah"


def _user_home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:  # an account that the system does not know, as in a container
        raise InvalidRequestError(
            "the home folder cannot be determined", hint=f"set {HOME_VARIABLE} to a folder"
        ) from error


def model_roots() -> list[Path]:
    """Folders that are searched for models, in order: the user's, then those in the package."""
    return [home() / "models", Path(__file__).parents[1] / "models"]


def model_names() -> list[str]:
    """Names of the models that can be loaded, sorted."""
    names: set[str] = set()
    for root in model_roots():
        with suppress(OSError):
            names.update(entry.name for entry in root.iterdir() if _is_model(entry))
    return sorted(names)


def find_model(
    name_or_path: str | os.PathLike[str] = DEFAULT_MODEL, *, checksums: bool = True
) -> ModelFolder:
    """Find a model and check it.

    Args:
        name_or_path: a name such as ``nano``, or the path of a model folder.
        checksums: also compare sha256, once for each state of a file (see ``verify_model``).

    Raises:
        ModelNotFoundError: with what was tried and the names that exist.
        ModelFormatError: if the manifest is unusable or a file is missing or damaged.
    """
    text = os.fspath(name_or_path)
    tried: list[Path] = []
    # A plain name means an installed model, even if a folder here has the same name.
    if text and PurePosixPath(text).name == text and "\\" not in text and text not in (".", ".."):
        tried += [root / text for root in model_roots()]
    if text:
        tried.append(expand_user(text))
    for path in tried:
        if _is_model(path):
            return verify_model(path, checksums=checksums)
    folder = next((path for path in tried if path.is_dir()), None)
    if folder is not None:
        raise ModelFormatError(
            f"{folder} is no model folder: it has no {CONFIG_NAME}",
            hint=f"pass the folder that holds {CONFIG_NAME} and {MANIFEST_NAME}",
        )
    known = model_names()
    close = difflib.get_close_matches(text, known, n=1)
    cure = f"did you mean {close[0]}? " if close else ""
    cure += f"known models: {', '.join(known) or 'none'}; or pass the path of a model folder"
    places = ", ".join(map(str, tried)) or "nothing"
    raise ModelNotFoundError(f"there is no model {text!r}; tried {places}", hint=cure)


def verify_model(
    path: str | os.PathLike[str], *, checksums: bool = True, force: bool = False
) -> ModelFolder:
    """Compare a model folder with its manifest: sizes always, sha256 when asked.

    A file whose checksum was right is not read again until its size or time changes; that is
    remembered under ``MYNAH_HOME/cache``.

    Args:
        path: the model folder.
        checksums: compare sha256.
        force: forget what is remembered.

    Raises:
        ModelFormatError: naming the first file that is missing, truncated or changed.
    """
    folder = Path(path).resolve()
    files, conversion, variants = _read_manifest(folder)
    remembered = {} if force or not checksums else _read_cache()
    changed = False
    for name, entry in files.items():
        file = folder / name
        try:
            status = file.stat()
        except OSError as error:
            raise ModelFormatError(
                f"model file {file} is missing: {error.strerror}", hint=_AGAIN
            ) from error
        if status.st_size != entry.size:
            word = "truncated" if status.st_size < entry.size else "too long"
            raise ModelFormatError(
                f"model file {file} is {word}: {status.st_size} bytes, expected {entry.size}",
                hint=_AGAIN,
            )
        stamp = [status.st_size, status.st_mtime_ns, entry.sha256]
        if checksums and remembered.get(str(file)) != stamp:
            actual = file_sha256(file)
            if actual != entry.sha256:
                raise ModelFormatError(
                    f"model file {file} is damaged: sha256 {actual[:12]}..., "
                    f"expected {entry.sha256[:12]}...",
                    hint=_AGAIN,
                )
            remembered[str(file)] = stamp
            changed = True
    if changed:
        _write_cache(remembered)
    return ModelFolder(folder.name, folder, files, conversion, variants)


def checksums(files: Mapping[str, Path]) -> dict[str, FileEntry]:
    """Size and sha256 of files by name; computed once for each state of a file.

    Raises:
        ModelFormatError: if a file cannot be read.
    """
    remembered = _read_cache()
    found: dict[str, FileEntry] = {}
    for name, path in files.items():
        key = str(path.resolve())
        try:
            status = path.stat()
        except OSError as error:
            raise ModelFormatError(f"cannot read {path}: {error.strerror}", hint=_AGAIN) from error
        known = remembered.get(key)
        if known is None or known[:2] != [status.st_size, status.st_mtime_ns]:
            known = [status.st_size, status.st_mtime_ns, file_sha256(path)]
            remembered[key] = known
        found[name] = FileEntry(status.st_size, str(known[2]))
    _write_cache(remembered)
    return found


def write_manifest(path: str | os.PathLike[str]) -> Path:
    """Describe every file of a model folder in its ``manifest.json``; return that file's path."""
    folder = Path(path)
    target = folder / MANIFEST_NAME
    names = sorted(
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.is_file() and file != target and not file.name.startswith(".")
    )
    entries = {
        name: {"size": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)}
        for name in names
    }
    target.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return target


def note_fidelity(path: str | os.PathLike[str], facts: Mapping[str, Any]) -> None:
    """Write into the manifest of a model folder how far it is from the exact model."""
    target = Path(path) / MANIFEST_NAME
    entries = json.loads(target.read_text(encoding="utf-8"))
    entries[FIDELITY] = dict(facts)
    part = target.with_name(f".{target.name}.part")
    part.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    os.replace(part, target)


def _is_model(path: Path) -> bool:
    return (path / CONFIG_NAME).is_file()


def _read_manifest(
    folder: Path,
) -> tuple[dict[str, FileEntry], dict[str, Any], dict[str, str]]:
    path = folder / MANIFEST_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        conversion = dict(content.pop(CONVERSION, {}))
        content.pop(FIDELITY, None)
        files = {
            str(name): FileEntry(size=int(entry["size"]), sha256=str(entry["sha256"]).lower())
            for name, entry in content.items()
        }
        variants = {
            name: str(entry["variant"]) for name, entry in content.items() if "variant" in entry
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelFormatError(f"cannot read the manifest {path}: {error}", hint=_AGAIN) from error
    for name in files:
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or "\\" in name or ":" in name:
            raise ModelFormatError(
                f"the manifest {path} names {name!r}, which is outside of the folder", hint=_AGAIN
            )
    if CONFIG_NAME not in files:
        raise ModelFormatError(f"the manifest {path} does not list {CONFIG_NAME}", hint=_AGAIN)
    return files, conversion, variants


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file of any size.

    Raises:
        ModelFormatError: if it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while block := stream.read(_READ_BYTES):
                digest.update(block)
    except OSError as error:
        raise ModelFormatError(
            f"cannot read the model file {path}: {error.strerror}", hint=_AGAIN
        ) from error
    return digest.hexdigest()


def _cache_path() -> Path:
    return home() / "cache" / "checksums.json"


def _read_cache() -> dict[str, Any]:
    try:
        content = json.loads(_cache_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_cache(content: dict[str, Any]) -> None:
    """Remember what was checked; without a writable home the next start checks again."""
    path = _cache_path()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content), encoding="utf-8")
        os.replace(part, path)
