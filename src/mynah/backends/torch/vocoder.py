"""The vocoder's networks run by torch, on any device."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
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
    """``BatchedVocoderNetwork`` on torch: NumPy in and out, computed on the module's device.

    Windows of one shape share a call and nothing is padded, because a layer pads with zeros only
    where an utterance really starts or ends. Streams in the middle of their utterances have
    windows of one shape, whatever their lengths.
    """

    def __init__(self, vocoder: HiFT) -> None:
        """Wrap a module; it must be on its device and in evaluation mode."""
        self._vocoder = vocoder

    def f0(self, mel: FloatArray) -> FloatArray:
        """Fundamental frequency in Hz, (F, n_mels) -> (F,)."""
        return self.f0_many([mel])[0]

    def f0_many(self, mels: Sequence[FloatArray]) -> list[FloatArray]:
        """See ``BatchedVocoderNetwork``."""
        widths = [max(len(mel), _F0_FRAMES) for mel in mels]
        masks = [
            np.pad(np.ones(len(mel), np.float32), (0, width - len(mel)))
            for mel, width in zip(mels, widths, strict=True)
        ]
        padded = [
            np.pad(mel, [(0, width - len(mel)), (0, 0)])
            for mel, width in zip(mels, widths, strict=True)
        ]
        found = self._run_alike(widths, lambda _: self._vocoder.f0, padded, masks)
        return [f0[: len(mel)] for f0, mel in zip(found, mels, strict=True)]

    def excitation(self, harmonics: FloatArray) -> FloatArray:
        """Mix harmonics to one source signal, (N, num_harmonics + 1) -> (N,)."""
        return self.excitation_many([harmonics])[0]

    def excitation_many(self, harmonics: Sequence[FloatArray]) -> list[FloatArray]:
        """See ``BatchedVocoderNetwork``; every sample is computed for itself."""
        mixed = self._run(self._vocoder.excitation, [np.concatenate(harmonics)])[0]
        return np.split(mixed, np.cumsum([len(one) for one in harmonics])[:-1])

    def decode(
        self, mel: FloatArray, source: FloatArray, crops: CropArray | None = None
    ) -> FloatArray:
        """Waveform from mel (F, n_mels) and source (N,), or (N, 2); see ``VocoderNetwork``."""
        return self.decode_many([(mel, source, crops)])[0]

    def decode_many(
        self, windows: Sequence[tuple[FloatArray, FloatArray, CropArray | None]]
    ) -> list[FloatArray]:
        """See ``BatchedVocoderNetwork``."""
        mels, sources, crops = zip(*windows, strict=True)
        kinds = [
            (len(mel), len(source), None if crop is None else tuple(crop.ravel().tolist()))
            for mel, source, crop in windows
        ]

        def function(index: int) -> Callable[..., Tensor]:
            crop = crops[index]
            positions = None if crop is None else torch.tensor(crop)
            return partial(self._vocoder.decode, crops=positions)

        return self._run_alike(kinds, function, mels, sources)

    def _run_alike(
        self,
        kinds: Sequence[Hashable],
        function: Callable[[int], Callable[..., Tensor]],
        *inputs: Sequence[FloatArray],
    ) -> list[FloatArray]:
        """Run those of one kind together, by the ``function`` of the first one's index."""
        alike: dict[Hashable, list[int]] = {}
        for index, kind in enumerate(kinds):
            alike.setdefault(kind, []).append(index)
        results: dict[int, FloatArray] = {}
        for members in alike.values():
            batches = ([arrays[index] for index in members] for arrays in inputs)
            rows = self._run(function(members[0]), *batches)
            results.update(zip(members, rows, strict=True))
        return [results[index] for index in range(len(kinds))]

    @torch.inference_mode()
    def _run(self, function: Callable[..., Tensor], *inputs: Sequence[FloatArray]) -> FloatArray:
        weight = self._vocoder.conv_pre.weight
        try:
            batch = [torch.from_numpy(np.stack(arrays)).to(weight) for arrays in inputs]
            result: FloatArray = function(*batch).float().cpu().numpy()
        except RuntimeError as error:
            raise BackendError(f"running the vocoder failed: {error}") from error
        return result
