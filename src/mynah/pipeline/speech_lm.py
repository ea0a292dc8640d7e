"""The language model stage: read a prompt, then give speech tokens one by one until the end.

Which token comes next and when to stop is decided here, for every backend. All that changes is in
``LMStageState``, which one session owns.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mynah.backends.base import Cursor, Segment, SpeechLM, State
from mynah.config import LMConfig, PointerConfig, SamplingConfig
from mynah.errors import GenerationError
from mynah.pipeline.prompt import LMPrompt, build_segments
from mynah.pipeline.sampling import ban, sample_nucleus, sample_token
from mynah.pipeline.turns import TurnState, add_text, begin_turn, end_turn, new_turns
from mynah.types import FloatArray, TokenArray

_POINTER_TOP_P = 0.9
_NO_SCORES: FloatArray = np.zeros(0, dtype=np.float32)

BoolArray = npt.NDArray[np.bool_]


@dataclass(eq=False)
class LMStageState:
    """One utterance being spoken; owned by its session."""

    network: State
    """The backend's state: everything read and made but the last token."""
    logits: FloatArray
    """Scores (V,) for the next token; stale while ``pending`` is set."""
    rng: np.random.Generator
    sampling: SamplingConfig
    min_tokens: int
    max_tokens: int
    pauses: BoolArray
    """(N,): which text positions are pauses; only pointer models look at it."""
    cursor: Cursor | None = None
    """Place in the text of the token about to be made; None without a pointer."""
    tokens: list[int] = field(default_factory=list)
    """Tokens made so far."""
    pending: int | None = None
    """Last token, not yet read by the network."""
    is_finished: bool = False
    hit_limit: bool = False
    """Whether it finished only because ``max_tokens`` was reached."""
    error: GenerationError | None = None
    """Why it finished, if the network's scores were unusable."""
    turns: TurnState | None = None
    """Where text and speech take turns; None = the whole text was read at the start."""

    @property
    def needs_text(self) -> bool:
        """Whether no token can be made before more text comes, or its end."""
        return self.turns is not None and not self.is_finished and self.turns.needs_text

    @property
    def share(self) -> float:
        """How much of the utterance's text so far was spoken, 0 to 1, roughly."""
        if self.cursor is not None:
            return self.cursor.position / max(len(self.pauses), 1)
        num_text = len(self.pauses) if self.turns is None else self.turns.num_text
        ratios = self.sampling.min_token_text_ratio + self.sampling.max_token_text_ratio
        return min(len(self.tokens) / max(num_text * ratios / 2, 1.0), 1.0)


