"""Build hook: compile ``native/`` and put the library into the wheel.

Environment: ``MYNAH_CC`` names the C compiler; ``MYNAH_NATIVE=0`` builds without the library,
``MYNAH_NATIVE=1`` fails where it cannot be built; ``MYNAH_PLATFORM`` names another platform to
build for, see ``TARGETS`` in ``native/build.py``. docs/develop/native.md tells more.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

PACKAGE = "mynah/backends/native"
# It holds a C compiler for these, in a wheel.
ZIGLANG = (
    "ziglang>=0.13; platform_machine == 'x86_64' or platform_machine == 'AMD64'"
    " or platform_machine == 'aarch64' or platform_machine == 'arm64'"
    " or platform_machine == 'ARM64'"
)


class NativeHook(BuildHookInterface[BuilderConfig]):
    """Wheels get the library of one platform; editable installations get it in the source tree."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """A compiler, where there is none."""
        native = _load(self.root)
        if not native.wanted():
            return []
        if os.environ.get("MYNAH_PLATFORM"):
            return [ZIGLANG]
        return [] if native.find_compiler() else [ZIGLANG]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; without a compiler the package is built without the library."""
        native = _load(self.root)
        if not native.wanted():
            return
        try:
            made = self._compile(native, editable=version == "editable")
        except (native.BuildError, subprocess.CalledProcessError, OSError) as error:
            if os.environ.get("MYNAH_NATIVE") == "1":
                raise
            self.app.display_warning(
                f"no compiled kernels: {error}. Everything will run by ONNX Runtime, more slowly."
                " A C compiler (gcc or clang), or network for the package ziglang, is what it takes"
            )
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{os.environ.get('MYNAH_PLATFORM') or _platform()}"
        if version != "editable":
            build_data["force_include"][str(made)] = f"{PACKAGE}/{made.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled for the wheel."""
        if self._scratch is not None:
            self._scratch.cleanup()

    _scratch: tempfile.TemporaryDirectory[str] | None = None

    def _compile(self, native: ModuleType, *, editable: bool) -> Path:
        name = os.environ.get("MYNAH_PLATFORM")
        if name and name not in native.TARGETS:
            raise native.BuildError(f"MYNAH_PLATFORM={name} is not one of {[*native.TARGETS]}")
        target = native.TARGETS[name] if name else None
        compiler = native.find_compiler(target)
        if compiler is None:
            raise native.BuildError("there is no C compiler")
        if editable:
            return Path(native.build_in_place(compiler))
        self._scratch = tempfile.TemporaryDirectory()
        made = Path(self._scratch.name) / (target or native.this_machine()).file_name
        return Path(native.build(made, compiler, target=target))


def _load(root: str) -> ModuleType:
    name = "mynah_native_build"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(root) / "native" / "build.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look there
        spec.loader.exec_module(module)
    return sys.modules[name]


def _platform() -> str:
    """The tag of wheels for this machine and no other: they link to what is installed here."""
    if sys.platform == "linux":  # the first tags promise to run with other C libraries
        return sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return next(platform_tags())
