"""The vocoder's networks run by torch, on any device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mynah.backends.base import CropArray, FloatArray
from mynah.errors import BackendError
from mynah.networks.vocoder import HiFT

# Convolutions of another length are rounded in another order, and F0 errors add up in the phase.
# Windows are padded to one length, so that a frame gets the same F0 whatever window it is in.
_F0_FRAMES = 256


class TorchVocoder:
    """``VocoderNetwork`` on torch: NumPy in and out, computed on the module's device."""

    def __init__(self, vocoder: HiFT) -> None:
        """Wrap a module; it must be on its device and in evaluation mode."""
        self._vocoder = vocoder

    def f0(self, mel: FloatArray) -> FloatArray:
        """Fundamental frequency in Hz, (F, n_mels) -> (F,)."""
        padding = max(_F0_FRAMES - len(mel), 0)
        mask = np.pad(np.ones(len(mel), np.float32), (0, padding))
        padded = np.pad(mel, [(0, padding), (0, 0)])
        return self._run(self._vocoder.f0, padded, mask)[: len(mel)]

    def excitation(self, harmonics: FloatArray) -> FloatArray:
        """Mix harmonics to one source signal, (N, num_harmonics + 1) -> (N,)."""
        return self._run(self._vocoder.excitation, harmonics)

    def decode(
        self, mel: FloatArray, source: FloatArray, crops: CropArray | None = None
    ) -> FloatArray:
        """Waveform from mel (F, n_mels) and source (N,), or (N, 2); see ``VocoderNetwork``."""
        positions = None if crops is None else torch.tensor(crops)
        return self._run(partial(self._vocoder.decode, crops=positions), mel, source)

    @torch.inference_mode()
    def _run(self, function: Callable[..., Tensor], *arrays: FloatArray) -> FloatArray:
        weight = self._vocoder.conv_pre.weight
        try:
            batch = [torch.tensor(array).to(weight)[None] for array in arrays]
            result: FloatArray = function(*batch)[0].float().cpu().numpy()
        except RuntimeError as error:
            raise BackendError(f"running the vocoder failed: {error}") from error
        return result
