"""Released folders of random weights, made once for a test session."""

from __future__ import annotations

import functools
import shutil
import tempfile
import weakref
from pathlib import Path

from recipes.random_models.folder import write_folder


class _Made:
    """A folder that goes away with the process."""

    def __init__(self, generation: int) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="mynah-official-"))
        self.path = write_folder(self.root / "release", generation, reinforced=generation == 3)
        weakref.finalize(self, shutil.rmtree, self.root, ignore_errors=True)


@functools.cache
def _made(generation: int) -> _Made:
    return _Made(generation)


def released_folder(generation: int) -> Path:
    """A tiny release of a generation; tests must not change it (``copy_release``)."""
    return _made(generation).path


def copy_release(generation: int, target: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(released_folder(generation), target)
    return target
