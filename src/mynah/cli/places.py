"""Where a command is told to write: a wrong place is a wrong request, and said before any work."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from mynah import files
from mynah.errors import InvalidRequestError, OutputError

_NOT_THE_PLACE = (errno.ENOSPC, errno.EDQUOT)


def check_file(path: Path) -> Path:
    """Make sure that a file can be written; an older one stays as it is.

    Raises:
        InvalidRequestError: if the folder is missing, the path is a folder, or the like.
        OutputError: if the disk is full.
    """
    return _checked(files.check_new_file, path)


def check_folder(path: Path) -> Path:
    """Make sure that files can be put into a folder, which need not exist yet.

    Raises:
        InvalidRequestError: if it is a file, may not be changed, or the like.
        OutputError: if the disk is full.
    """
    return _checked(files.check_folder, path)


def _checked(check: Callable[[Path], Path], path: Path) -> Path:
    """Return the path as it was given: so it is shown."""
    try:
        check(path)
    except OutputError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NOT_THE_PLACE:
            raise
        raise InvalidRequestError(error.message, hint=error.hint) from error
    return path
