from __future__ import annotations

import os
from pathlib import Path

import pytest

from mynah.errors import OutputError
from mynah.files import atomic_file


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
