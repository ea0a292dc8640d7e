"""The flow's networks run by torch, on any device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mynah.backends.base import FloatArray, StoredArray, TokenArray
from mynah.backends.torch.blocks import upload
from mynah.backends.torch.paged import PagedModule, PagedState
from mynah.errors import ModelFormatError
from mynah.networks.flow import Flow
from mynah.networks.regulated import RegulatedEncoder
from mynah.networks.state import grows

_FRAME_KEYS = ("past_attention", "past_frames")
_TOKEN_KEYS = ("past_tokens",)


class TorchFlow:
    """``BatchedFlowNetwork`` on torch: arrays are tensors on the module's device.

    One stream is a batch of one: there is one way through the networks.
    """

    def __init__(self, flow: Flow) -> None:
        """Wrap a module; it must be on its device and in evaluation mode."""
        self._flow = flow
        self._guided = flow.config.cfg_rate != 0
        tokens, ratio = flow.config.encoder.chunk_tokens, flow.config.token_mel_ratio or 1
        # A chunk fills a block, so that forks and trimmed pasts share or free whole ones.
        self._encoder = PagedModule(flow.encoder, {"past_frames": ratio}, tokens)
        self._velocity = PagedModule(flow.velocity, {}, tokens * ratio)

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

    def new_encoder_state(self) -> PagedState:
        """State of a token encoder that has read nothing."""
        return self._encoder.new_state()

    def new_velocity_state(self, *, guided: bool = True) -> PagedState:
        """State of one Euler step, rows 0 = conditional, 1 = unconditional if guided."""
        return self._velocity.new_state(2 if self._guided and guided else 1)

    @torch.inference_mode()
    def fork(self, state: PagedState) -> PagedState:
        """Copy either state."""
        return state.fork()

    @torch.inference_mode()
    def pack(self, state: PagedState) -> dict[str, StoredArray]:
        """See ``StorableFlowNetwork``."""
        return {key: value.cpu().numpy() for key, value in state.tensors().items()}

    def unpack_encoder(self, arrays: Mapping[str, StoredArray]) -> PagedState:
        """See ``StorableFlowNetwork``."""
        return self._unpack(arrays, self._encoder)

    def unpack_velocity(
        self, arrays: Mapping[str, StoredArray], *, guided: bool = True
    ) -> PagedState:
        """See ``StorableFlowNetwork``."""
        return self._unpack(arrays, self._velocity, 2 if self._guided and guided else 1)

    @torch.inference_mode()
    def _unpack(
        self, arrays: Mapping[str, StoredArray], module: PagedModule, rows: int = 1
    ) -> PagedState:
        expected = {key: tuple(value.shape) for key, value in module.empty(rows).items()}
        for key, shape in expected.items():
            found = arrays[key].shape if key in arrays else ()
            if len(found) != len(shape) or found[grows(key) :] != shape[grows(key) :]:
                raise ModelFormatError(
                    f"the stored state does not fit this flow: {key} is missing or another form",
                    hint="delete the stored state; it is computed again",
                )
        return module.state_of({key: self.to_device(np.array(arrays[key])) for key in expected})

    @torch.inference_mode()
    def trim(self, state: PagedState, keep_frames: int) -> None:
        """Forget all but the last ``keep_frames`` frames."""
        for key in state.past:
            if key in _FRAME_KEYS:
                state.trim(key, keep_frames)
            elif key in _TOKEN_KEYS:
                state.trim(key, keep_frames // self._flow.config.frames_per_token)

    @torch.inference_mode()
    def encode(self, tokens: TokenArray, lookahead: TokenArray | None, state: PagedState) -> Tensor:
        """Tokens (T,) to mu, or to frames that are still to be resized, (F, n_mels)."""
        return self.encode_many([tokens], [lookahead], [state])[0]

    def stack(self, arrays: Sequence[Tensor]) -> Tensor:
        """See ``BatchedFlowNetwork``."""
        return torch.stack(list(arrays))

    @torch.inference_mode()
    def encode_many(
        self,
        tokens: Sequence[TokenArray],
        lookaheads: Sequence[TokenArray | None],
        states: Sequence[PagedState],
    ) -> Tensor:
        """See ``BatchedFlowNetwork``."""
        known = [
            one if ahead is None else np.concatenate([one, ahead])
            for one, ahead in zip(tokens, lookaheads, strict=True)
        ]
        lengths, ends = [len(one) for one in tokens], [len(one) for one in known]
        ids = np.zeros((len(known), max(ends)), np.int64)
        for row, one in zip(ids, known, strict=True):
            row[: len(one)] = one
        rows, width = upload(ids, self._weight.device), max(lengths)
        inputs = {
            "tokens": rows[:, :width],
            "lookahead": rows[:, width:] if rows.shape[1] > width else None,
        }
        return self._encoder.run(inputs, states, lengths, ends)

    @torch.inference_mode()
    def velocity(
        self, x: Tensor, t: float, mu: Tensor, speaker: Tensor, cond: Tensor, state: PagedState
    ) -> tuple[Tensor, Tensor]:
        """Conditional and unconditional velocity (F, n_mels); without guidance one for both."""
        alone = (x[None], t, mu[None], speaker[None], cond[None])
        velocity, unconditional = self.velocity_many(*alone, [len(x)], [state])
        return velocity[0], unconditional[0]

    @torch.inference_mode()
    def velocity_many(
        self,
        x: Tensor,
        t: float,
        mu: Tensor,
        speakers: Tensor,
        cond: Tensor,
        lengths: Sequence[int],
        states: Sequence[PagedState],
    ) -> tuple[Tensor, Tensor]:
        """See ``BatchedFlowNetwork``; without guidance one velocity for both."""
        inputs = {"x": x, "mu": mu, "speaker": speakers, "cond": cond}
        if states[0].rows == 2:
            zeros = {key: torch.zeros_like(value) for key, value in inputs.items()} | {"x": x}
            inputs = {key: torch.cat([value, zeros[key]]) for key, value in inputs.items()}
        inputs["t"] = x.new_full((len(inputs["x"]),), t)
        rows = self._velocity.run(inputs, states, lengths)
        return rows[: len(x)], rows[-len(x) :]


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


_KINDS: Mapping[str, type[TorchFlow]] = {"regulated_conformer": TorchRegulatedFlow}
