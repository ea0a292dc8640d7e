"""One request being spoken: all its state, advanced by small steps.

Models hold nothing that changes, so any number of sessions can be advanced in any order, each by
one thread at a time. Only ``cancel`` may be called from anywhere.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from mynah.backends.base import NO_IDS, FloatArray
from mynah.config import SamplingConfig
from mynah.errors import (
    CancelledError,
    GenerationError,
    GenerationLimitError,
    InvalidRequestError,
)
from mynah.pipeline import flow, joins, speed, vocoder
from mynah.pipeline.flow import FlowStageState
from mynah.pipeline.joins import JoinState
from mynah.pipeline.model import PreparedVoice, SpeechModel, lm_prompt, prepare_voice
from mynah.pipeline.reading import Utterance
from mynah.pipeline.speech_lm import LMStageState
from mynah.pipeline.speed import SpeedState
from mynah.pipeline.vocoder import VocoderStageState
from mynah.types import Audio, AudioChunk, SynthesisRequest, TokenArray

_SAMPLING, _NOISE = 0, 1  # what a random generator of an utterance is for


class Status(enum.Enum):
    """Where a session stands; the last three are for ever."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(eq=False)
class UtteranceState:
    """The stages' states for the utterance being spoken."""

    utterance: Utterance
    is_last: bool
    lm: LMStageState
    flow: FlowStageState
    vocoder: VocoderStageState
    speed: SpeedState
    fresh: list[int] = field(default_factory=list)
    """Tokens made but not yet handed to the flow."""


