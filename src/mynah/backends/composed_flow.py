"""A flow of two networks, a token encoder and a velocity network, each run by what can run it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mynah.backends.base import FloatArray, State, StoredArray, TokenArray
from mynah.errors import ModelFormatError

ENCODER_GRAPH = "flow_encoder.onnx"
VELOCITY_GRAPH = "flow_velocity.onnx"
TIME_GRAPH = "flow_time.onnx"
"""What a velocity network makes of the flow time alone; only beside graphs built by hand."""
_EMBEDDINGS = "flow_embeddings.safetensors"


class EncoderNetwork(Protocol):
    """A token encoder and the states it makes."""

    def new_state(self) -> Any:
        """State of an encoder that has read nothing."""
        ...

    def restore(self, arrays: Mapping[str, StoredArray]) -> Any:
        """A state that was stored; raises ModelFormatError where it does not fit."""
        ...

    def encode(self, tokens: TokenArray, lookahead: TokenArray | None, state: Any) -> FloatArray:
        """Tokens (T,) to mu (2T, n_mels); see ``FlowNetwork``."""
        ...


class VelocityNetwork(Protocol):
    """A velocity network and the states it makes."""

    def new_state(self, *, guided: bool = True) -> Any:
        """State of one Euler step that has seen no frames; see ``FlowNetwork``."""
        ...

    def restore(self, arrays: Mapping[str, StoredArray], *, guided: bool = True) -> Any:
        """A state that was stored; raises ModelFormatError where it does not fit."""
        ...

    def run(
        self,
        x: FloatArray,
        t: float,
        mu: FloatArray,
        speaker: FloatArray,
        cond: FloatArray,
        state: Any,
    ) -> FloatArray:
        """Velocities (B, F, n_mels), the conditional branch first."""
        ...


class ComposedFlow:
    """``StorableFlowNetwork``; arrays are NumPy's.

    States of both networks have ``fork``, ``trim`` (how many frames to keep), and ``arrays``.

    Raises:
        ModelFormatError: if the speaker projection cannot be read.
    """

    def __init__(self, folder: Path, encoder: EncoderNetwork, velocity: VelocityNetwork) -> None:
        """Read the speaker projection of a model folder."""
        self._encoder, self._velocity = encoder, velocity
        path = folder / _EMBEDDINGS
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
        """Return ``array``: this flow computes on the host."""
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

    def new_encoder_state(self) -> State:
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

    def unpack_encoder(self, arrays: Mapping[str, StoredArray]) -> State:
        """See ``StorableFlowNetwork``."""
        return self._encoder.restore(arrays)

    def unpack_velocity(self, arrays: Mapping[str, StoredArray], *, guided: bool = True) -> State:
        """See ``StorableFlowNetwork``."""
        return self._velocity.restore(arrays, guided=guided)

    def trim(self, state: State, keep_frames: int) -> None:
        """Forget all but the last ``keep_frames`` frames."""
        state.trim(keep_frames)

    def encode(self, tokens: TokenArray, lookahead: TokenArray | None, state: State) -> FloatArray:
        """Tokens (T,) to mu (2T, n_mels)."""
        return self._encoder.encode(tokens, lookahead, state)

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
