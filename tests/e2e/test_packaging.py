"""What is installed: a wheel of this platform with the kernels, or one for any; the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = "mynah/backends/native/libmynah"
pytest.importorskip("hatchling", reason="builds without network need the build backend here")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources, without the large files of models; a wrong library lies among them."""
    folder = tmp_path_factory.mktemp("packaging") / "source"
    unneeded = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.onnx", "libmynah*")
    for name in ("src", "native"):
        shutil.copytree(ROOT / name, folder / name, ignore=unneeded)
    for path in (*ROOT.glob("*.md"), *(ROOT / n for n in ("LICENSE", "pyproject.toml"))):
        shutil.copy(path, folder)
    shutil.copy(ROOT / "hatch_build.py", folder)
    shutil.copy(ROOT / ".gitignore", folder)
    for suffix in ("so", "dylib", "dll", "stamp"):
        (folder / "src" / f"{LIBRARY}.{suffix}").write_bytes(b"of another machine")
    return folder


def build(source: Path, out: Path, what: str, **environment: str) -> tuple[Path, str]:
    """Run a function of the build backend as pip does; its result, and what was said."""
    code = (
        "import hatchling.build as backend, sys;"
        "print(getattr(backend, 'build_' + sys.argv[1])(sys.argv[2]))"
    )
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MYNAH_")}
    done = subprocess.run(
        [sys.executable, "-c", code, what, str(out)],
        cwd=source,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split()[-1], done.stdout + done.stderr


def libraries(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as opened:
        return [name for name in opened.namelist() if "libmynah" in name]


def test_a_wheel_has_the_library_of_its_platform(source: Path, tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT))
    from native.build import find_compiler, this_machine

    if find_compiler() is None:
        pytest.skip("there is no C compiler")
    wheel, _ = build(source, tmp_path, "wheel", MYNAH_NATIVE="1")
    assert wheel.name.endswith(".whl")
    assert "-py3-none-" in wheel.name
    assert "-any" not in wheel.name
    assert libraries(wheel) == [f"mynah/backends/native/{this_machine().file_name}"]
    with zipfile.ZipFile(wheel) as opened:
        opened.extract(libraries(wheel)[0], tmp_path)
    load = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).mynah_abi())"
    command = [sys.executable, "-c", load, str(tmp_path / libraries(wheel)[0])]
    assert int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) >= 1


def test_a_wheel_without_the_library_is_for_any_platform(source: Path, tmp_path: Path) -> None:
    wheel, said = build(source, tmp_path, "wheel", MYNAH_NATIVE="0")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert libraries(wheel) == []
    assert "kernels" not in said


def test_without_a_compiler_there_is_a_warning(source: Path, tmp_path: Path) -> None:
    wheel, said = build(source, tmp_path, "wheel", MYNAH_CC="no-such-compiler")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert libraries(wheel) == []
    assert "no-such-compiler" in said
    assert "ONNX Runtime" in said


def test_the_sources_can_be_built_again(source: Path, tmp_path: Path) -> None:
    archive, _ = build(source, tmp_path, "sdist")
    with tarfile.open(archive) as opened:
        names = {name.split("/", 1)[1] for name in opened.getnames()}
    assert {"hatch_build.py", "pyproject.toml", "native/build.py"} <= names
    for path in (source / "native").glob("*.[ch]"):
        assert f"native/{path.name}" in names
    assert not [name for name in names if "libmynah" in name]
