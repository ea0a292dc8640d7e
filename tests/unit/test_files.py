from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mynah.errors import OutputError
from mynah.files import atomic_file, locked


def test_a_failing_block_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> None:
        with atomic_file(tmp_path / "a.bin") as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failing()
    assert os.listdir(tmp_path) == []


def test_the_file_appears_when_complete(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 55 + ".bin")
    with atomic_file(path) as stream:
        stream.write(b"all")
        assert not path.exists()
    assert path.read_bytes() == b"all"
    assert os.listdir(tmp_path) == [path.name]


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(OutputError, match=r"a part of the path is a file|cannot write"),
        atomic_file(tmp_path / "file" / "a.bin"),
    ):
        pass


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_write_protection_is_respected(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    path.chmod(0o444)
    with pytest.raises(OutputError, match="permission"), atomic_file(path):
        pass
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="no permission"), atomic_file(tmp_path / "b.bin"):
        pass
    tmp_path.chmod(0o755)


def test_a_lock_has_one_holder_and_the_next_knows(tmp_path: Path) -> None:
    path, waits, found = tmp_path / "folder" / "a.lock", threading.Event(), []

    def second() -> None:
        with locked(path, waits.set) as was_held:
            found.append(was_held)

    other = threading.Thread(target=second)
    with locked(path) as was_held:
        assert not was_held
        other.start()
        assert waits.wait(20)
        assert not found
    other.join(20)
    assert found == [True]
    with locked(path) as was_held:
        assert not was_held


def test_a_holder_that_dies_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    code = (
        "import sys; from mynah.files import locked\n"
        f"with locked({str(path)!r}): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with locked(path, process.kill) as was_held:
            assert was_held


def test_a_lock_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError), locked(tmp_path / "file" / "a.lock"):
        pass
