"""Long silences of the language model, shortened on their way to the flow.

A model that may go silent for long (CosyVoice 3) is cut off after a few silent tokens in a row: the
flow never hears of the rest. The language model and the sampler's history keep all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from mynah.config import LMConfig


@dataclass(eq=False)
class SilenceState:
    """Silent tokens in a row, up to the last one of an utterance; changed by ``is_heard``."""

    length: int = 0


def is_heard(token: int, state: SilenceState, config: LMConfig) -> bool:
    """Whether the next token of an utterance goes on to the flow."""
    if token not in config.silent_tokens:
        state.length = 0
        return True
    state.length += 1
    return state.length <= config.max_silent_tokens
