"""The speech language model by mynah's own kernels."""

from __future__ import annotations

from pathlib import Path

from mynah.backends.native import trunk_weights
from mynah.backends.native.kernels import Threads, load_library
from mynah.backends.native.trunk import NativeTrunk
from mynah.backends.onnx.language_model import OnnxSpeechLM
from mynah.config import LMConfig
from mynah.errors import BackendUnavailableError

_GRAPH = "lm.onnx"


class NativeSpeechLM(OnnxSpeechLM):
    """``SpeechLM`` on the CPU: the trunk by our kernels, a pointer's small graphs by ONNX Runtime.

    Sequences that are stepped together are computed together, yet each as if it were alone.
    """

    def __init__(self, folder: Path, config: LMConfig, threads: Threads) -> None:
        """Load the language model files of a model folder.

        Raises:
            ModelNotFoundError: if a file is missing.
            ModelFormatError: if a file is damaged or does not fit ``config``.
        """
        trunk = NativeTrunk(folder / _GRAPH, config, threads)
        super().__init__(folder, config, threads.count, trunk=trunk)


def why_no_native_lm(folder: Path, config: LMConfig) -> str | None:
    """What keeps ``load_native_lm`` from loading this model; None if nothing does.

    Raises:
        ModelError: if the file of the trunk is missing or damaged.
    """
    try:
        load_library()
    except BackendUnavailableError as error:
        return error.message
    return trunk_weights.why_not_native(folder / _GRAPH, config)


def load_native_lm(folder: Path, config: LMConfig, threads: Threads) -> NativeSpeechLM:
    """Load a language model that ``why_no_native_lm`` has nothing against; see there for errors."""
    return NativeSpeechLM(folder, config, threads)
