"""What this machine's processor offers: instructions that matter for speed, and cores to use.

Everything is read from files and system calls, nothing is measured. Names of instructions are
Linux's, but for those of ARM, which are ARM's own: ``dotprod``, ``fp16``.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

X86 = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16")
ARM = ("dotprod", "i8mm", "fp16", "bf16", "sve")
FAST_INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "dotprod", "i8mm"})
"""Any of these adds products of eight-bit numbers in one step."""

_LINUX_NAMES = {"asimddp": "dotprod", "asimdhp": "fp16"}
_MAC_NAMES = {
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512f",
    "hw.optional.avx512vnni": "avx512_vnni",
    "hw.optional.arm.FEAT_DotProd": "dotprod",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_FP16": "fp16",
    "hw.optional.arm.FEAT_BF16": "bf16",
}
_WINDOWS_NAMES = {40: "avx2", 41: "avx512f", 43: "dotprod"}
_SYSCTL_S = 5

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Cores:
    """Processor cores; one with two threads counts twice, as systems do."""

    present: int
    allowed: int
    """Those this process may run on (its affinity)."""
    quota: float | None = None
    """Cores' worth of time that the container or service gets; None = no limit."""

    @property
    def usable(self) -> int:
        """How many can be kept busy; a part of one counts as one."""
        limit = self.allowed if self.quota is None else math.ceil(self.quota)
        return max(1, min(self.allowed, limit))

    def __str__(self) -> str:
        """In words, limits included."""
        parts = [f"{self.present} cores"]
        if self.allowed < self.present:
            parts.append(f"{self.allowed} of them for this process")
        if self.quota is not None and self.quota < self.allowed:
            parts.append(f"time for {self.quota:g}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Processor:
    """One machine's processor."""

    name: str
    machine: str
    """As ``platform.machine``, for example ``x86_64`` or ``aarch64``."""
    cores: Cores
    features: frozenset[str] | None
    """Of X86 or ARM those that are there; None = the system does not tell."""
    unknown: frozenset[str] = frozenset()
    """Of X86 or ARM those that the system does not tell about."""

    @property
    def known(self) -> tuple[str, ...]:
        """The names that are of interest on this kind of machine."""
        return ARM if self.machine.lower() in ("aarch64", "arm64") else X86

    @property
    def has_fast_int8(self) -> bool | None:
        """Whether products of eight-bit numbers are one instruction; None = unknown."""
        if self.features is None:
            return None
        if self.features & FAST_INT8:
            return True
        return None if self.unknown & FAST_INT8 else False

    def describe_features(self) -> str:
        """Every name of interest with yes, no or unknown."""
        if self.features is None:
            return "unknown"

        def state(name: str) -> str:
            if name in self.unknown:
                return "unknown"
            return "yes" if name in (self.features or ()) else "no"

        return ", ".join(f"{name} {state(name)}" for name in self.known)


@dataclass(frozen=True, slots=True)
class ProductTimes:
    """Times of the same product of two matrices, made by one backend."""

    name: str
    """The stage that makes most of such products: ``lm`` or ``flow``."""
    int8_s: float
    float32_s: float

    @property
    def gain(self) -> float:
        """How many times as fast eight bits are; less than 1 = slower."""
        return self.float32_s / self.int8_s


def read_processor() -> Processor:
    """Describe the processor of this machine."""
    machine, cpuinfo = platform.machine(), _read(_PROC / "cpuinfo")
    features, unknown = _READERS.get(sys.platform, _nothing)(cpuinfo)
    if features is None and not unknown:
        unknown = frozenset(X86 + ARM)
    return Processor(processor_name(cpuinfo), machine, read_cores(), features, unknown)


def processor_name(cpuinfo: str) -> str:
    """The processor's own name where the system tells it; ``cpuinfo`` is Linux's file or ""."""
    found = re.search(r"^(?:model name|Hardware)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or "unknown processor"


def linux_features(cpuinfo: str) -> frozenset[str] | None:
    """Names of interest in Linux's ``/proc/cpuinfo``; None if it lists none at all."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    if found is None:
        return None
    names = {_LINUX_NAMES.get(name, name) for name in found[1].split()}
    return frozenset(names.intersection(X86 + ARM))


def read_cores() -> Cores:
    """Cores that this process can use: of its affinity, and of its control groups."""
    present = os.cpu_count() or 1
    affinity: Callable[[int], Iterable[int]] | None = getattr(os, "sched_getaffinity", None)
    allowed = len(set(affinity(0))) if affinity is not None else present
    return Cores(present, allowed, cpu_quota())


def cpu_quota(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> float | None:
    """Cores' worth of time that Linux's control groups (both versions) grant; None = no limit."""
    found: list[float] = []
    for line in _read(proc / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        names = controllers.split(",")
        if controllers and "cpu" not in names:
            continue
        root = cgroups if not controllers else _first_folder(cgroups, controllers, "cpu")
        # a container sees its own group as the root, and a limit of any group above holds, too
        for part in (PurePosixPath(place), *PurePosixPath(place).parents):
            limit = _limit(root / str(part).strip("/"))
            if limit is not None:
                found.append(limit)
    return min(found, default=None)


def _first_folder(root: Path, *names: str) -> Path:
    return next((root / name for name in names if (root / name).is_dir()), root)


def _limit(group: Path) -> float | None:
    """Time over period of one group."""
    words = _read(group / "cpu.max").split()
    if not words:
        words = [_read(group / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
    try:
        quota, period = float(words[0]), float(words[1])
    except (ValueError, IndexError):  # "max", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _linux(cpuinfo: str) -> tuple[frozenset[str] | None, frozenset[str]]:
    return linux_features(cpuinfo), frozenset()


def _mac(_: str) -> tuple[frozenset[str] | None, frozenset[str]]:
    names = list(_MAC_NAMES)
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", *names],
            capture_output=True,
            text=True,
            timeout=_SYSCTL_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None, frozenset()
    return mac_features(done.stdout), frozenset()


def mac_features(answer: str) -> frozenset[str]:
    """Names of interest in what macOS's ``sysctl`` says: ``name: 1`` in every line."""
    lines = (line.partition(":") for line in answer.splitlines())
    return frozenset(
        _MAC_NAMES[name] for name, _, value in lines if name in _MAC_NAMES and value.strip() == "1"
    )


def _windows(_: str) -> tuple[frozenset[str] | None, frozenset[str]]:
    """Windows tells about some instructions only."""
    kernel = getattr(ctypes, "windll", None)
    if kernel is None:
        return None, frozenset()
    ask = kernel.kernel32.IsProcessorFeaturePresent
    there = frozenset(name for number, name in _WINDOWS_NAMES.items() if ask(number))
    return there, frozenset(X86 + ARM) - frozenset(_WINDOWS_NAMES.values())


def _nothing(_: str) -> tuple[frozenset[str] | None, frozenset[str]]:
    return None, frozenset()


_READERS: Mapping[str, Callable[[str], tuple[frozenset[str] | None, frozenset[str]]]] = {
    "linux": _linux,
    "darwin": _mac,
    "win32": _windows,
}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
