"""The flow's networks run by ONNX Runtime; arrays are NumPy's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mynah.backends.base import NO_IDS, FloatArray, StoredArray, TokenArray
from mynah.backends.composed_flow import (
    ENCODER_GRAPH,
    ComposedFlow,
    EncoderNetwork,
    VelocityNetwork,
)
from mynah.backends.onnx.graph import CachedGraph, FrameState
from mynah.backends.onnx.velocity import load_velocity


class OnnxEncoder:
    """``EncoderNetwork`` on the graph ``flow_encoder``.

    Raises:
        ModelNotFoundError: if it is missing.
        ModelFormatError: if it cannot be read.
    """

    def __init__(self, folder: Path, token_mel_ratio: int, threads: int) -> None:
        """Load from ``folder``; ``threads`` = 0 lets ONNX Runtime choose."""
        self._ratio = token_mel_ratio
        self._graph = CachedGraph(folder / ENCODER_GRAPH, threads)

    def new_state(self) -> FrameState:
        """State of an encoder that has read nothing."""
        return FrameState(self._graph.new_state(), self._ratio)

    def restore(self, arrays: Mapping[str, StoredArray]) -> FrameState:
        """See ``EncoderNetwork``."""
        return FrameState(self._graph.restore(arrays), self._ratio)

    def encode(
        self, tokens: TokenArray, lookahead: TokenArray | None, state: FrameState
    ) -> FloatArray:
        """Tokens (T,) to mu (2T, n_mels)."""
        ahead = NO_IDS if lookahead is None else lookahead
        inputs = {"tokens": tokens[None], "lookahead": ahead[None]}
        mu: FloatArray = self._graph.run(inputs, state.rows)["mu"][0]
        return mu


class OnnxFlow(ComposedFlow):
    """``StorableFlowNetwork`` on the graphs of a model folder.

    Something faster may take the place of the networks.

    Raises:
        ModelNotFoundError: if a file is missing.
        ModelFormatError: if a file cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        *,
        token_mel_ratio: int = 2,
        threads: int = 0,
        guided: bool = True,
        encoder: EncoderNetwork | None = None,
        velocity: VelocityNetwork | None = None,
    ) -> None:
        """Load from ``folder``.

        ``threads`` = 0 lets ONNX Runtime choose; without ``guided`` the unconditional branch is
        left out. ``encoder``, ``velocity`` = None: the graphs of the folder.
        """
        super().__init__(
            folder,
            encoder or OnnxEncoder(folder, token_mel_ratio, threads),
            velocity or load_velocity(folder, threads, 2 if guided else 1),
        )
