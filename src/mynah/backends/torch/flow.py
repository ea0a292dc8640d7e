"""The flow's networks run by torch, on any device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mynah.backends.base import FloatArray, StoredArray, TokenArray
from mynah.backends.torch.state import CachedModule, ModuleState
from mynah.errors import ModelFormatError
from mynah.networks.flow import Flow
from mynah.networks.regulated import RegulatedEncoder
from mynah.networks.state import grows

_FRAME_KEYS = ("past_attention", "past_frames")
_TOKEN_KEYS = ("past_tokens",)


class TorchFlow:
    """``FlowNetwork`` on torch: arrays are tensors on the module's device."""

    def __init__(self, flow: Flow) -> None:
        """Wrap a module; it must be on its device and in evaluation mode."""
        self._flow = flow
        self._guided = flow.config.cfg_rate != 0
        self._encoder = CachedModule(flow.encoder)
        self._velocity = CachedModule(flow.velocity)

    @property
    def _weight(self) -> Tensor:
        return self._flow.speaker_affine.weight

    def to_device(self, array: FloatArray) -> Tensor:
        """Tensor of the module's device and type."""
        return torch.tensor(array).to(self._weight)

    def to_numpy(self, array: Tensor) -> FloatArray:
        """Float32 array on the host."""
        host: FloatArray = array.float().cpu().numpy()
        return host

    @torch.inference_mode()
    def speaker(self, embedding: FloatArray) -> Tensor:
        """Normalise and project, (speaker_dim,) -> (n_mels,)."""
        return self._flow.speaker(self.to_device(embedding)[None])[0]

    def new_encoder_state(self) -> ModuleState:
        """State of a token encoder that has read nothing."""
        return self._encoder.new_state()

    def new_velocity_state(self, *, guided: bool = True) -> ModuleState:
        """State of one Euler step, rows 0 = conditional, 1 = unconditional if guided."""
        return self._velocity.new_state(batch=2 if self._guided and guided else 1)

    @torch.inference_mode()
    def fork(self, state: ModuleState) -> ModuleState:
        """Copy either state."""
        return state.fork()

    def pack(self, state: ModuleState) -> dict[str, StoredArray]:
        """See ``StorableFlowNetwork``."""
        return {key: value.cpu().numpy() for key, value in state.view().items()}

    def unpack_encoder(self, arrays: Mapping[str, StoredArray]) -> ModuleState:
        """See ``StorableFlowNetwork``."""
        return self._unpack(arrays, self.new_encoder_state())

    def unpack_velocity(self, arrays: Mapping[str, StoredArray]) -> ModuleState:
        """See ``StorableFlowNetwork``."""
        return self._unpack(arrays, self.new_velocity_state())

    def _unpack(self, arrays: Mapping[str, StoredArray], like: ModuleState) -> ModuleState:
        expected = {key: tuple(value.shape) for key, value in like.view().items()}
        for key, shape in expected.items():
            found = arrays[key].shape if key in arrays else ()
            if len(found) != len(shape) or found[grows(key) :] != shape[grows(key) :]:
                raise ModelFormatError(
                    f"the stored state does not fit this flow: {key} is missing or another form",
                    hint="delete the stored state; it is computed again",
                )
        return ModuleState({key: self.to_device(np.array(arrays[key])) for key in expected})

    @torch.inference_mode()
    def trim(self, state: ModuleState, keep_frames: int) -> None:
        """Forget all but the last ``keep_frames`` frames."""
        held = state.view()
        for key in held:
            if key in _FRAME_KEYS:
                state.trim(key, keep_frames)
            elif key in _TOKEN_KEYS:
                state.trim(key, keep_frames // self._flow.config.frames_per_token)

    @torch.inference_mode()
    def encode(
        self, tokens: TokenArray, lookahead: TokenArray | None, state: ModuleState
    ) -> Tensor:
        """Tokens (T,) to mu, or to frames that are still to be resized, (F, n_mels)."""
        device = self._weight.device
        ids = torch.tensor(tokens, device=device)[None]
        ahead = None if lookahead is None else torch.tensor(lookahead, device=device)[None]
        mu: Tensor = self._encoder.run({"tokens": ids, "lookahead": ahead}, state)[0]
        return mu

    @torch.inference_mode()
    def velocity(
        self, x: Tensor, t: float, mu: Tensor, speaker: Tensor, cond: Tensor, state: ModuleState
    ) -> tuple[Tensor, Tensor]:
        """Conditional and unconditional velocity (F, n_mels); without guidance one for both."""
        if not self._guided or _batch(state) == 1:
            alone = {"x": x[None], "mu": mu[None], "speaker": speaker[None], "cond": cond[None]}
            only: Tensor = self._velocity.run(alone | {"t": x.new_full((1,), t)}, state)[0]
            return only, only
        inputs = {
            "x": x.expand(2, -1, -1),
            "mu": _conditional(mu),
            "speaker": _conditional(speaker),
            "cond": _conditional(cond),
            "t": x.new_full((2,), t),
        }
        rows: Tensor = self._velocity.run(inputs, state)
        return rows[0], rows[1]


class TorchRegulatedFlow(TorchFlow):
    """``RegulatedFlowNetwork`` on torch."""

    @torch.inference_mode()
    def regulate(self, frames: Tensor) -> Tensor:
        """Smooth resized frames, (F, n_mels) -> (F, n_mels)."""
        encoder = self._flow.encoder
        assert isinstance(encoder, RegulatedEncoder)  # chosen by its kind
        return encoder.regulate(frames[None])[0]


def torch_flow(flow: Flow) -> TorchFlow:
    """The backend for a flow, of whichever kind its token encoder asks for."""
    return _KINDS.get(flow.config.encoder.kind, TorchFlow)(flow)


def _batch(state: ModuleState) -> int | None:
    """Branches that a state was made for; None where a network keeps nothing."""
    for key, value in state.view().items():
        if not grows(key):
            return value.shape[0]
    return None


def _conditional(row: Tensor) -> Tensor:
    """Row 0 as given; row 1, the unconditional branch, zero."""
    return torch.stack([row, torch.zeros_like(row)])


_KINDS: Mapping[str, type[TorchFlow]] = {"regulated_conformer": TorchRegulatedFlow}
