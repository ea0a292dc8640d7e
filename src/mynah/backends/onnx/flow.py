"""The flow's networks run by ONNX Runtime; arrays are NumPy's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mynah.backends.base import NO_IDS, FloatArray, State, StoredArray, TokenArray
from mynah.backends.onnx.graph import CachedGraph, GraphState
from mynah.backends.onnx.velocity import VelocityNetwork, load_velocity
from mynah.errors import ModelFormatError

_FRAME_KEYS = ("past_attention", "past_frames")
_TOKEN_KEYS = ("past_tokens",)


class OnnxFlow:
    """``FlowNetwork`` on the graphs ``flow_encoder`` and ``flow_velocity`` of a model folder.

    Something faster may take the place of the second one.

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
        velocity: VelocityNetwork | None = None,
    ) -> None:
        """Load from ``folder``.

        ``threads`` = 0 lets ONNX Runtime choose; without ``guided`` the unconditional branch is
        left out. ``velocity`` = None: the graph of the folder.
        """
        self._ratio = token_mel_ratio
        self._encoder = CachedGraph(folder / "flow_encoder.onnx", threads)
        self._velocity = velocity or load_velocity(folder, threads, 2 if guided else 1)
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

    def new_velocity_state(self, *, guided: bool = True) -> State:
        """State of one Euler step, of both guidance branches if the network has them."""
        return self._velocity.new_state(guided=guided)

    def fork(self, state: State) -> State:
        """A state that goes on alone; large parts are shared, not copied, where it is possible."""
        return state.fork()

    def pack(self, state: State) -> dict[str, StoredArray]:
        """See ``StorableFlowNetwork``."""
        arrays: dict[str, StoredArray] = state.arrays()
        return arrays

    def unpack_encoder(self, arrays: Mapping[str, StoredArray]) -> GraphState:
        """See ``StorableFlowNetwork``."""
        return self._encoder.restore(arrays)

    def unpack_velocity(self, arrays: Mapping[str, StoredArray]) -> State:
        """See ``StorableFlowNetwork``."""
        return self._velocity.restore(arrays)

    def trim(self, state: State, keep_frames: int) -> None:
        """Forget all but the last ``keep_frames`` frames."""
        if not isinstance(state, GraphState):
            state.trim(keep_frames)
            return
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
        state: State,
    ) -> tuple[FloatArray, FloatArray]:
        """Conditional and unconditional velocity (F, n_mels); without guidance one for both."""
        rows = self._velocity.run(x, t, mu, speaker, cond, state)
        return rows[0], rows[-1]
