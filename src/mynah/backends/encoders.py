"""Speech tokenizer and speaker encoder: ONNX graphs in both backends, loaded to make voices.

The official files address their inputs by position, so this does, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mynah.backends.base import FloatArray, TokenArray
from mynah.backends.onnx.graph import AnyArray, Graph
from mynah.errors import ModelFormatError

TOKENIZER_GRAPH = "speech_tokenizer.onnx"
SPEAKER_GRAPHS = ("speaker_encoder.onnx", "campplus.onnx")


class OnnxSpeechTokenizer:
    """``SpeechTokenizer``: input 0 (1, n_mels, T), input 1 (1,) = T, output 0 the tokens."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Load ``path``; see ``Graph`` for errors."""
        self._graph = Graph(path, threads)
        _check_inputs(self._graph, 2)

    def tokens(self, log_mel: FloatArray) -> TokenArray:
        """Speech tokens of a log-mel, (T, n_mels) -> (T // 4,)."""
        length = np.array([len(log_mel)], dtype=np.int32)
        found = _run(self._graph, [log_mel.T[None], length])
        return found.reshape(-1).astype(np.int64)


class OnnxSpeakerEncoder:
    """``SpeakerEncoder``: input 0 (1, T, bands), output 0 (1, speaker_dim)."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Load ``path``; see ``Graph`` for errors."""
        self._graph = Graph(path, threads)
        _check_inputs(self._graph, 1)

    def embed(self, fbank: FloatArray) -> FloatArray:
        """Speaker embedding of a mean-free filter bank, (T, bands) -> (speaker_dim,)."""
        return _run(self._graph, [fbank[None]]).reshape(-1).astype(np.float32)


def _run(graph: Graph, values: Sequence[AnyArray]) -> AnyArray:
    return graph.run(dict(zip(graph.inputs, values, strict=True)))[graph.output_names[0]]


def _check_inputs(graph: Graph, count: int) -> None:
    if len(graph.inputs) != count:
        raise ModelFormatError(
            f"{graph.name} has the inputs {', '.join(graph.inputs)}, expected {count}",
            hint="the file is of another kind; download or convert the model again",
        )
