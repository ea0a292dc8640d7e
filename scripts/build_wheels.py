"""Build a wheel for every platform, kernels included, on one machine.

    python -m pip install ziglang
    python scripts/build_wheels.py [--out dist] [PLATFORM ...]

ziglang brings the C compiler for all of them; the first Windows wheel takes minutes, because the
runtime libraries of Windows are compiled as well. Every wheel is opened again and checked.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
MACHINES = {"x86_64": (0x3E, 0x01000007, 0x8664), "aarch64": (0xB7, 0x0100000C, 0xAA64)}
"""As the headers of ELF, Mach-O and PE files number them."""


def load_build() -> ModuleType:
    """``native/build.py``, which is no package."""
    spec = importlib.util.spec_from_file_location("native_build", ROOT / "native" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def machine_of(library: bytes) -> int:
    """The machine that the header of a library names."""
    if library[:4] == b"\x7fELF":
        return int.from_bytes(library[18:20], "little")
    if library[:4] == b"\xcf\xfa\xed\xfe":
        return int.from_bytes(library[4:8], "little")
    if library[:2] == b"MZ":
        header = int.from_bytes(library[60:64], "little")
        return int.from_bytes(library[header + 4 : header + 6], "little")
    raise ValueError("the library is of no known format")


def newest_glibc(library: bytes) -> tuple[int, ...]:
    """The newest version of the C library that an ELF file asks for."""
    versions = re.findall(rb"GLIBC_(\d+(?:\.\d+)*)\0", library)
    return max((tuple(map(int, v.split(b"."))) for v in versions), default=(0,))


def check_wheel(path: Path, platform: str, build: ModuleType) -> int:
    """Size of the library in a wheel.

    Raises:
        ValueError: if it is not what the wheel's name promises.
    """
    target = build.TARGETS[platform]
    with zipfile.ZipFile(path) as wheel:
        libraries = [name for name in wheel.namelist() if "libmynah" in name]
        if libraries != [f"mynah/backends/native/{target.file_name}"]:
            raise ValueError(f"{path.name} holds the libraries {libraries}")
        tags = next(name for name in wheel.namelist() if name.endswith(".dist-info/WHEEL"))
        if f"Tag: py3-none-{platform}\n" not in wheel.read(tags).decode():
            raise ValueError(f"{path.name} does not carry the tag {platform}")
        library = wheel.read(libraries[0])
    if machine_of(library) not in MACHINES[target.machine]:
        raise ValueError(f"the library in {path.name} is for another machine")
    if platform.startswith("manylinux_") and newest_glibc(library) > (2, 17):
        raise ValueError(f"the library in {path.name} needs glibc {newest_glibc(library)}")
    return len(library)


def build_wheel(platform: str, out: Path) -> Path:
    """Build one into ``out``.

    Raises:
        subprocess.CalledProcessError: if that fails; pip has said why.
    """
    environment = {**os.environ, "MYNAH_PLATFORM": platform, "MYNAH_NATIVE": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", scratch]
        subprocess.run([*command, str(ROOT)], check=True, env=environment)
        (built,) = Path(scratch).glob("*.whl")
        return Path(shutil.copy(built, out))


def main() -> None:
    """Build those that were named, or all."""
    build = load_build()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the wheels")
    parser.add_argument("platforms", nargs="*", metavar="PLATFORM", help=", ".join(build.TARGETS))
    options = parser.parse_args()
    if unknown := set(options.platforms) - set(build.TARGETS):
        parser.error(f"no such platform: {', '.join(sorted(unknown))}")
    options.out.mkdir(parents=True, exist_ok=True)
    for platform in options.platforms or build.TARGETS:
        wheel = build_wheel(platform, options.out)
        print(f"{wheel.name}: library of {check_wheel(wheel, platform, build)} bytes")


if __name__ == "__main__":
    main()
