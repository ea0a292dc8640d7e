"""Convolutions that look a few tokens ahead: a layer of token encoders, and a whole small one.

Tokens that are not known yet, or that never come because the utterance ends, count as zeros.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.config import FlowConfig, LookaheadEncoderConfig
from mynah.networks.conv import TimeConv
from mynah.networks.state import State, Tape

OUTPUT_KERNEL = 3
"""Positions that the second convolution sees: its own and those before it."""

_CONTEXT = "context_lookahead"
_SLOPE = 0.01


def look_ahead(
    x: Tensor, following: Tensor | None, ahead_conv: TimeConv, output_conv: TimeConv, tape: Tape
) -> Tensor:
    """Add to each position what two convolutions make of it, those ahead and those before.

    Args:
        x: (B, T, C).
        following: (B, L, C), the positions after ``x``; missing ones count as zeros.
        ahead_conv: C to any width, sees a position and those ahead of it.
        output_conv: that width to C, sees a position and those before it.
        tape: holds the state ``context_lookahead``.

    Returns:
        (B, T, C).
    """
    ahead = ahead_conv.kernel_size - 1
    parts = [x] if following is None else [x, following]
    end = x.new_zeros(x.shape[0], ahead, x.shape[2])
    known = torch.cat([*parts, end], dim=1)[:, : x.shape[1] + ahead]
    hidden = F.leaky_relu(ahead_conv(known), _SLOPE)
    left = output_conv.kernel_size - 1
    result: Tensor = x + output_conv(tape.pad(_CONTEXT, hidden, left, output_conv.in_channels))
    return result


class LookaheadEncoder(nn.Module):
    """Speech tokens (B, T) to mean mel frames (B, 2T, n_mels): look ahead, then repeat each."""

    def __init__(self, config: FlowConfig, sizes: LookaheadEncoderConfig) -> None:
        """Build with random weights; ``sizes`` is the configuration's encoder part."""
        super().__init__()
        self.ratio = config.frames_per_token
        width = config.input_size
        self.embedding = nn.Embedding(config.speech_vocab_size, width)
        self.lookahead_conv = TimeConv(width, sizes.channels, sizes.lookahead_tokens + 1)
        self.lookahead_output = TimeConv(sizes.channels, width, OUTPUT_KERNEL)

    def initial_state(self, batch: int = 1) -> State:
        """State before the first token."""
        conv = self.lookahead_output
        return {_CONTEXT: conv.weight.new_zeros(batch, OUTPUT_KERNEL - 1, conv.in_channels)}

    def forward(
        self,
        tokens: Tensor,
        lookahead: Tensor | None = None,
        state: State | None = None,
        chunk_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Mean mel frames of the tokens.

        Args:
            tokens: int64 (B, T).
            lookahead: int64 (B, L), the tokens that follow; missing ones, or None, count as the
                end of the utterance.
            state: what earlier calls left; None = start of an utterance, keep nothing.
            chunk_mask: changes nothing, because nothing attends here.
            mask: bool (B, T), False = padding at the end of a row.

        Returns:
            frames (B, 2T, n_mels) and the new state parts (empty when ``state`` is None).
        """
        ahead = None if lookahead is None else self.embedding(lookahead)
        tape = Tape(state)
        hidden = self.encode(self.embedding(tokens), ahead, tape, mask)
        frames = hidden[:, :, None].expand(-1, -1, self.ratio, -1).flatten(1, 2)
        return frames, tape.new()

    def encode(
        self,
        embedded: Tensor,
        lookahead: Tensor | None,
        tape: Tape,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Embedded tokens (B, T, n_mels) to one frame for each, (B, T, n_mels)."""
        if mask is not None:  # a padded token must look like the end of the utterance
            embedded = embedded * mask[:, :, None]
        return look_ahead(embedded, lookahead, self.lookahead_conv, self.lookahead_output, tape)
