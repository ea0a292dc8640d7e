"""CosyVoice 1's flow by ONNX Runtime: graphs without state."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mynah.backends.base import FloatArray, TokenArray
from mynah.backends.onnx.graph import Graph
from mynah.backends.onnx.tensors import map_tensors
from mynah.errors import ModelFormatError


class OnnxRegulatedFlow:
    """``RegulatedFlowNetwork`` on the graphs of a model folder; states are None.

    Raises:
        ModelNotFoundError: if a file is missing.
        ModelFormatError: if a file cannot be read.
    """

    def __init__(self, folder: Path, *, threads: int = 0, guided: bool = True) -> None:
        """Load from ``folder``.

        ``threads`` = 0 lets ONNX Runtime choose; without ``guided`` the unconditional branch is
        left out.
        """
        self._guided = guided
        self._encoder = Graph(folder / "flow_encoder.onnx", threads)
        self._regulator = Graph(folder / "flow_regulator.onnx", threads)
        self._velocity = Graph(folder / "flow_velocity.onnx", threads)
        path = folder / "flow_embeddings.safetensors"
        tensors = map_tensors(path)
        if set(tensors) != {"speaker.weight", "speaker.bias"}:
            raise ModelFormatError(
                f"{path} holds {sorted(tensors)}, not the speaker projection",
                hint="download or convert the model again",
            )
        # copies: a few numbers, and no file stays mapped
        self._speaker_weight = np.array(tensors["speaker.weight"], np.float32)
        self._speaker_bias = np.array(tensors["speaker.bias"], np.float32)

    def to_device(self, array: FloatArray) -> FloatArray:
        """Return ``array``: this backend computes on the host."""
        return array

    def to_numpy(self, array: FloatArray) -> FloatArray:
        """Return ``array``."""
        return array

    def speaker(self, embedding: FloatArray) -> FloatArray:
        """Normalise and project, (speaker_dim,) -> (n_mels,)."""
        unit = embedding / np.float32(max(float(np.linalg.norm(embedding)), 1e-12))
        projected: FloatArray = self._speaker_weight @ unit + self._speaker_bias
        return projected.astype(np.float32)

    def new_encoder_state(self) -> None:
        """No state: a call knows nothing of earlier ones."""

    def new_velocity_state(self, *, guided: bool = True) -> None:
        """No state."""

    def fork(self, state: None) -> None:
        """Nothing to copy."""

    def trim(self, state: None, keep_frames: int) -> None:
        """Nothing to forget."""

    def encode(self, tokens: TokenArray, lookahead: TokenArray | None, state: None) -> FloatArray:
        """Tokens (T,) to frames (T, n_mels) that are still to be resized."""
        seen = tokens if lookahead is None else np.concatenate([tokens, lookahead])
        frames: FloatArray = self._encoder.run({"tokens": seen[None]})["frames"][0]
        return frames[: len(tokens)]

    def regulate(self, frames: FloatArray) -> FloatArray:
        """Smooth resized frames, (F, n_mels) -> (F, n_mels)."""
        mu: FloatArray = self._regulator.run({"frames": frames[None]})["mu"][0]
        return mu

    def velocity(
        self,
        x: FloatArray,
        t: float,
        mu: FloatArray,
        speaker: FloatArray,
        cond: FloatArray,
        state: None,
    ) -> tuple[FloatArray, FloatArray]:
        """Conditional and unconditional velocity (F, n_mels); without guidance one for both."""
        given = {"mu": mu, "speaker": speaker, "cond": cond}
        rows = {name: [array] for name, array in given.items()}
        if self._guided:
            for name, array in given.items():
                rows[name].append(np.zeros_like(array))
        batch = len(rows["mu"])
        inputs = {name: np.stack(arrays) for name, arrays in rows.items()}
        inputs["x"] = np.stack([x] * batch)
        inputs["t"] = np.full(batch, t, dtype=np.float32)
        velocity = self._velocity.run(inputs)["velocity"]
        return velocity[0], velocity[-1]
