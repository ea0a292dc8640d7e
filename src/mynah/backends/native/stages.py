"""Which stages of a model run on the native kernels here, and how to load them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mynah.backends.native.library import PORTABLE, Threads, instruction_sets, load_library
from mynah.backends.native.velocity import NativeVelocity, velocity_obstacle
from mynah.config import ModelConfig
from mynah.errors import BackendUnavailableError


def machine_obstacle() -> str | None:
    """Why no network runs natively on this machine; None if they can."""
    try:
        load_library()
    except BackendUnavailableError as error:
        return error.message
    if instruction_sets()[0] == PORTABLE:
        return "this processor has no vector instructions that there are kernels for"
    return None


def stage_obstacles(folder: Path, config: ModelConfig) -> dict[str, str | None]:
    """Why each stage of a model cannot run natively; None if it can.

    Raises:
        ModelFormatError: if a file is damaged.
    """
    return {"flow": velocity_obstacle(folder, config.flow)}


def native_stages(
    folder: Path, config: ModelConfig, threads: Threads
) -> Mapping[str, Callable[[], Any]]:
    """How to load those stages, one by one."""

    def flow() -> Any:
        from mynah.backends.onnx.flow import OnnxFlow

        return OnnxFlow(
            folder,
            token_mel_ratio=config.flow.frames_per_token,
            threads=threads.count,
            guided=config.flow.cfg_rate != 0,
            velocity=NativeVelocity(folder, config.flow, threads),
        )

    return {"flow": flow}