class SpeechLMStage:
    """The stage for one model: holds nothing that changes."""

    def __init__(self, network: SpeechLM, config: LMConfig, sampling: SamplingConfig) -> None:
        """``sampling`` holds the model's defaults, the length rules among them."""
        self._network = network
        self._config = config
        self._sampling = sampling

    def start(
        self,
        prompt: LMPrompt,
        rng: np.random.Generator,
        *,
        sampling: SamplingConfig | None = None,
        pauses: BoolArray | None = None,
    ) -> LMStageState:
        """Read the prompt of one utterance.

        Args:
            prompt: text and voice.
            rng: used up by this utterance; the same seed gives the same tokens.
            sampling: instead of the model's defaults.
            pauses: (N,), True where the text position is punctuation or silence.

        Raises:
            InvalidRequestError, UnsupportedFeatureError, ModelFormatError: see ``build_segments``.
            BackendError: if the network fails.
        """
        num_text = len(prompt.text)
        if pauses is None:
            pauses = np.zeros(num_text, dtype=np.bool_)
        if len(pauses) != num_text:
            raise ValueError(f"{len(pauses)} pause marks for {num_text} text positions")
        sampling = sampling or self._sampling
        cursor = None if self._config.pointer is None else Cursor(0, 0)
        segments = build_segments(prompt, self._config)
        logits, network = self._network.prefill(segments, cursor=cursor)
        return LMStageState(
            network=network,
            logits=logits,
            rng=rng,
            sampling=sampling,
            min_tokens=int(num_text * sampling.min_token_text_ratio),
            max_tokens=int(num_text * sampling.max_token_text_ratio),
            pauses=pauses,
            cursor=cursor,
        )

    def start_turns(
        self,
        prompt: LMPrompt,
        rng: np.random.Generator,
        *,
        sampling: SamplingConfig | None = None,
    ) -> LMStageState:
        """Begin an utterance whose text comes while it is spoken: ``add_text``, ``end_text``.

        Raises:
            UnsupportedFeatureError: if the model wants an utterance's whole text first.
            InvalidRequestError, ModelFormatError: see ``build_segments``.
        """
        return LMStageState(
            network=None,
            logits=_NO_SCORES,
            rng=rng,
            sampling=sampling or self._sampling,
            min_tokens=0,
            max_tokens=sys.maxsize,  # both are known when the text has ended
            pauses=np.zeros(0, dtype=np.bool_),
            turns=new_turns(prompt, self._config),
        )

    def add_text(self, state: LMStageState, ids: TokenArray) -> None:
        """Append text ids (N,) to an utterance of ``start_turns``.

        Raises:
            ModelFormatError: if an id is out of range.
        """
        assert state.turns is not None  # start_turns made it
        add_text(state.turns, ids, self._config)

    def end_text(self, state: LMStageState) -> None:
        """Say that an utterance of ``start_turns`` has all its text."""
        assert state.turns is not None  # start_turns made it
        state.turns.is_text_over = True

    def next_token(self, state: LMStageState) -> int | None:
        """Make one token; None once speech has ended, or has to wait. See ``step_many``.

        Raises:
            GenerationError: if the network's scores are NaN or infinite.
            BackendError: if the network fails.
        """
        token = self.step_many([state])[0]
        if state.error is not None:
            raise state.error
        return token

    def step_many(self, states: Sequence[LMStageState]) -> list[int | None]:
        """Make one token of each utterance with one network call; None for those that ended.

        None comes also where text and speech take turns: a turn has ended, and ``needs_text`` tells
        whether the next one can begin.

        Afterwards ``is_finished`` tells whether an utterance is over, ``hit_limit`` whether it was
        cut off, and ``error`` whether its own scores were unusable: that ends one utterance and
        leaves the others alone.

        Raises:
            BackendError: if the network fails; none of the states can be used any more.
        """
        able = [not state.is_finished and self._has_turn(state) for state in states]
        self._read_pending([state for state, is_able in zip(states, able, strict=True) if is_able])
        made: list[int | None] = []
        for state, is_able in zip(states, able, strict=True):
            made.append(self._choose(state) if is_able else None)
        if self._config.pointer is not None:
            spoken = zip(states, made, strict=True)
            moving = [state for state, token in spoken if token is not None]
            self._move_pointers(moving, self._config.pointer)
        for state, token in zip(states, made, strict=True):
            at_limit = token is not None and len(state.tokens) >= state.max_tokens
            if at_limit and not state.is_finished:
                state.is_finished = state.hit_limit = True
        return made

    def fork(self, state: LMStageState) -> LMStageState:
        """Copy a state with its random generator; both go on independently."""
        return replace(
            state,
            network=self._network.fork(state.network),
            rng=copy.deepcopy(state.rng),
            tokens=list(state.tokens),
            turns=copy.deepcopy(state.turns),
        )

    def _has_turn(self, state: LMStageState) -> bool:
        """Whether a token can be made now; reads what a new turn begins with."""
        turns = state.turns
        if turns is None or turns.is_speaking:
            return True
        if not begin_turn(turns, self._config):
            return False
        if turns.is_last_turn:
            shares = (state.sampling.min_token_text_ratio, state.sampling.max_token_text_ratio)
            state.min_tokens, most = (int(turns.num_text * share) for share in shares)
            # turns have their own limits: a short text must not be cut because of them
            state.max_tokens = max(most, len(state.tokens) + int(turns.mix[0] * shares[1]))
        state.logits, state.network = self._network.prefill(turns.input, state.network)
        return True

    def _read_pending(self, states: Sequence[LMStageState]) -> None:
        waiting = [state for state in states if state.pending is not None]
        if not waiting:
            return
        tokens = np.array([state.pending for state in waiting], dtype=np.int64)
        cursors = [state.cursor for state in waiting if state.cursor is not None]
        networks = [state.network for state in waiting]
        logits = self._network.step(tokens, networks, cursors or None)
        for state, row in zip(waiting, logits, strict=True):
            state.logits, state.pending = row, None
            if state.turns is not None:
                state.turns.input = [Segment("speech", np.array([state.tokens[-1]]))]

    def _choose(self, state: LMStageState) -> int | None:
        """Draw a token; a control token means the end."""
        if len(state.tokens) >= state.max_tokens:  # a text too short for a single token
            state.is_finished = state.hit_limit = True
            return None
        scores = state.logits
        if _fails(state, scores, "language model"):  # before banning, which could hide it
            return None
        if state.turns is not None and not state.turns.is_last_turn:
            return self._choose_in_turn(state, state.turns)
        first_control = self._config.speech_vocab_size
        if len(state.tokens) < state.min_tokens or self._config.pointer is not None:
            scores = ban(scores, slice(first_control, None))
        elif state.turns is not None:  # there is no more text to ask for
            scores = ban(scores, [self._fill])
        history = state.tokens if state.turns is None else state.turns.history
        token = sample_token(scores, history, state.sampling, state.rng.random)
        if token >= first_control:
            state.is_finished = True
            return None
        return _add(state, token)

    def _choose_in_turn(self, state: LMStageState, turns: TurnState) -> int | None:
        """Draw a token, or end the turn: the text is not over, so speech cannot end here."""
        if len(turns.history) == turns.next_fill:
            token = self._fill
        else:
            scores = ban(state.logits, slice(self._config.speech_vocab_size, None))
            scores[self._fill] = state.logits[self._fill]
            token = sample_token(scores, turns.history, state.sampling, state.rng.random)
        if token != self._fill:
            return _add(state, token)
        end_turn(turns, self._config)
        return None

    @property
    def _fill(self) -> int:
        assert self._config.fill is not None  # new_turns checked it
        return self._config.fill

    def _move_pointers(self, states: Sequence[LMStageState], pointer: PointerConfig) -> None:
        if not states:
            return
        tokens = np.array([state.tokens[-1] for state in states], dtype=np.int64)
        scores = self._network.advance_logits(tokens, [state.network for state in states])
        for state, row in zip(states, scores, strict=True):
            if not _fails(state, row, "text pointer"):
                _move(state, row, pointer)


