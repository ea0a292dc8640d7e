from __future__ import annotations

from pathlib import Path

import pytest

from mynah.backends.processor import (
    ARM,
    X86,
    Cores,
    Processor,
    cpu_quota,
    linux_features,
    mac_features,
    processor_name,
    read_processor,
)

ZEN4 = "model name\t: Fast CPU 9\nflags\t\t: fpu avx2 sse avx512f avx512_vnni avx512_bf16\n"
PI4 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
PI5 = "processor\t: 0\nFeatures\t: fp asimd asimdhp cpuid asimddp\n"


def processor(features: frozenset[str] | None, machine: str = "x86_64") -> Processor:
    return Processor("test", machine, Cores(2, 2), features)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="ascii")
    return folder


def test_names_of_linux() -> None:
    assert linux_features(ZEN4) == frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"})
    assert linux_features(PI4) == frozenset()
    assert linux_features(PI5) == frozenset({"fp16", "dotprod"})
    assert linux_features("") is None
    assert processor_name(ZEN4) == "Fast CPU 9"
    assert processor_name("")


def test_names_of_macos() -> None:
    answer = "hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_I8MM: 0\nhw.else: 1\n"
    assert mac_features(answer) == {"dotprod"}


@pytest.mark.parametrize(
    ("features", "machine", "fast"),
    [
        ({"avx2", "avx512f", "avx512_vnni"}, "x86_64", True),
        ({"avx2", "avx_vnni"}, "AMD64", True),
        ({"avx2", "avx512f"}, "x86_64", False),
        (set(), "aarch64", False),
        ({"dotprod"}, "arm64", True),
    ],
)
def test_who_multiplies_eight_bits_in_one_step(
    features: set[str], machine: str, fast: bool
) -> None:
    assert processor(frozenset(features), machine).has_fast_int8 is fast


def test_what_is_unknown_is_not_called_missing() -> None:
    untold = processor(None)
    assert untold.has_fast_int8 is None
    assert untold.describe_features() == "unknown"
    windows = Processor(
        "test", "AMD64", Cores(4, 4), frozenset({"avx2"}), frozenset({"avx512_vnni", "avx_vnni"})
    )
    assert windows.has_fast_int8 is None
    assert "avx2 yes, avx512f no, avx512_vnni unknown" in windows.describe_features()


def test_each_kind_of_machine_has_its_names() -> None:
    for machine, names in (("x86_64", X86), ("aarch64", ARM)):
        described = processor(frozenset(), machine).describe_features()
        assert [part.split()[0] for part in described.split(", ")] == list(names)


@pytest.mark.parametrize(
    ("cores", "usable", "words"),
    [
        (Cores(8, 8), 8, "8 cores"),
        (Cores(64, 2), 2, "64 cores, 2 of them for this process"),
        (Cores(64, 64, 1.5), 2, "64 cores, time for 1.5"),
        (Cores(4, 4, 0.25), 1, "4 cores, time for 0.25"),
        (Cores(4, 2, 8.0), 2, "4 cores, 2 of them for this process"),
    ],
)
def test_cores_to_use(cores: Cores, usable: int, words: str) -> None:
    assert cores.usable == usable
    assert str(cores) == words


def test_the_strictest_group_counts(tmp_path: Path) -> None:
    proc = write(tmp_path / "proc", {"self/cgroup": "0::/service/worker\n"})
    groups = write(
        tmp_path / "cgroup",
        {
            "service/cpu.max": "150000 100000\n",
            "service/worker/cpu.max": "max 100000\n",
        },
    )
    assert cpu_quota(proc, groups) == 1.5
    (groups / "cpu.max").write_text("50000 100000\n", encoding="ascii")
    assert cpu_quota(proc, groups) == 0.5


def test_groups_of_the_first_version(tmp_path: Path) -> None:
    lines = "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n"
    proc = write(tmp_path / "proc", {"self/cgroup": lines})
    files = {"cpu.cfs_quota_us": "200000\n", "cpu.cfs_period_us": "100000\n"}
    place = "cpu,cpuacct/docker/x"
    groups = write(tmp_path / "cgroup", {f"{place}/{name}": text for name, text in files.items()})
    assert cpu_quota(proc, groups) == 2.0
    (groups / place / "cpu.cfs_quota_us").write_text("-1\n", encoding="ascii")
    assert cpu_quota(proc, groups) is None


def test_without_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path, tmp_path) is None


def test_this_machine_can_be_read() -> None:
    found = read_processor()
    assert 1 <= found.cores.usable <= found.cores.present
    assert found.describe_features()
