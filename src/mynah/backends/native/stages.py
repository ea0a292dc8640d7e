"""Which stages of a model run on the native kernels here, and how to load them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mynah.backends.composed_flow import ComposedFlow, EncoderNetwork
from mynah.backends.native.encoder import NativeEncoder
from mynah.backends.native.encoder_weights import encoder_obstacle
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


def remarks(stage: str, folder: Path, config: ModelConfig) -> list[str]:
    """What of a stage that runs natively does not, and why, in words.

    Raises:
        ModelNotFoundError: if a file is missing.
        ModelFormatError: if one is damaged.
    """
    why = encoder_obstacle(folder, config.flow) if stage == "flow" else None
    return [f"the token encoder by ONNX Runtime: {why}"] if why else []


def native_stages(
    folder: Path, config: ModelConfig, threads: Threads
) -> Mapping[str, Callable[[], Any]]:
    """How to load those stages, one by one."""

    def encoder() -> EncoderNetwork:
        if encoder_obstacle(folder, config.flow) is None:
            return NativeEncoder(folder, config.flow, threads)
        from mynah.backends.onnx.flow import OnnxEncoder

        return OnnxEncoder(folder, config.flow.frames_per_token, threads.count)

    return {
        "lm": lambda: load_native_lm(folder, config.lm, threads),
        "flow": lambda: ComposedFlow(
            folder, encoder(), NativeVelocity(folder, config.flow, threads)
        ),
        "vocoder": lambda: load_native_vocoder(folder, config.vocoder, threads),
    }