def _add(state: LMStageState, token: int) -> int:
    state.tokens.append(token)
    state.pending = token
    if state.turns is not None:
        state.turns.history.append(token)
    return token


def _fails(state: LMStageState, scores: FloatArray, source: str) -> bool:
    """Whether scores are unusable; then the utterance is over."""
    if np.isfinite(scores).all():
        return False
    state.is_finished = True
    state.error = GenerationError(
        f"the scores of the {source} hold NaN or infinity at token {len(state.tokens)}",
        hint="the weights may be damaged; run mynah doctor",
    )
    return True


def _move(state: LMStageState, scores: FloatArray, pointer: PointerConfig) -> None:
    """Move the cursor of a state, or end its speech."""
    assert state.cursor is not None  # start() gives one to every state of a pointer model
    allowed = allowed_moves(
        state.cursor, state.pauses, pointer, may_end=len(state.tokens) >= state.min_tokens
    )
    choices = np.where(allowed, scores, np.float32(-np.inf))
    move = sample_nucleus(choices, _POINTER_TOP_P, state.rng.random)
    if move > pointer.max_advance:
        state.is_finished = True
    elif move:
        state.cursor = Cursor(state.cursor.position + move, 0)
    else:
        state.cursor = Cursor(state.cursor.position, state.cursor.dwell + 1)


def allowed_moves(
    cursor: Cursor, pauses: BoolArray, pointer: PointerConfig, *, may_end: bool
) -> BoolArray:
    """Which moves are possible after a token was made at ``cursor``.

    Returns (max_advance + 2,): move by 0 .. max_advance, then the end. The pointer never leaves
    the text, ends only at its last position, and must leave a position after the forced limit.
    At least one move is always allowed.
    """
    limit = pointer.forced_advance_pause if pauses[cursor.position] else pointer.forced_advance
    last = len(pauses) - 1
    must_move = cursor.dwell + 1 >= limit
    allowed = np.zeros(pointer.max_advance + 2, dtype=np.bool_)
    if cursor.position < last:
        allowed[1 : min(pointer.max_advance, last - cursor.position) + 1] = True
        allowed[0] = not must_move
    else:
        allowed[-1] = may_end
        allowed[0] = not (may_end and must_move)
    return allowed
