"""Writing a file so that it is either complete or not there, and one writer at a time."""

from __future__ import annotations

import errno
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mynah.errors import OutputError

_CURES = {
    errno.ENOSPC: "the disk is full: free some space or choose another disk",
    errno.EDQUOT: "your disk quota is used up: free some space",
    errno.EACCES: "no permission: choose a folder that you may write to",
    errno.EPERM: "no permission: choose a folder that you may write to",
    errno.EROFS: "the disk is read-only: choose another folder",
    errno.ENOENT: "the folder does not exist: create it first",
    errno.ENOTDIR: "a part of the path is a file, not a folder: choose another path",
    errno.EISDIR: "that is a folder: add a file name",
    errno.ENAMETOOLONG: "the file name is too long: choose a shorter one",
    errno.EPIPE: "the reading side closed the pipe",
}


def output_error(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """Translate what the system said about ``path`` into an error that names the cure."""
    cure = _CURES.get(error.errno or 0, "choose another path")
    reason = error.strerror or str(error)
    return OutputError(f"cannot write {os.fspath(path)}: {reason}", hint=cure)


def part_name(path: Path) -> Path:
    """Return a fresh hidden name beside ``path`` for an unfinished file."""
    return path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}.part")


def check_target(path: str | os.PathLike[str]) -> Path:
    """Resolve the place of an output file.

    Raises:
        OutputError: if it is a folder or an existing file that may not be changed.
    """
    target = Path(path)
    try:
        target = target.resolve()  # writes go through links instead of replacing them
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, "the file is write-protected")
    except (OSError, RuntimeError, ValueError) as error:
        raise _as_output_error(path, error) from error
    return target


def check_new_file(path: str | os.PathLike[str]) -> Path:
    """Resolve the place of an output file, and try whether it could be made there.

    Raises:
        OutputError: as writing it would, before there is anything to write.
    """
    target = check_target(path)
    try:
        with suppress(FileNotFoundError):
            target.lstat()  # finds names that are too long
        if not target.exists() or target.is_file():  # devices and pipes are written directly
            with tempfile.TemporaryFile(dir=target.parent):
                pass
    except OSError as error:
        raise output_error(path, error) from error
    return target


def check_folder(path: str | os.PathLike[str]) -> Path:
    """Try whether files could be put into a folder; it and those above it need not exist yet.

    Raises:
        OutputError: as making the folder or a file in it would.
    """
    folder = Path(path)
    try:
        with suppress(FileNotFoundError):
            folder.lstat()
        nearest = folder.absolute()
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise output_error(path, error) from error
    return folder


def expand_user(path: str | os.PathLike[str]) -> Path:
    """Replace a leading ``~``; a user that the system does not know stays as written."""
    return Path(os.path.expanduser(path))


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a hidden file beside ``path`` that takes its place when the block ends well.

    Devices and pipes (``/dev/null``) are written directly. Whatever goes wrong, Ctrl-C included,
    nothing is left behind and an older file stays as it was.

    Raises:
        OutputError: if the folder is missing or unwritable, or the disk is full.
    """
    target = check_target(path)
    direct = target.exists() and not target.is_file()
    part = target if direct else part_name(target)
    try:
        with open(part, "wb" if direct else "xb") as stream:
            yield stream
            stream.flush()
            if not direct:
                os.fsync(stream.fileno())
        if not direct:
            os.replace(part, target)
    except OutputError:
        raise
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        if not direct:
            with suppress(OSError):
                part.unlink(missing_ok=True)


@contextmanager
def locked(
    path: str | os.PathLike[str], on_wait: Callable[[], None] = lambda: None
) -> Iterator[bool]:
    """Do something that only one process does at a time, and in it one thread.

    The system lets go of the lock when its holder ends, however it ends; the empty file stays.
    File systems without locks are used without.

    Args:
        path: of the lock's file; folders are made.
        on_wait: called before waiting, if somebody else has it.

    Yields:
        Whether somebody else had it, and may have done the work.

    Raises:
        OutputError: if the file cannot be made.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        stream = open(target, "a+b")  # noqa: SIM115 - closed below
    except OSError as error:
        raise output_error(target, error) from error
    with stream:  # closing it lets go of the lock
        waits = not _lock(stream.fileno(), wait=False)
        if waits:
            on_wait()
            _lock(stream.fileno(), wait=True)
        yield waits


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, *, wait: bool) -> bool:
        """Take the lock of an open file; False = somebody else has it."""
        while True:
            try:
                msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
                return True
            except OSError:  # LK_LOCK gives up after ten seconds
                if not wait:
                    return False

else:
    import fcntl

    def _lock(descriptor: int, *, wait: bool) -> bool:
        """Take the lock of an open file; False = somebody else has it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        return True


def _as_output_error(path: str | os.PathLike[str], error: Exception) -> OutputError:
    if isinstance(error, OSError):
        return output_error(path, error)
    return OutputError(f"cannot write {os.fspath(path)!r}: {error}", hint="choose another path")
