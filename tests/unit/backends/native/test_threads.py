"""The compiled library and its threads: named errors, no leaks, callers that take turns, forks."""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from mynah.backends.native import kernels
from mynah.backends.native.kernels import (
    PORTABLE,
    STEP_WORDS,
    TILE,
    Library,
    Threads,
    aligned,
    instruction_sets,
    library_path,
)
from mynah.backends.native.program import Kind
from mynah.errors import BackendError, BackendUnavailableError
from tests.unit.backends.native.programs import chain, slots_of

ROOT = Path(__file__).parents[4]
needs_library = pytest.mark.skipif(not instruction_sets(), reason="the kernels were not built")


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailableError, match=r"nothing\.so.*onnx"):
        Library(tmp_path / "nothing.so")


def test_something_else_is_not_taken_for_the_library(tmp_path: Path) -> None:
    other = tmp_path / "other.so"
    other.write_bytes(b"no library")
    with pytest.raises(BackendUnavailableError, match="cannot be loaded"):
        Library(other)


@pytest.mark.skipif(sys.platform != "linux", reason="takes the C library of Linux")
def test_a_library_without_the_functions_is_refused() -> None:
    with pytest.raises(BackendUnavailableError, match="mynah_abi"):
        Library(Path("libc.so.6"))


@needs_library
def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_ABI", 77)
    with pytest.raises(BackendUnavailableError, match=r"version \d+, not 77"):
        Library(library_path())


def test_both_sides_number_the_steps_alike() -> None:
    header = (ROOT / "native" / "mynah.h").read_text(encoding="utf-8")
    kinds = re.findall(r"^    STEP_(\w+)", header, flags=re.MULTILINE)
    assert kinds == [*[kind.name for kind in Kind], "KINDS"]
    for name, value in (("STEP_WORDS", STEP_WORDS), ("TILE", TILE), ("MYNAH_ABI", kernels._ABI)):
        assert re.search(rf"#define {name} {value}\b", header), name


@needs_library
def test_the_slowest_kernels_run_everywhere() -> None:
    assert instruction_sets()[-1] == PORTABLE
    assert Threads(1).instruction_set == instruction_sets()[0]
    for name in instruction_sets():
        assert Threads(1, name).instruction_set == name


@needs_library
def test_an_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(BackendUnavailableError, match=r"'mmx'.*portable"):
        Threads(1, "mmx")


@needs_library
@pytest.mark.parametrize("count", [0, -1])
def test_no_threads_are_too_few(count: int) -> None:
    with pytest.raises(BackendError, match=f"{count} threads"):
        Threads(count)


@needs_library
@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_threads_end_with_their_object() -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/task"))

    gc.collect()
    before = count()
    program, _ = chain(8, 16, seed=0)
    for size in (8, 2, 1) * 10:
        idle, used = Threads(size), Threads(size)
        program.run(used, slots_of(8))
        assert count() >= before + 2 * (size - 1)
        del idle, used
    gc.collect()
    assert count() <= before


@needs_library
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    results = []
    for count in range(1, 9):
        program, rows = chain(61, 96, seed=3)
        program.run(Threads(count), slots_of(61))
        results.append(rows.memory.copy())
    assert np.abs(results[0]).max() > 0
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@needs_library
@pytest.mark.parametrize("groups", [1, 2])
def test_callers_at_the_same_time_get_what_is_theirs(groups: int) -> None:
    threads = Threads(2, groups=groups)
    alone, together = {}, {}
    for seed in range(6):
        program, rows = chain(9 + seed, 64, seed)
        program.run(Threads(1), slots_of(9 + seed))
        alone[seed] = rows.memory.copy()

    def work(seed: int) -> None:
        for _ in range(20):
            program, rows = chain(9 + seed, 64, seed)
            program.run(threads, slots_of(9 + seed))
        together[seed] = rows.memory.copy()

    callers = [threading.Thread(target=work, args=(seed,)) for seed in alone]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for seed, result in alone.items():
        np.testing.assert_array_equal(together[seed], result)


@needs_library
def test_a_program_without_tasks_ends() -> None:
    program, rows = chain(8, 16, seed=0)
    before = rows.memory.copy()
    program.run(Threads(3), slots_of(0))
    np.testing.assert_array_equal(rows.memory, before)


FORKS = """
import multiprocessing, os, sys
from mynah.backends.native.kernels import Threads
from tests.unit.backends.native.programs import chain, slots_of
threads = Threads(3, groups=2)

def work() -> None:
    program, rows = chain(40, 64, seed=1)
    program.run(threads, slots_of(40))
    if rows.memory.tobytes() != wanted:
        sys.exit("other results")
    if sys.platform == "linux" and len(os.listdir("/proc/self/task")) < threads.count:
        sys.exit("no threads")

program, rows = chain(40, 64, seed=1)
program.run(threads, slots_of(40))
wanted = rows.memory.tobytes()
children = [multiprocessing.get_context("fork").Process(target=work) for _ in range(2)]
for child in children:
    child.start()
work()
for child in children:
    child.join()
sys.exit(max(abs(child.exitcode) for child in children))
"""


@needs_library
@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork"
)
def test_a_forked_process_starts_threads_of_its_own() -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


SPEAKS_WHILE_FORKED = """
import os, threading
from mynah import TTS
tts = TTS.load()
text = "This sentence is spoken while a process is forked, and so is the next one. It goes on."
done = threading.Event()

def speak():
    while not done.is_set():
        tts.synthesize(text, seed=3)

worker = threading.Thread(target=speak)
worker.start()
children = []
for _ in range(6):
    next(iter(tts.stream("Wait.", seed=1)))  # so that the worker is somewhere else every time
    child = os.fork()
    if not child:
        tts.synthesize("Hi there.", seed=3)
        os._exit(0)
    children.append(child)
done.set()
worker.join()
raise SystemExit(max(os.waitpid(child, 0)[1] for child in children))
"""


@needs_library
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_that_is_forked_while_another_thread_speaks_can_speak() -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SPEAKS_WHILE_FORKED]
    assert subprocess.run(command, cwd=ROOT, timeout=300).returncode == 0


@needs_library
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_ends() -> None:
    source = (
        "import os; from mynah.backends.native.kernels import Threads; threads = Threads(4)\n"
        "child = os.fork()\n"
        "raise SystemExit(os.waitpid(child, 0)[1] if child else 0)"
    )
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", source]
    assert subprocess.run(command, cwd=ROOT).returncode == 0


def test_aligned_memory_begins_at_a_cache_line() -> None:
    for shape in ((1,), (3, 5), (64, 7)):
        memory = aligned(shape, np.float32)
        assert memory.shape == shape
        assert memory.ctypes.data % 64 == 0
        assert not memory.any()


@needs_library
@pytest.mark.skipif(not shutil.which("nm"), reason="reads the library with nm")
def test_nothing_but_the_interface_is_exported() -> None:
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", str(library_path())], capture_output=True, text=True
    ).stdout
    names = {line.split()[-1] for line in listed.splitlines() if " T " in line}
    assert {name for name in names if not name.startswith("mynah_")} <= {"_init", "_fini"}
