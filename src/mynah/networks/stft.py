"""Short-time Fourier transform and its inverse as convolution and matrix product.

Both equal ``torch.stft`` / ``torch.istft`` with a periodic Hann window and ``center=True``, but
they export to ONNX without complex numbers. A spectrum is (B, n_fft + 2, T): the real parts of
the n_fft // 2 + 1 bins, then the imaginary parts. T = samples / hop + 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mynah.errors import ModelFormatError


def _check(n_fft: int, hop_length: int) -> None:
    if n_fft % 2 or hop_length <= 0 or n_fft not in (2 * hop_length, 4 * hop_length):
        raise ModelFormatError(
            f"vocoder n_fft {n_fft} with hop {hop_length} is not supported",
            hint="n_fft must be even, and 2 or 4 times the hop",
        )


def _angles(n_fft: int) -> Tensor:
    """Phase of bin k at sample n: (n_fft // 2 + 1, n_fft), float64."""
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64)
    # modulo before the float product keeps the angles exact
    turns = torch.outer(bins, torch.arange(n_fft, dtype=torch.float64)) % n_fft
    return 2 * math.pi * turns / n_fft


class STFT(nn.Module):
    """Signal to spectrum; both ends are reflected by half a window."""

    basis: Tensor

    def __init__(self, n_fft: int, hop_length: int) -> None:
        """Build the windowed Fourier basis.

        Raises:
            ModelFormatError: if the hop is neither half nor a quarter of ``n_fft``.
        """
        super().__init__()
        _check(n_fft, hop_length)
        self.n_fft, self.hop_length = n_fft, hop_length
        window = torch.hann_window(n_fft, dtype=torch.float64)
        angles = _angles(n_fft)
        basis = torch.cat([angles.cos(), -angles.sin()]) * window
        self.register_buffer("basis", basis.float().unsqueeze(1), persistent=False)

    def forward(self, signal: Tensor) -> Tensor:
        """(B, N) -> (B, n_fft + 2, N / hop + 1); N must exceed n_fft / 2."""
        padded = functional.pad(signal.unsqueeze(1), [self.n_fft // 2] * 2, mode="reflect")
        return functional.conv1d(padded, self.basis, stride=self.hop_length)


class InverseSTFT(nn.Module):
    """Spectrum to signal by windowed overlap-add, divided by the window's own overlap."""

    basis: Tensor
    window_power: Tensor

    def __init__(self, n_fft: int, hop_length: int) -> None:
        """Build the windowed inverse basis.

        Raises:
            ModelFormatError: if the hop is neither half nor a quarter of ``n_fft``.
        """
        super().__init__()
        _check(n_fft, hop_length)
        self.n_fft, self.hop_length = n_fft, hop_length
        window = torch.hann_window(n_fft, dtype=torch.float64)
        angles = _angles(n_fft)
        weight = torch.full((n_fft // 2 + 1, 1), 2.0 / n_fft, dtype=torch.float64)
        weight[0] = weight[-1] = 1.0 / n_fft
        basis = torch.cat([weight * angles.cos(), -weight * angles.sin()]) * window
        self.register_buffer("basis", basis.float(), persistent=False)
        self.register_buffer("window_power", window.square().float(), persistent=False)

    def forward(self, spectrum: Tensor) -> Tensor:
        """(B, n_fft + 2, T) -> (B, (T - 1) * hop)."""
        frames = spectrum.transpose(1, 2) @ self.basis
        ones = torch.ones_like(frames[:1, :, :1])
        overlap = self._overlap_add(ones * self.window_power)
        return self._overlap_add(frames) / overlap

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """(B, T, n_fft) -> (B, (T - 1) * hop), half a window cut off at both ends."""
        parts = self.n_fft // self.hop_length
        blocks = [
            functional.pad(part, [0, 0, index, parts - 1 - index])
            for index, part in enumerate(torch.split(frames, self.hop_length, dim=2))
        ]
        signal = torch.stack(blocks).sum(dim=0).flatten(1)
        half = self.n_fft // 2
        return signal[:, half : signal.shape[1] - half]
