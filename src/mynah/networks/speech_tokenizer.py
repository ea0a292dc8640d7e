"""Supervised semantic speech tokenizer: log-mel -> finite scalar quantisation -> 25 Hz tokens.

FSQ after Mentzer et al. 2023, its use as a speech tokenizer with a recogniser's supervision after
CosyVoice 2 (Du et al. 2024). The phoneme heads exist for training and alignment only.
"""

# B batch, T time in tokens, D width, L number of FSQ digits

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.networks.convnext import ConvNeXtBlock


@dataclass(frozen=True)
class SpeechTokenizerSize:
    """Sizes of the tokenizer."""

    num_levels: int = 3
    """Values of one digit, odd: 2K + 1."""
    num_digits: int = 7
    n_mels: int = 128
    dim: int = 256
    num_blocks: int = 6
    num_phonemes: int = 64
    """Classes of the phoneme heads, class 0 is the CTC blank."""

    @property
    def codebook_size(self) -> int:
        """Number of different tokens."""
        return int(self.num_levels**self.num_digits)


class FSQ(nn.Module):
    """Bounded rounding of each digit; token = sum of (digit + K) (2K + 1)^j."""

    basis: Tensor

    def __init__(self, num_levels: int, num_digits: int) -> None:
        super().__init__()
        self.bound = (num_levels - 1) // 2
        basis = num_levels ** torch.arange(num_digits)
        self.register_buffer("basis", basis, persistent=False)

    def forward(self, z: Tensor, soft: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Quantise with a straight-through gradient.

        Args:
            z: (B, T, L) unbounded values.
            soft: (B,) bool, clips left unrounded (warm-up against codebook collapse).

        Returns:
            digits in [-1, 1] (B, T, L), and tokens (B, T) int64.
        """
        bounded = torch.tanh(z) * (self.bound + 1e-3)
        digits = torch.clamp(torch.round(bounded), -self.bound, self.bound)
        tokens = ((digits.detach() + self.bound).long() * self.basis).sum(-1)
        through = bounded + (digits - bounded).detach()
        if soft is not None:
            through = torch.where(soft[:, None, None], bounded, through)
        return through / self.bound, tokens

    def digits(self, tokens: Tensor) -> Tensor:
        """Tokens (...,) -> digits in [-1, 1] (..., L)."""
        levels = 2 * self.bound + 1
        values = torch.div(tokens[..., None], self.basis, rounding_mode="floor") % levels
        return (values - self.bound) / self.bound


class SpeechTokenizer(nn.Module):
    """Whisper log-mel at 100 Hz -> tokens at 25 Hz, with phoneme heads at 50 Hz."""

    def __init__(self, size: SpeechTokenizerSize) -> None:
        super().__init__()
        self.size = size
        dim = size.dim
        self.conv1 = nn.Conv1d(size.n_mels, dim, 5, stride=2, padding=2)
        self.conv2 = nn.Conv1d(dim, dim, 4, stride=2, padding=1)
        self.blocks = nn.ModuleList(ConvNeXtBlock(dim) for _ in range(size.num_blocks))
        self.norm = nn.LayerNorm(dim)
        self.down = nn.Linear(dim, size.num_digits)
        # Without normalised digits the codebook collapses to a handful of tokens.
        self.digit_norm = nn.BatchNorm1d(size.num_digits, affine=False, momentum=0.02)
        self.fsq = FSQ(size.num_levels, size.num_digits)
        self.up = nn.Linear(size.num_digits, 2 * dim)
        self.phoneme_blocks = nn.ModuleList(ConvNeXtBlock(dim, expansion=2) for _ in range(2))
        self.phoneme_norm = nn.LayerNorm(dim)
        self.ctc_head = nn.Linear(dim, size.num_phonemes)
        self.frame_head = nn.Linear(dim, size.num_phonemes)

    def encode(self, log_mel: Tensor) -> Tensor:
        """(B, 4T, n_mels) -> digit values before rounding (B, T, L)."""
        h = F.gelu(self.conv1(log_mel.transpose(1, 2)))
        h = F.gelu(self.conv2(h)).transpose(1, 2)
        for block in self.blocks:
            h = block(h)
        z = self.down(self.norm(h)).float()
        digits: Tensor = self.digit_norm(z.transpose(1, 2))
        return digits.transpose(1, 2)

    def phonemes(self, digits: Tensor) -> tuple[Tensor, Tensor]:
        """Digits (B, T, L) -> CTC logits and frame logits, each (B, 2T, num_phonemes)."""
        batch, time, _ = digits.shape
        h = self.up(digits).reshape(batch, 2 * time, self.size.dim)
        for block in self.phoneme_blocks:
            h = block(h)
        h = self.phoneme_norm(h)
        return self.ctc_head(h), self.frame_head(h)

    def forward(self, log_mel: Tensor) -> Tensor:
        """(B, 4T, n_mels) -> tokens (B, T) int64."""
        tokens: Tensor = self.fsq(self.encode(log_mel))[1]
        return tokens
