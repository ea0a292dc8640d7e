"""The compiled kernels: which library, which instruction set, and the threads that run them.

The library is optional. Where it was not built, or this processor has nothing faster than plain C,
the networks run by ONNX Runtime.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from mynah.errors import BackendError, BackendUnavailableError

TILE = 64
"""Columns of a packed matrix that lie together; positions of a segment of keys and values."""
STEP_WORDS = 24
PORTABLE = "portable"
_ABI = 4
_LARGE_PAGE, _PIECE = 2 << 20, 64 << 20
_SUFFIXES = {"win32": ".dll", "darwin": ".dylib"}

AnyArray = npt.NDArray[Any]
Words = npt.NDArray[np.int64]


def library_path() -> Path:
    """Where the library is, if it was built."""
    return Path(__file__).with_name(f"libmynah{_SUFFIXES.get(sys.platform, '.so')}")


class Library:
    """The functions of the compiled library."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            BackendUnavailableError: if there is none, or one of another version.
        """
        hint = 'install mynah-tts again, or use backend="onnx"'
        try:
            functions = ctypes.CDLL(str(path))
            version = functions.mynah_abi()
        except (OSError, AttributeError) as error:
            raise BackendUnavailableError(
                f"the native kernels cannot be loaded: {error}", hint=hint
            ) from error
        if version != _ABI:
            raise BackendUnavailableError(
                f"the native kernels in {path} have version {version}, not {_ABI}", hint=hint
            )
        address, count = ctypes.c_void_p, ctypes.c_int64
        self.kernels = _function(functions.mynah_kernels, address, ctypes.c_char_p)
        self.name = _function(functions.mynah_kernels_name, ctypes.c_char_p, address)
        self.new_pool = _function(functions.mynah_pool_new, address, ctypes.c_int32, ctypes.c_int32)
        self.free_pool = _function(functions.mynah_pool_free, None, address)
        self.run = _function(functions.mynah_run, None, address, address, address, count, address)
        self.trim = _function(functions.mynah_trim, None)
        self.pack_bytes = _function(
            functions.mynah_pack_bytes,
            None,
            *(address, count, count, count, count, ctypes.c_int32, count, count, address),
        )
        self.pack_floats = _function(
            functions.mynah_pack_floats,
            None,
            *(address, count, count, count, count, count, count, address),
        )


def _function(function: Any, result: Any, *arguments: Any) -> Any:
    function.restype, function.argtypes = result, arguments
    return function


@functools.cache
def load_library() -> Library:
    """The library of this installation; see ``Library`` for errors."""
    library = Library(library_path())
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget_groups)
    return library


def instruction_sets() -> list[str]:
    """Names of the kernels that this machine can run, the fastest first; none without a library."""
    try:
        library = load_library()
    except BackendUnavailableError:
        return []
    names = ("avx512vnni", "avxvnni", "avx2", "i8mm", "neon", PORTABLE)
    return [name for name in names if library.kernels(name.encode()) is not None]


class Threads:
    """Groups of threads that run programs.

    A group of several threads runs one program with all of them, or two with one caller's thread
    each and what is left: a language model that waits for memory beside a flow that computes.
    """

    def __init__(self, count: int, instruction_set: str = "", *, groups: int = 1) -> None:
        """Start the first group; the others when calls overlap. They end with this object.

        Args:
            count: threads of a group, the caller's own included.
            instruction_set: one of ``instruction_sets()``; "" = the fastest.
            groups: so many calls have a group for themselves; then they share one, then wait.

        Raises:
            BackendUnavailableError: if this machine cannot run such kernels.
            BackendError: if there are no resources for so many threads.
        """
        self._library = load_library()
        self._kernels = self._library.kernels(instruction_set.encode())
        if self._kernels is None:
            raise BackendUnavailableError(
                f"this machine cannot run kernels for {instruction_set!r}",
                hint=f"it can run {', '.join(instruction_sets())}",
            )
        self.count = count
        self.groups = groups
        self.instruction_set: str = self._library.name(self._kernels).decode()
        self._forget()
        self._new_group()
        _THREADS.add(self)

    @property
    def lanes(self) -> int:
        """Calls that a group can run at the same time."""
        return 1 if self.count == 1 else 2

    def _forget(self) -> None:
        self._free = threading.Semaphore(self.groups * self.lanes)
        self._lock = threading.Lock()
        self._callers: dict[int, int] = {}

    def _enter(self) -> int:
        """The group with the fewest callers, a new one before a shared one."""
        with self._lock:
            group = min(self._callers, key=self._callers.__getitem__, default=None)
            if group is None or (self._callers[group] and len(self._callers) < self.groups):
                group = self._new_group()
            self._callers[group] += 1
            return group

    def _leave(self, group: int) -> None:
        with self._lock:
            self._callers[group] -= 1

    def _new_group(self) -> int:
        group: int | None = self._library.new_pool(self.count, self.lanes)
        if group is None:
            raise BackendError(f"cannot start {self.count} threads", hint="use fewer threads")
        self._callers[group] = 0
        weakref.finalize(self, _free_group, self._library, group, os.getpid())
        return group

    def run(self, steps: Words, slots: Words) -> None:
        """Run steps (n, STEP_WORDS) on a table of slots; too many callers take turns."""
        with self._free:
            group = self._enter()
            try:
                address = steps.ctypes.data
                self._library.run(group, self._kernels, address, len(steps), slots.ctypes.data)
            finally:
                self._leave(group)


class Guard:
    """A lock that is open in a process that was forked: who held it does not exist there."""

    def __init__(self) -> None:
        """Open it."""
        self._lock = threading.Lock()
        _GUARDS.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    def _forget(self) -> None:
        self._lock = threading.Lock()


_GUARDS: weakref.WeakSet[Guard] = weakref.WeakSet()
_THREADS: weakref.WeakSet[Threads] = weakref.WeakSet()


def _forget_groups() -> None:
    """A process that was forked has none of the threads of its parent: it starts its own."""
    for threads in _THREADS:
        threads._forget()
    for guard in _GUARDS:
        guard._forget()


def _free_group(library: Library, group: int, owner: int) -> None:
    if os.getpid() == owner:  # else there are no threads that could end
        library.free_pool(group)


class Pages:
    """Memory for all matrices of a network, which end together.

    One after the other they lie in pieces so large that the system backs them by large pages, where
    it has some (NumPy asks for them): a language model takes 2 % less time so (measured). What of a
    piece is not used is never touched.
    """

    def __init__(self) -> None:
        """Empty."""
        self._lock = threading.Lock()
        self._rest: AnyArray = np.zeros(0, dtype=np.uint8)

    def take(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> AnyArray:
        """Zeros that begin at a cache line; several threads may ask at the same time."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        room = -(-size // TILE) * TILE
        with self._lock:
            if len(self._rest) < room:
                piece = np.zeros(max(room, _PIECE) + _LARGE_PAGE, dtype=np.uint8)
                self._rest = piece[-piece.ctypes.data % _LARGE_PAGE :]
            taken, self._rest = self._rest[:size], self._rest[room:]
        return taken.view(dtype).reshape(shape)


def aligned(shape: tuple[int, ...], dtype: npt.DTypeLike) -> AnyArray:
    """Zeros that begin at a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + TILE, dtype=np.uint8)
    first = -memory.ctypes.data % TILE
    return memory[first : first + size].view(dtype).reshape(shape)
