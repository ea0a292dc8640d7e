"""How the kernels are compiled: without warnings, by any compiler, and as they should compute."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from native import build

ROOT = Path(build.__file__).parents[1]
SANITIZERS = ("-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def compilers() -> list[str]:
    """Commands of those that work here."""
    named = [[path] for name in ("gcc", "clang") if (path := shutil.which(name))]
    ziglang = build._ziglang(build._triple(build.this_machine()))
    tried = [*named, *([ziglang] if ziglang else [])]
    return [shlex.join(command) for command in tried if not build._problem(command)]


@pytest.fixture(params=compilers())
def compiler(request: pytest.FixtureRequest) -> list[str]:
    return shlex.split(request.param)


def self_test(folder: Path, compiler: list[str], rounds: int, *flags: str) -> None:
    program = build.build_check(folder / "check", compiler, flags=["-Werror", *flags])
    done = subprocess.run([str(program), str(rounds)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "portable: as computed" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="native/check.c uses POSIX threads")
def test_the_self_test_of_the_kernels(tmp_path: Path, compiler: list[str]) -> None:
    self_test(tmp_path, compiler, 12, "-O1")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("gcc"), reason="needs gcc on Linux")
def test_the_kernels_stay_within_their_memory(tmp_path: Path) -> None:
    self_test(tmp_path, ["gcc"], 3, *SANITIZERS)


def test_a_compiler_that_does_not_work_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYNAH_CC", f"{shlex.quote(sys.executable)} -c 'raise SystemExit(7)'")
    with pytest.raises(build.BuildError, match=r"MYNAH_CC=.*cannot compile the kernels"):
        build.find_compiler()
    monkeypatch.setenv("MYNAH_CC", "no-such-compiler")
    with pytest.raises(build.BuildError, match="no-such-compiler"):
        build.find_compiler()


def test_a_broken_compiler_on_the_path_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MYNAH_CC", raising=False)
    monkeypatch.setattr(build, "_ziglang", lambda triple: None)
    for name in ("cc", "gcc"):
        path = tmp_path / name
        path.write_text("#!/bin/sh\necho out of order >&2; exit 1\n", encoding="utf-8")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.find_compiler() is None
    if sys.platform != "win32":
        assert "out of order" in capfd.readouterr().err


def test_changed_sources_are_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not (found := compilers()):
        pytest.skip("there is no C compiler")
    sources, home = tmp_path / "native", tmp_path / "package"
    shutil.copytree(build.SOURCES, sources, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(build, "SOURCES", sources)
    monkeypatch.setattr(build, "HOME", home)
    monkeypatch.setattr(build, "STAMP", home / "libmynah.stamp")
    assert not build.is_current()
    build.build_in_place(shlex.split(found[0]), ["-O0"])
    assert build.is_current()
    with (sources / "pool.c").open("a", encoding="utf-8") as file:
        file.write("/* more */\n")
    assert not build.is_current()


def test_every_platform_has_its_instruction_sets() -> None:
    for tag, target in build.TARGETS.items():
        assert target.machine in build.INSTRUCTION_SETS, tag
        assert target.triple.startswith(target.machine), tag
    suffixes = {target.file_name for target in build.TARGETS.values()}
    assert suffixes == {"libmynah.so", "libmynah.dylib", "libmynah.dll"}


def test_arm_options_are_spelt_as_ziglang_knows_them() -> None:
    target = build.TARGETS["manylinux_2_17_aarch64"]
    usual = build._instruction_sets(target, ["cc"])
    other = build._instruction_sets(target, [sys.executable, "-m", "ziglang", "cc"])
    assert usual["neon"] == ("-march=armv8.2-a+dotprod",)
    assert other["i8mm"] == ("-mcpu=generic+dotprod+i8mm",)
