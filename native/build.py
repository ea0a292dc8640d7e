"""Compile the kernels of the native backend: one object for each instruction set, one library.

Used by ``hatch_build.py`` when the package is built, and by hand while the kernels are changed:
``python native/build.py``. Needs a C compiler: the one named by ``MYNAH_CC``, that of the system,
or that of the Python package ``ziglang``, which also compiles for other machines.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
HOME = SOURCES.parent / "src" / "mynah" / "backends" / "native"
STAMP = HOME / "libmynah.stamp"
"""Beside a library made in the source tree: which sources it is made of."""
SUFFIXES = {"Windows": ".dll", "Darwin": ".dylib"}
"""By system; others have .so."""
FLAGS = ("-O3", "-std=c11", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra")
INSTRUCTION_SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {
        "avx2": ("-mavx2", "-mfma", "-mf16c"),
        "avxvnni": ("-mavx2", "-mfma", "-mf16c", "-mavxvnni"),
        "avx512vnni": (
            "-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq",
            "-mavx512vnni", "-mprefer-vector-width=512",
        ),
    },
    "aarch64": {
        "neon": ("-march=armv8.2-a+dotprod",),
        "i8mm": ("-march=armv8.2-a+dotprod+i8mm",),
    },
}  # fmt: skip
NO_COMPILER = 3
"""Exit status where there is none."""
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_TRIAL = """
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#if defined(_WIN32)
#include <windows.h>
#else
#include <pthread.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
#if defined(_WIN32)
__declspec(dllexport)
#else
__attribute__((visibility("default")))
#endif
float trial(float x);
static _Atomic int count;
float trial(float x) { return expf(x) + (float)atomic_fetch_add(&count, 1); }
"""
_LOAD = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).trial"


@dataclass(frozen=True)
class Target:
    """A platform that libraries are made for."""

    system: str
    """As ``platform.system`` names it."""
    machine: str
    """``x86_64``, ``aarch64``, or what else ``platform.machine`` says."""
    triple: str = ""
    """As ziglang names it; "" = the machine that compiles."""

    @property
    def file_name(self) -> str:
        """Of the library."""
        return f"libmynah{SUFFIXES.get(self.system, '.so')}"


TARGETS = {
    "manylinux_2_17_x86_64": Target("Linux", "x86_64", "x86_64-linux-gnu.2.17"),
    "manylinux_2_17_aarch64": Target("Linux", "aarch64", "aarch64-linux-gnu.2.17"),
    "macosx_11_0_arm64": Target("Darwin", "aarch64", "aarch64-macos.11.0"),
    "macosx_11_0_x86_64": Target("Darwin", "x86_64", "x86_64-macos.11.0"),
    "win_amd64": Target("Windows", "x86_64", "x86_64-windows-gnu"),
    "win_arm64": Target("Windows", "aarch64", "aarch64-windows-gnu"),
}
"""By the platform tag of their wheels; ziglang makes them all on any machine."""


class BuildError(Exception):
    """A compiler that was asked for does not work."""


def this_machine() -> Target:
    """The platform that runs this."""
    machine = platform.machine().lower()
    return Target(platform.system(), _MACHINES.get(machine, machine))


def library_path() -> Path:
    """Where the library belongs in the source tree."""
    return HOME / this_machine().file_name


def find_compiler(target: Target | None = None) -> list[str] | None:
    """The command of a C compiler that does what is needed here, or None.

    Args:
        target: another platform; only ziglang compiles for one. None = this machine.

    Raises:
        BuildError: if the compiler named by ``MYNAH_CC`` does not work.
    """
    if target is not None:
        return _ziglang(target.triple)
    if named := os.environ.get("MYNAH_CC"):
        command = shlex.split(named)
        if problem := _problem(command):
            raise BuildError(f"MYNAH_CC={named} cannot compile the kernels: {problem}")
        return command
    here = this_machine()
    # What is on the path of a Windows machine may link against anything.
    names = () if here.system == "Windows" else ("cc", "gcc", "clang")
    commands = [[path] for name in names if (path := shutil.which(name))]
    if with_ziglang := _ziglang(_triple(here)):
        commands.append(with_ziglang)
    for command in commands:
        if not (problem := _problem(command)):
            return command
        sys.stderr.write(f"{shlex.join(command)} cannot compile the kernels: {problem}\n")
    return None


def _ziglang(triple: str) -> list[str] | None:
    if importlib.util.find_spec("ziglang") is None:
        return None
    return [sys.executable, "-m", "ziglang", "cc", "-target", triple, "-s"]


def _is_ziglang(compiler: Sequence[str]) -> bool:
    return "ziglang" in compiler


def _triple(target: Target) -> str:
    """This machine as ziglang names it: any processor of its kind, the oldest C library."""
    for known in TARGETS.values():
        if (known.system, known.machine) == (target.system, target.machine):
            if target.system == "Linux" and platform.libc_ver()[0] != "glibc":
                return f"{target.machine}-linux-musl"
            return known.triple
    return f"{target.machine}-{target.system.lower()}"


def _problem(compiler: Sequence[str]) -> str:
    """Why that compiler cannot be used on this machine: "" if it can.

    It must know the options of all instruction sets, find headers, and make what Python loads.
    """
    options = [o for more in _instruction_sets(this_machine(), compiler).values() for o in more]
    with tempfile.TemporaryDirectory() as scratch:
        source, made = Path(scratch) / "trial.c", Path(scratch) / "trial.so"
        source.write_text(_TRIAL, encoding="utf-8")
        command = [*compiler, *FLAGS, *options, *_position_independent(this_machine()), "-shared"]
        command += ["-o", str(made), str(source), *_libraries(this_machine())]
        for tried in (command, [sys.executable, "-c", _LOAD, str(made)]):
            try:
                done = subprocess.run(tried, capture_output=True, text=True, errors="replace")
            except OSError as error:
                return str(error)
            if done.returncode:
                return done.stderr.strip() or f"exit status {done.returncode}"
    return ""


def _instruction_sets(target: Target, compiler: Sequence[str]) -> dict[str, tuple[str, ...]]:
    sets = INSTRUCTION_SETS.get(target.machine, {})
    if not _is_ziglang(compiler):
        return sets
    # ziglang has its own names for the versions of arm; the features are called as elsewhere
    old, new = "-march=armv8.2-a", "-mcpu=generic"
    return {name: tuple(o.replace(old, new) for o in options) for name, options in sets.items()}


def _position_independent(target: Target) -> list[str]:
    return [] if target.system == "Windows" else ["-fPIC"]


def _libraries(target: Target) -> list[str]:
    return [] if target.system == "Windows" else ["-lpthread", "-lm"]


def objects(
    folder: Path,
    compiler: Sequence[str],
    *,
    target: Target | None = None,
    flags: Sequence[str] = (),
    more: Iterable[str] = (),
) -> list[Path]:
    """Compile everything, without linking; arguments and errors are those of ``build``.

    Args:
        folder: where to put the object files.
        compiler: see ``build``.
        target: see ``build``.
        flags: see ``build``.
        more: further source files, by their stem.
    """
    target = target or this_machine()
    shared = [*compiler, *FLAGS, *_position_independent(target), *flags]
    jobs = {
        folder / f"{name}.o": [
            str(SOURCES / "kernels.c"), f"-DMYNAH_{name.upper()}",
            f"-DMYNAH_KERNELS=kernels_{name}", f'-DMYNAH_NAME="{name}"', *options,
        ]
        for name, options in {"portable": (), **_instruction_sets(target, compiler)}.items()
    }  # fmt: skip
    for part in ("pool", "library", *more):
        jobs[folder / f"{part}.o"] = [str(SOURCES / f"{part}.c")]
    commands = [[*shared, "-c", *rest, "-o", str(made)] for made, rest in jobs.items()]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(_run, commands))
    return list(jobs)


def build(
    made: Path,
    compiler: Sequence[str],
    *,
    target: Target | None = None,
    flags: Sequence[str] = (),
) -> Path:
    """Compile and link the library.

    Args:
        made: file to write.
        compiler: command, for example ``["cc"]``.
        target: what the compiler compiles for; None = this machine.
        flags: more of them, for every call.

    Raises:
        subprocess.CalledProcessError: if the compiler fails; it has said why on standard error.
    """
    target = target or this_machine()
    with tempfile.TemporaryDirectory() as scratch:
        parts = [str(part) for part in objects(Path(scratch), compiler, target=target, flags=flags)]
        linked = Path(scratch) / target.file_name
        tail = _libraries(target)
        _run([*compiler, *flags, "-shared", "-o", str(linked), *parts, *tail])
        made.parent.mkdir(parents=True, exist_ok=True)
        # copied beside the old one and moved over it: a process may have that one open
        moving = made.with_name(f".{made.name}.{os.getpid()}")
        shutil.copyfile(linked, moving)
        moving.replace(made)
    return made


def build_check(
    made: Path,
    compiler: Sequence[str],
    *,
    target: Target | None = None,
    flags: Sequence[str] = (),
) -> Path:
    """Make the program of ``check.c``; arguments and errors are those of ``build``."""
    target = target or this_machine()
    with tempfile.TemporaryDirectory() as scratch:
        parts = objects(Path(scratch), compiler, target=target, flags=flags, more=["check"])
        tail = [*map(str, parts), *_libraries(target)]
        _run([*compiler, *flags, "-o", str(made), *tail])
    return made


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True)


def fingerprint() -> str:
    """Of all sources: another one means that the library is to be made again."""
    found = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        if path.suffix in {".c", ".h", ".py"}:
            found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def build_in_place(compiler: Sequence[str], flags: Sequence[str] = ()) -> Path:
    """Make the library in the source tree, where an editable installation finds it.

    Raises:
        subprocess.CalledProcessError: if the compiler fails.
    """
    sources = fingerprint()
    made = build(library_path(), compiler, flags=flags)
    STAMP.write_text(sources, encoding="utf-8")
    return made


def is_current() -> bool:
    """Whether the library in the source tree is made of the sources as they are."""
    if not (STAMP.exists() and library_path().exists()):
        return False
    return STAMP.read_text(encoding="utf-8") == fingerprint()


def wanted() -> bool:
    """Whether ``MYNAH_NATIVE=0`` does not forbid a library."""
    return os.environ.get("MYNAH_NATIVE") != "0"


def main() -> None:
    """Build for this machine, or for another one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, help="file to write; default: in the source tree")
    parser.add_argument("--platform", choices=TARGETS, help="for another machine, with ziglang")
    parser.add_argument("--flag", action="append", default=[], help="for the compiler; repeatable")
    parser.add_argument("--check", type=Path, help="write the self test, a program, instead")
    parser.add_argument("--if-changed", action="store_true", help="only if the sources changed")
    options = parser.parse_args()
    if options.if_changed and (is_current() or not wanted()):
        return
    if options.platform and options.out is None and options.check is None:
        parser.error("--platform needs --out: that library is not for this source tree")
    target = TARGETS[options.platform] if options.platform else None
    try:
        compiler = find_compiler(target)
        if compiler is None:
            sys.stderr.write("there is no C compiler; install one, or: pip install ziglang\n")
            sys.exit(NO_COMPILER)
        if options.check is not None:
            if target is not None and target.system == "Linux":  # runs without another C library
                compiler = [*(_ziglang(f"{target.machine}-linux-musl") or compiler), "-static"]
            made = build_check(options.check, compiler, target=target, flags=options.flag)
        elif options.out is None:
            made = build_in_place(compiler, options.flag)
        else:
            made = build(options.out, compiler, target=target, flags=options.flag)
    except BuildError as error:
        parser.error(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    sys.stdout.write(f"{made}\n")


if __name__ == "__main__":
    main()
