"""The speech language model by mynah's own kernels."""

from __future__ import annotations

from pathlib import Path

from mynah.backends.native import trunk_weights
from mynah.backends.native.kernels import Threads, load_library
from mynah.backends.native.pointer import NativePointer, missing_pointer_weight
from mynah.backends.native.trunk import NativeTrunk
from mynah.backends.trunk_language_model import TrunkSpeechLM
from mynah.config import LMConfig
from mynah.errors import BackendUnavailableError

_GRAPH = "lm.onnx"


class NativeSpeechLM(TrunkSpeechLM):
    """``SpeechLM`` on the CPU by our kernels.

    Sequences that are stepped together are computed together, yet each as if it were alone.
    """

    def __init__(self, folder: Path, config: LMConfig, threads: Threads) -> None:
        """Load the language model files of a model folder.

        Raises:
            ModelNotFoundError: if a file is missing.
            ModelFormatError: if a file is damaged or does not fit ``config``.
        """
        trunk = NativeTrunk(folder / _GRAPH, config, threads)
        pointer = None if config.pointer is None else NativePointer(folder, config, threads)
        super().__init__(folder, config, trunk, pointer)


def why_no_native_lm(folder: Path, config: LMConfig) -> str | None:
    """What keeps ``load_native_lm`` from loading this model; None if nothing does.

    Raises:
        ModelError: if a file is missing or damaged.
    """
    try:
        load_library()
    except BackendUnavailableError as error:
        return error.message
    if (obstacle := trunk_weights.why_not_native(folder / _GRAPH, config)) is not None:
        return obstacle
    missing = None if config.pointer is None else missing_pointer_weight(folder)
    return missing and f"the pointer has no weight {missing} (convert the model again)"


def load_native_lm(folder: Path, config: LMConfig, threads: Threads) -> NativeSpeechLM:
    """Load a language model that ``why_no_native_lm`` has nothing against; see there for errors."""
    return NativeSpeechLM(folder, config, threads)