class Session:
    """Speaks one request. Call ``advance`` until ``is_over``; each call is a bounded step."""

    def __init__(
        self,
        model: SpeechModel,
        request: SynthesisRequest,
        prepare: Callable[[], PreparedVoice] | None = None,
    ) -> None:
        """Check the text; nothing is computed yet.

        Args:
            model: what speaks.
            request: what to say.
            prepare: gives the request's voice ready for use, called at the first step; None =
                it is computed for this session alone.

        Raises:
            InvalidRequestError: if the model cannot say this text or follow the instruction.
        """
        model.reader.check(request.text, request.language)
        self.request = request
        self.status = Status.WAITING
        self.num_tokens = 0
        self.num_samples = 0
        self.num_utterances = 0
        """Utterances finished."""
        self.characters_spoken = 0
        """Characters of the text that belong to finished utterances."""
        self._model = model
        self._prepare = prepare or (lambda: prepare_voice(model, request.voice))
        self._prepared: PreparedVoice | None = None
        self._instruction = NO_IDS
        if request.instruction is not None:
            self._instruction = model.reader.instruction_ids(request.instruction)
        self._sampling = _sampling(model.config.sampling, request)
        self._waiting: Iterator[Utterance] = _spoken(model, request)
        self._next: Utterance | None = None
        self._current: UtteranceState | None = None
        self._joins = JoinState(model.config.sample_rate)
        self._num_chunks = 0
        self._cut_off: list[str] = []
        self._is_cancelled = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.status in (Status.FINISHED, Status.FAILED, Status.CANCELLED)

    @property
    def progress(self) -> float:
        """Share of the text that was spoken, 0 to 1, by characters and tokens."""
        if self.status is Status.FINISHED:
            return 1.0
        done = float(self.characters_spoken)
        if (now := self._current) is not None:
            done += len(now.utterance.text) * _share(now.lm)
        return min(done / max(len(self.request.text), 1), 1.0)

    def cancel(self) -> None:
        """Let the next step be the last; safe from any thread, at any time."""
        self._is_cancelled = True

    def close(self) -> None:
        """Free everything now; only for the thread that advances the session."""
        if not self.is_over:
            self._release(Status.CANCELLED)

    def advance(self) -> AudioChunk | None:
        """Make one step: read a prompt, make one token, or turn ready tokens into audio.

        Returns:
            audio when there is some. The last piece has ``is_last`` set and may be empty.

        Raises:
            CancelledError: if it was cancelled.
            GenerationLimitError: after the last piece, if an utterance did not end by itself.
            GenerationError: if a network produced something unusable.
            BackendError: if a network cannot be run.
            InvalidRequestError: if the session is over.
        """
        if self.is_over:
            raise InvalidRequestError(f"this session is {self.status.value}; start a new one")
        try:
            if self._is_cancelled:
                raise CancelledError("the request was cancelled")
            return self._step()
        except BaseException as error:
            cancelled = isinstance(error, CancelledError)
            self._release(Status.CANCELLED if cancelled else Status.FAILED)
            raise

    def _step(self) -> AudioChunk | None:
        now = self._current
        if now is None:
            return self._begin()
        if now.lm.is_finished or self._is_chunk_ready(now):
            return self._render(now)
        token = self._model.lm.next_token(now.lm)
        if token is not None:
            now.fresh.append(token)
            self.num_tokens += 1
        return None

    def _begin(self) -> AudioChunk | None:
        """Start the next utterance, or report what went wrong once all audio is out."""
        if self.status is Status.WAITING:
            self.status = Status.RUNNING
            self._next = next(self._waiting, None)
            if self._next is None:
                raise InvalidRequestError("there is nothing to say", hint="pass at least one word")
            self._prepared = self._prepare()
            return None
        if self._next is None:
            raise GenerationLimitError(
                f"{len(self._cut_off)} of {self.num_utterances} utterances did not end within the "
                f"length limit, first {_shortened(self._cut_off[0])!r}",
                hint="the audio up to the limit was kept; try another seed or a shorter text",
            )
        utterance, self._next = self._next, next(self._waiting, None)
        self._current = self._new_state(utterance, is_last=self._next is None)
        return None

    def _new_state(self, utterance: Utterance, *, is_last: bool) -> UtteranceState:
        model, request, prepared = self._model, self.request, self._prepared
        assert prepared is not None  # made at the first step
        config = model.config
        prompt = lm_prompt(model, prepared, utterance.ids, self._instruction)
        lm = model.lm.start(
            prompt, self._rng(_SAMPLING), sampling=self._sampling, pauses=utterance.pauses
        )
        return UtteranceState(
            utterance=utterance,
            is_last=is_last,
            lm=lm,
            flow=flow.fork(model.backend.flow, prepared.flow),
            vocoder=vocoder.new_state(config.vocoder, config.sample_rate, self._rng(_NOISE)),
            speed=SpeedState(request.speed),
        )

    def _rng(self, purpose: int) -> np.random.Generator:
        """Generator of the current utterance; none depends on what another one has drawn."""
        return np.random.default_rng([self.request.seed, self.num_utterances, purpose])

    def _is_chunk_ready(self, now: UtteranceState) -> bool:
        state = now.flow
        available = state.committed + len(state.pending) + len(now.fresh)
        return state.schedule.commit_limit(state.prompt_tokens, available) > state.committed

    def _render(self, now: UtteranceState) -> AudioChunk | None:
        """Turn the tokens that are ready into audio; finish the utterance after its last one."""
        final = now.lm.is_finished
        tokens: TokenArray = np.array(now.fresh, dtype=np.int64)
        now.fresh = []
        network, config = self._model.backend, self._model.config
        mel = flow.advance(network.flow, config.flow, tokens, now.flow, final=final)
        if now.speed.speed != 1.0:
            mel = speed.advance(mel, now.speed, final=final)
        samples = vocoder.advance(network.vocoder, config.vocoder, mel, now.vocoder, final=final)
        if not final:
            return self._chunk(joins.advance(samples, self._joins), is_last=False)
        return self._finish(now, samples)

    def _finish(self, now: UtteranceState, samples: FloatArray) -> AudioChunk | None:
        self.num_utterances += 1
        self.characters_spoken += len(now.utterance.text)
        if now.lm.hit_limit:
            self._cut_off.append(now.utterance.text)
        self._current = None
        if not now.is_last:
            pause_s = now.utterance.pause_s / self.request.speed
            samples = joins.end_utterance(samples, pause_s, self._joins)
            return self._chunk(samples, is_last=False)
        chunk = self._chunk(joins.advance(samples, self._joins), is_last=True)
        if not self.num_samples:
            raise GenerationError(
                "the model made no audio for this text", hint="try another seed or a longer text"
            )
        if not self._cut_off:
            self._release(Status.FINISHED)
        return chunk

    def _chunk(self, samples: FloatArray, *, is_last: bool) -> AudioChunk | None:
        if not len(samples) and not is_last:
            return None
        rate = self._model.config.sample_rate
        start_s = self.num_samples / rate
        chunk = AudioChunk(Audio(samples, rate), self._num_chunks, start_s, is_last)
        self._num_chunks += 1
        self.num_samples += len(samples)
        return chunk

    def _release(self, status: Status) -> None:
        """Free everything but the counters."""
        self.status = status
        self._current = self._next = self._prepared = None
        self._waiting = iter(())


def _spoken(model: SpeechModel, request: SynthesisRequest) -> Iterator[Utterance]:
    """The utterances that have something to say; silent text counts to the one before."""
    for utterance in model.reader.utterances(request.text, request.language):
        if len(utterance.ids):
            yield utterance


def _sampling(defaults: SamplingConfig, request: SynthesisRequest) -> SamplingConfig:
    changes = {"top_p": request.top_p, "top_k": request.top_k}
    given = {name: value for name, value in changes.items() if value is not None}
    return defaults.model_copy(update=given)


def _share(state: LMStageState) -> float:
    """How much of an utterance's tokens are made, roughly."""
    if state.cursor is not None:
        return state.cursor.position / max(len(state.pauses), 1)
    expected = (state.min_tokens + state.max_tokens) / 2
    return min(len(state.tokens) / max(expected, 1.0), 1.0)


def _shortened(text: str, size: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= size else text[: size - 3] + "..."
