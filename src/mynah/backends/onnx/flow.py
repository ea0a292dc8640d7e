"""The flow's networks run by ONNX Runtime; arrays are NumPy's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mynah.backends.base import NO_IDS, FloatArray, TokenArray
from mynah.backends.onnx.graph import CachedGraph, GraphState
from mynah.errors import ModelFormatError

_FRAME_KEYS = ("past_attention", "past_frames")
_TOKEN_KEYS = ("past_tokens",)


class OnnxFlow:
    """``FlowNetwork`` on the graphs ``flow_encoder`` and ``flow_velocity`` of a model folder.

    Raises:
        ModelNotFoundError: if a file is missing.
        ModelFormatError: if a file cannot be read.
    """

    def __init__(
        self, folder: Path, *, token_mel_ratio: int = 2, threads: int = 0, guided: bool = True
    ) -> None:
        """Load from ``folder``.

        ``threads`` = 0 lets ONNX Runtime choose; without ``guided`` the unconditional branch is
        left out.
        """
        self._ratio = token_mel_ratio
        self._guided = guided
        self._encoder = CachedGraph(folder / "flow_encoder.onnx", threads)
        self._velocity = CachedGraph(folder / "flow_velocity.onnx", threads)
        path = folder / "flow_embeddings.safetensors"
        try:
            tensors = load_file(path)
            self._speaker_weight: FloatArray = tensors["speaker.weight"]
            self._speaker_bias: FloatArray = tensors["speaker.bias"]
        except (OSError, SafetensorError, KeyError) as error:
            raise ModelFormatError(
                f"cannot read the speaker projection {path}: {error}",
                hint="download or convert the model again",
            ) from error

    def to_device(self, array: FloatArray) -> FloatArray:
        """Return ``array``: this backend computes on the host."""
        return array

    def to_numpy(self, array: FloatArray) -> FloatArray:
        """Return ``array``."""
        return array

    def speaker(self, embedding: FloatArray) -> FloatArray:
        """Normalise and project, (speaker_dim,) -> (n_mels,)."""
        unit = embedding / max(float(np.linalg.norm(embedding)), 1e-12)
        projected: FloatArray = (self._speaker_weight @ unit + self._speaker_bias).astype(
            np.float32
        )
        return projected

    def new_encoder_state(self) -> GraphState:
        """State of a token encoder that has read nothing."""
        return self._encoder.new_state()

    def new_velocity_state(self) -> GraphState:
        """State of one Euler step, rows 0 = conditional, 1 = unconditional if guided."""
        return self._velocity.new_state(batch=2 if self._guided else 1)

    def fork(self, state: GraphState) -> GraphState:
        """Copy either state."""
        return state.fork()

    def trim(self, state: GraphState, keep_frames: int) -> None:
        """Forget all but the last ``keep_frames`` frames."""
        held = state.view()
        for key in held:
            if key in _FRAME_KEYS:
                state.trim(key, keep_frames)
            elif key in _TOKEN_KEYS:
                state.trim(key, keep_frames // self._ratio)

    def encode(
        self, tokens: TokenArray, lookahead: TokenArray | None, state: GraphState
    ) -> FloatArray:
        """Tokens (T,) to mu (2T, n_mels)."""
        ahead = NO_IDS if lookahead is None else lookahead
        inputs = {"tokens": tokens[None], "lookahead": ahead[None]}
        mu: FloatArray = self._encoder.run(inputs, state)["mu"][0]
        return mu

    def velocity(
        self,
        x: FloatArray,
        t: float,
        mu: FloatArray,
        speaker: FloatArray,
        cond: FloatArray,
        state: GraphState,
    ) -> tuple[FloatArray, FloatArray]:
        """Conditional and unconditional velocity (F, n_mels); without guidance one for both."""
        if not self._guided:
            alone = {"x": x[None], "mu": mu[None], "speaker": speaker[None], "cond": cond[None]}
            alone["t"] = np.full(1, t, dtype=np.float32)
            only = self._velocity.run(alone, state)["velocity"][0]
            return only, only
        inputs = {
            "x": np.stack([x, x]),
            "mu": _conditional(mu),
            "speaker": _conditional(speaker),
            "cond": _conditional(cond),
            "t": np.full(2, t, dtype=np.float32),
        }
        rows = self._velocity.run(inputs, state)["velocity"]
        return rows[0], rows[1]


def _conditional(row: FloatArray) -> FloatArray:
    """Row 0 as given; row 1, the unconditional branch, zero."""
    return np.stack([row, np.zeros_like(row)])
