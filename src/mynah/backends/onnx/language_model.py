"""The speech language model by ONNX Runtime: the trunk as a graph, a pointer as two small ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mynah.backends.base import Cursor, FloatArray, TokenArray
from mynah.backends.onnx.graph import Graph
from mynah.backends.onnx.trunk import TrunkGraph
from mynah.backends.trunk_language_model import POINTER_ADVANCE, POINTER_FEATURES, TrunkSpeechLM
from mynah.config import LMConfig


class OnnxPointer:
    """``Pointer`` on the graphs of a model folder."""

    def __init__(self, folder: Path, threads: int) -> None:
        """Load them; raises as ``Graph``."""
        self._features = Graph(folder / POINTER_FEATURES, threads)
        self._advance = Graph(folder / POINTER_ADVANCE, threads)

    def features(self, text: FloatArray, cursor: Cursor) -> FloatArray:
        """See ``Pointer``."""
        inputs = {
            "text_embeddings": text[None],
            "position": np.array([[cursor.position]]),
            "dwell": np.array([[cursor.dwell]]),
        }
        features: FloatArray = self._features.run(inputs)["features"][0, 0]
        return features

    def advance(self, hidden: FloatArray, tokens: TokenArray) -> FloatArray:
        """See ``Pointer``; row by row, so that none depends on the others."""
        rows = [
            self._advance.run({"hidden": hidden[i : i + 1], "tokens": tokens[i : i + 1]})
            for i in range(len(tokens))
        ]
        return np.concatenate([row["logits"] for row in rows])


class OnnxSpeechLM(TrunkSpeechLM):
    """``SpeechLM`` on the CPU by ONNX Runtime."""

    def __init__(self, folder: Path, config: LMConfig, threads: int = 0) -> None:
        """Load the language model files of a model folder.

        Raises:
            ModelNotFoundError: if a file is missing.
            ModelFormatError: if a file is damaged or does not fit ``config``.
        """
        trunk = TrunkGraph(folder / "lm.onnx", config, threads)
        pointer = None if config.pointer is None else OnnxPointer(folder, threads)
        super().__init__(folder, config, trunk, pointer)
