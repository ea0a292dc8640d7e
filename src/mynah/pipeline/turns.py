"""Text and speech taking turns: what the language model reads next while its text still arrives.

A turn is ``text_speech_mix``: so many text ids, then up to so many speech tokens, ended by the
token ``fill``, which asks for more text (CosyVoice 2's unified streaming). The prompt's words and
speech are read in the same turns first. Which ids there are decides everything, never when they
came, so that the same text gives the same speech however it arrives.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mynah.backends.base import TASK_MARKER, Segment
from mynah.config import LMConfig
from mynah.errors import UnsupportedFeatureError
from mynah.pipeline.prompt import LMPrompt, opening, speech_segments, text_segments
from mynah.types import TokenArray


@dataclass(eq=False)
class TurnState:
    """Where the turns of one utterance stand; owned by its ``LMStageState``."""

    mix: tuple[int, int]
    """Text ids and speech tokens of one turn."""
    input: list[Segment]
    """What the network reads at the beginning of a turn, then what it read last."""
    unread: TokenArray
    """Text ids (N,) that wait for their turn."""
    prompt_speech: TokenArray
    """The prompt's speech tokens (N,) that wait for theirs."""
    next_fill: int
    """Length of the history at which the turn is ended if the model does not."""
    history: list[int] = field(default_factory=list)
    """Tokens made, ``fill`` among them."""
    num_text: int = 0
    """Text ids that came, without the prompt's."""
    has_read_text: bool = False
    is_speaking: bool = False
    """Whether tokens are to be made now."""
    is_text_over: bool = False
    is_last_turn: bool = False
    """Whether all text was read; what follows ends by itself."""

    @property
    def needs_text(self) -> bool:
        """Whether nothing can be made before ``add_text`` or ``end_text``."""
        enough = len(self.unread) >= self.mix[0]
        return not (self.is_speaking or self.is_text_over or enough)


def new_turns(prompt: LMPrompt, config: LMConfig) -> TurnState:
    """Begin an utterance; ``prompt.text`` is not looked at.

    Raises:
        UnsupportedFeatureError: if the model wants an utterance's whole text first.
        InvalidRequestError, ModelFormatError: see ``build_segments``.
    """
    if config.text_speech_mix is None or config.fill is None:
        raise UnsupportedFeatureError(
            "this model reads the whole text of an utterance before it speaks",
            hint="feed it whole sentences",
        )
    size = config.text_speech_mix[1]
    head, words = opening(prompt, config)
    speech = prompt.prompt_speech if prompt.mode == "zero_shot" else prompt.prompt_speech[:0]
    speech_segments(speech, config)  # the whole is checked before any of it is read
    return TurnState(
        mix=config.text_speech_mix,
        input=head,
        unread=words,
        prompt_speech=speech,
        # the prompt's last turn is filled up by the first tokens made
        next_fill=(len(speech) // size + 1) * size - len(speech),
    )


def add_text(turns: TurnState, ids: TokenArray, config: LMConfig) -> None:
    """Append text ids (N,)."""
    text_segments(ids, config)
    turns.unread = np.concatenate([turns.unread, ids])
    turns.num_text += len(ids)


def begin_turn(turns: TurnState, config: LMConfig) -> bool:
    """Choose what to read next; whether tokens can be made afterwards."""
    if turns.is_speaking:
        return True
    text, speech = turns.mix
    while len(turns.prompt_speech) and len(turns.unread) >= text:
        _read_text(turns, text, config)
        turns.input += speech_segments(turns.prompt_speech[:speech], config)
        turns.prompt_speech = turns.prompt_speech[speech:]
    wants_text = bool(turns.history) or not turns.has_read_text
    if not len(turns.prompt_speech) and not wants_text:
        turns.is_speaking = True  # goes on with the prompt's last turn
    elif not len(turns.prompt_speech) and len(turns.unread) >= text:
        if turns.history:
            turns.input = []
        _read_text(turns, text, config)
        turns.is_speaking = True
    elif turns.is_text_over:
        _finish(turns, config)
    return turns.is_speaking


def end_turn(turns: TurnState, config: LMConfig) -> None:
    """Note that ``fill`` was made. The network never reads it."""
    assert config.fill is not None  # new_turns checked it
    turns.next_fill = len(turns.history) + turns.mix[1] + 1
    turns.history.append(config.fill)
    turns.is_speaking = False


def _finish(turns: TurnState, config: LMConfig) -> None:
    """Read all that is left.

    After ``fill`` the released models read their last input twice, so this does; the recording of
    a prompt whose turn never came goes behind the text, as if the text had been there at once.
    """
    _read_text(turns, len(turns.unread), config)
    turns.input.append(Segment("marker", np.array([TASK_MARKER])))
    turns.input += speech_segments(turns.prompt_speech, config)
    turns.prompt_speech = turns.prompt_speech[:0]
    turns.is_speaking = turns.is_last_turn = True


def _read_text(turns: TurnState, count: int, config: LMConfig) -> None:
    turns.input += text_segments(turns.unread[:count], config)
    turns.unread = turns.unread[count:]
    turns.has_read_text = turns.has_read_text or count > 0
