"""The real command in processes of its own, without any socket."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import mynah

EMBEDDED = Path(mynah.__file__).parent / "models" / "nano"
_BLOCKED = Path(__file__).parent / "blocked"
_PACKAGES = Path(mynah.__file__).parents[1]
_TIMEOUT_S = 120


@dataclass(frozen=True)
class Command:
    """Runs ``mynah`` in a folder."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def arguments(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "mynah", *words]

    def environment(self) -> dict[str, str]:
        paths = [str(_BLOCKED), str(_PACKAGES), os.environ.get("PYTHONPATH", "")]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "OMP_NUM_THREADS": "1",
            **self.variables,
        }

    def __call__(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.arguments(*words),
            input=stdin.encode(),
            capture_output=True,
            cwd=self.folder,
            env=self.environment(),
            timeout=_TIMEOUT_S,
            check=False,
        )

    @contextmanager
    def start(self, *words: str, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Run ``mynah`` beside the test; afterwards it is gone and its pipes are closed."""
        with _listening_for_ctrl_c():
            process = subprocess.Popen(
                self.arguments(*words), cwd=self.folder, env=self.environment(), **streams
            )
        try:
            yield process
        finally:
            process.kill()  # nothing happens where it has ended
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # what it did not read
                        pipe.close()
            process.wait()


@contextmanager
def _listening_for_ctrl_c() -> Iterator[None]:
    """What is started in the block gets SIGINT as a terminal's command does.

    A shell without job control ignores it for what runs in its background, and that is inherited:
    the tests themselves may run so. A handler is not inherited; it becomes the default.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of random weights, called nano: it answers as fast as can be."""
    from tests.tiny_model import build_tiny_model

    folder = tmp_path_factory.mktemp("models") / "nano"
    build_tiny_model(folder)
    return folder


@pytest.fixture
def command(tmp_path: Path, mynah_home: Path, tiny_model: Path) -> Command:
    """``mynah`` whose model nano is the tiny one."""
    shutil.copytree(tiny_model, mynah_home / "models" / "nano", copy_function=os.link)
    return Command(tmp_path)


@pytest.fixture
def embedded_command(tmp_path: Path) -> Command:
    """``mynah`` as a stranger gets it: the embedded voice."""
    assert EMBEDDED.is_dir(), "the embedded model is missing; recipes/nano makes it"
    return Command(tmp_path)


@pytest.fixture
def message() -> Callable[[subprocess.CompletedProcess[bytes]], str]:
    """What a command said on standard error, which must never be a traceback."""

    def read(result: subprocess.CompletedProcess[bytes]) -> str:
        text = result.stderr.decode()
        assert "Traceback" not in text
        return text

    return read
