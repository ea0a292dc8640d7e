"""Token encoder of CosyVoice 1: conformer at the token rate, then the length regulator's stack.

Between the two the frames are resized to the mel rate, which has no weights and lives in the
pipeline. Nothing here is causal: every position sees every other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.config import FlowConfig, RegulatedEncoderConfig
from mynah.networks.masks import attention_mask
from mynah.networks.relative import ConformerBlock, InputLayer, relative_positions
from mynah.networks.state import State, Tape

_KERNEL = 3


class LengthRegulator(nn.Module):
    """Convolutions that smooth what was resized, (B, F, n_mels) -> (B, F, n_mels)."""

    def __init__(self, n_mels: int, num_convs: int) -> None:
        """``num_convs`` convolutions with group norm over all frames, and a linear output."""
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(n_mels, n_mels, _KERNEL, padding=_KERNEL // 2) for _ in range(num_convs)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, n_mels) for _ in range(num_convs))
        self.output = nn.Conv1d(n_mels, n_mels, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """Smooth frames at the mel rate."""
        x = frames.transpose(1, 2)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.mish(norm(conv(x)))
        smoothed: Tensor = self.output(x).transpose(1, 2)
        return smoothed


class RegulatedEncoder(nn.Module):
    """Speech tokens (B, T) to frames (B, T, n_mels), still one for each token."""

    def __init__(self, config: FlowConfig, sizes: RegulatedEncoderConfig) -> None:
        """Build with random weights; ``sizes`` is the configuration's encoder part."""
        super().__init__()
        self.sizes = sizes
        self.embedding = nn.Embedding(config.speech_vocab_size, config.input_size)
        self.input = InputLayer(config.input_size, sizes.dim)
        block = (sizes.dim, sizes.num_heads, sizes.feed_forward)
        self.blocks = nn.ModuleList(ConformerBlock(*block) for _ in range(sizes.num_blocks))
        self.norm = nn.LayerNorm(sizes.dim)
        self.projection = nn.Linear(sizes.dim, config.n_mels)
        self.regulator = LengthRegulator(config.n_mels, sizes.num_regulator_convs)

    def initial_state(self, batch: int = 1) -> State:
        """No state: a call knows nothing of earlier ones."""
        return {}

    def forward(
        self,
        tokens: Tensor,
        lookahead: Tensor | None = None,
        state: State | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Frames of the tokens, before they are resized.

        Args:
            tokens: int64 (B, T).
            lookahead: int64 (B, L), tokens that are seen but yield no frame.
            state: ignored; there is none.
            mask: bool (B, T), False = padding at the end of a row.

        Returns:
            (B, T, n_mels) and an empty state.
        """
        seen = tokens if lookahead is None else torch.cat([tokens, lookahead], dim=1)
        hidden = self.encode(self.embedding(seen), mask)
        return self.projection(hidden[:, : tokens.shape[1]]), {}

    def encode(self, embedded: Tensor, mask: Tensor | None = None) -> Tensor:
        """Embedded tokens (B, T, input_size) to hidden (B, T, dim); mask as of ``forward``."""
        visible = attention_mask(None, mask)
        x = self.input(embedded)
        count, tape = x.shape[1], Tape(None)
        positions = relative_positions(count, count, self.sizes.dim, x)
        for block in self.blocks:
            x = block(x, positions, visible, tape, "")
        normed: Tensor = self.norm(x)
        return normed

    def regulate(self, frames: Tensor) -> Tensor:
        """Resized frames (B, F, n_mels) at the mel rate to mean frames mu (B, F, n_mels)."""
        mu: Tensor = self.regulator(frames)
        return mu
