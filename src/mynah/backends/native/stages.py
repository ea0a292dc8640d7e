"""Which stages of a model run on the native kernels here, and how to load them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mynah.backends.native.kernels import PORTABLE, Threads, instruction_sets, load_library
from mynah.backends.native.language_model import load_native_lm, why_no_native_lm
from mynah.backends.native.velocity import NativeVelocity, velocity_obstacle
from mynah.backends.native.vocoder import load_native_vocoder, vocoder_obstacle
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


def stage_obstacle(stage: str, folder: Path, config: ModelConfig) -> str | None:
    """Why ``lm``, ``flow`` or ``vocoder`` of a model cannot run natively; None if it can.

    Raises:
        ModelNotFoundError: if a file is missing.
        ModelFormatError: if one is damaged.
    """
    if (obstacle := machine_obstacle()) is not None:
        return obstacle
    if stage == "lm":
        return why_no_native_lm(folder, config.lm)
    if stage == "flow":
        return velocity_obstacle(folder, config.flow)
    return vocoder_obstacle(folder, config.vocoder)


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

    return {
        "lm": lambda: load_native_lm(folder, config.lm, threads),
        "flow": flow,
        "vocoder": lambda: load_native_vocoder(folder, config.vocoder, threads),
    }
