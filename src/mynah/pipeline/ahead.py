"""Work of a session that is done before it has to be: later tokens, later utterances.

A language model that reads one sequence waits for memory most of the time, a flow and a vocoder
compute: where a backend can run both side by side, a stream costs less than the sum of its stages.
And it reads its weights once for several sequences: utterances of a long text share its steps.
Every utterance has a random generator of its own, so the samples do not depend on any of this.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from mynah.pipeline import rendering
from mynah.pipeline.model import SpeechModel
from mynah.pipeline.utterance import UtteranceState
from mynah.types import FloatArray

_BEGIN_S = 1.0
"""Spare time without which no utterance is begun beside audio: reading its text takes a while."""
_MOST_COMING = 3
"""Utterances begun before their turn; a fifth sequence gains little and holds memory."""


class Ahead:
    """The steps of one session's utterances. Used by one thread at a time."""

    def __init__(
        self,
        model: SpeechModel,
        begin: Callable[[], UtteranceState | None],
        spare_s: Callable[[], float],
    ) -> None:
        """Do nothing yet.

        Args:
            model: what speaks.
            begin: starts the next utterance of a text that is known; None = there is none.
            spare_s: asked for how many seconds things that could be left for later may be done.
        """
        self._model, self._begin, self._spare_s = model, begin, spare_s
        self._coming: deque[UtteranceState] = deque()
        self._error: BaseException | None = None
        self._begin_error: BaseException | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no utterance was begun before its turn."""
        return not self._coming and self._begin_error is None

    def take(self) -> UtteranceState | None:
        """The next utterance, if it was begun.

        Raises:
            Exception: what went wrong when it was.
        """
        if self._coming:
            return self._coming.popleft()
        if self._begin_error is not None:
            raise self._begin_error
        return None

    def close(self) -> None:
        """Free everything; no step follows."""
        self._coming.clear()
        self._begin, self._spare_s = _nobody, float  # they held the session

    def make_token(self, now: UtteranceState) -> None:
        """Make a token of an utterance, and of those to come.

        Raises:
            GenerationError: if the network's scores for this utterance were unusable.
            BackendError: if a network fails.
        """
        self._check(now)
        # where anybody waits for audio, texts are read while audio is made, not before
        beside = self._others(math.inf) if self._runs_ahead() else []
        self._step([now, *beside])
        self._check(now)

    def render(self, now: UtteranceState) -> FloatArray:
        """Turn the tokens of one chunk into samples (N,), or all that are left if there is none.

        Raises:
            GenerationError: if a network produced something unusable.
            BackendError: if a network fails.
        """
        self._check(now)
        model, render = self._model, now.render
        ready = rendering.tokens_of_chunk(model, render)
        final = ready is None
        tokens = rendering.take_tokens(render, ready)
        if not self._runs_ahead():
            return rendering.advance(model, render, tokens, final=final)
        enough = len(tokens)  # the next chunk is about as long
        with _Beside(lambda: self._advance(now, enough)) as beside:
            samples = rendering.advance(model, render, tokens, final=final)
        self._error = beside.error
        return samples

    def _runs_ahead(self) -> bool:
        return self._model.backend.overlaps_stages and self._spare_s() > 0

    def _check(self, now: UtteranceState) -> None:
        if self._error is not None:
            raise self._error
        if now.lm.error is not None:
            raise now.lm.error

    def _advance(self, now: UtteranceState, enough: int) -> bool:
        """Make tokens while audio is made; whether there is more to do."""
        if self._spare_s() <= 0:
            return False
        wanted = self._others(_BEGIN_S)
        lm = now.lm
        if not (lm.is_finished or lm.needs_text) and (wanted or len(now.render.fresh) < enough):
            wanted = [now, *wanted]
        if wanted:
            self._step(wanted)
        return bool(wanted)

    def _others(self, least_s: float) -> list[UtteranceState]:
        """Those to come whose tokens are not complete; ``least_s``: spare time to begin more.

        New ones are begun when the last ones are complete, not one by one: so that they are read
        together as long as possible.
        """
        unfinished = [one for one in self._coming if not one.lm.is_finished]
        if unfinished or len(self._coming) > 1 or self._begin_error is not None:
            return unfinished
        try:
            while len(self._coming) < _MOST_COMING and self._spare_s() >= least_s:
                if (state := self._begin()) is None:
                    break
                self._coming.append(state)
        except BaseException as error:  # noqa: BLE001 - raised when its turn comes
            self._begin_error = error
        return [one for one in self._coming if not one.lm.is_finished]

    def _step(self, utterances: Sequence[UtteranceState]) -> None:
        tokens = self._model.lm.step_many([one.lm for one in utterances])
        for one, token in zip(utterances, tokens, strict=True):
            if token is not None:
                rendering.add_token(self._model, one.render, token)


def _nobody() -> None:
    return None


class _Beside:
    """Calls ``advance`` over and over in a thread of its own while a ``with`` block runs.

    Leaving the block waits for the call that runs, so nobody else touches what it changes.
    """

    def __init__(self, advance: Callable[[], bool]) -> None:
        """``advance`` returns False when there is nothing more to do."""
        self.error: BaseException | None = None
        """What it raised, if so. The block goes on: its audio is good."""
        self._advance = advance
        self._is_left = False
        self._thread = threading.Thread(target=self._work, name="mynah-ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_left = True
        self._thread.join()

    def _work(self) -> None:
        try:
            while not self._is_left and self._advance():
                pass
        except BaseException as error:  # noqa: BLE001 - raised by the session's next step
            self.error = error
