"""One request being spoken: all its state, advanced by small steps.

Models hold nothing that changes, so any number of sessions can be advanced in any order, each by
one thread at a time. Only ``cancel``, ``feed``, ``flush`` and ``end_text`` may be called from
anywhere.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from mynah.backends.base import FloatArray
from mynah.errors import CancelledError, InvalidRequestError
from mynah.pipeline import joins, rendering
from mynah.pipeline.ahead import Ahead
from mynah.pipeline.endings import cut_off, no_audio, nothing_to_say
from mynah.pipeline.joins import JoinState
from mynah.pipeline.model import (
    PreparedVoice,
    SpeechModel,
    choose_manner,
    prepare_voice,
)
from mynah.pipeline.reading import Utterance
from mynah.pipeline.speech_lm import LMStageState
from mynah.pipeline.spoken import SpokenText
from mynah.pipeline.text_source import Break, PiecedText, TextSource, WholeText
from mynah.pipeline.utterance import UtteranceState, new_utterance
from mynah.types import Audio, AudioChunk, SynthesisRequest


class Status(enum.Enum):
    """Where a session stands; the last three are for ever."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Session:
    """Speaks one request. Call ``advance`` until ``is_over``; each call is a bounded step.

    Without a text in the request it comes by ``feed``; then ``advance`` does nothing while
    ``needs_text`` is true.
    """

    def __init__(
        self,
        model: SpeechModel,
        request: SynthesisRequest,
        prepare: Callable[[], PreparedVoice] | None = None,
        *,
        whole: bool = False,
    ) -> None:
        """Check the text and the mode; nothing is computed yet.

        Args:
            model: what speaks.
            request: what to say.
            prepare: gives the request's voice ready for use, called at the first step; None =
                it is computed for this session alone.
            whole: whether nobody waits for the first chunk, see ``FlowStage.fork``.

        Raises:
            InvalidRequestError: if the model cannot say this text, use the voice in this mode or
                follow the instruction.
        """
        self._pieces: PiecedText | None = None
        if request.text is None:
            self._pieces = PiecedText(model.reader, request)
        self._source: TextSource = self._pieces or WholeText(
            model.reader, request, request.text or ""
        )
        self.request = request
        self.manner = choose_manner(model, request)
        self.status = Status.WAITING
        self.num_samples = 0
        self.num_utterances = 0
        """Utterances finished."""
        self.on_change: Callable[[], None] | None = None
        """Called, from the caller's thread, when text came or the session was cancelled: whoever
        advances sessions can sleep until then."""
        self.spare_s: Callable[[], float] | None = None
        """Asked for how many seconds work that could be left for later may be done now, beside
        what is urgent or before it; None = not at all. The samples do not depend on it."""
        self._spoken = SpokenText(model.config.sample_rate)
        self._model = model
        self._whole = whole
        recorded = self.manner.reads_recording
        self._prepare = prepare or (
            lambda: prepare_voice(model, request.voice, reads_recording=recorded)
        )
        self._prepared: PreparedVoice | None = None
        self._current: UtteranceState | None = None
        self._joins = JoinState(model.config.sample_rate)
        self._num_chunks = self._num_tokens = self._num_begun = 0
        self._has_ended = False
        self._cut_off: list[str] = []
        self._is_cancelled = False
        self._ahead = Ahead(model, self._begin_early, self._spare_s)

    @property
    def is_cancelled(self) -> bool:
        """Whether the next step is the last."""
        return self._is_cancelled

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.status in (Status.FINISHED, Status.FAILED, Status.CANCELLED)

    @property
    def num_tokens(self) -> int:
        """Speech tokens made so far."""
        now = self._current
        return self._num_tokens + (0 if now is None else len(now.lm.tokens))

    @property
    def seed(self) -> int:
        """Seed of the random choices."""
        return self.request.seed

    @property
    def takes_text(self) -> bool:
        """Whether the text comes in pieces."""
        return self._pieces is not None

    @property
    def needs_text(self) -> bool:
        """Whether ``advance`` can do nothing before ``feed``, ``flush``, ``end_text``, ``cancel``.

        The first step, which prepares the voice, needs no text.
        """
        if self.status is not Status.RUNNING or self._is_cancelled or not self._source.needs_text:
            return False
        now = self._current
        return now is None or (now.lm.needs_text and not self._is_chunk_ready(now))

    @property
    def progress(self) -> float:
        """Share of the text so far that was spoken, 0 to 1, by characters and tokens."""
        if self.status is Status.FINISHED:
            return 1.0
        done = float(self.characters_spoken)
        if (now := self._current) is not None:
            done += len(now.text) * now.lm.share
        return min(done / max(self._source.num_characters, 1), 1.0)

    @property
    def characters_spoken(self) -> int:
        """Characters of the text that belong to finished utterances."""
        return self._spoken.num_characters

    @property
    def spoken_text(self) -> str:
        """What was spoken in the audio made so far, up to the last whole word."""
        return self.text_until(self.num_samples / self._model.config.sample_rate)

    def text_until(self, seconds: float) -> str:
        """What was spoken in the first ``seconds`` of the audio, for example until a listener cut
        in: whole utterances, and of the one being spoken the words by their share of time.
        """
        now = self._current
        share = 0.0 if now is None else now.lm.share
        return self._spoken.until(seconds, self.num_samples, now.text if now else "", share)

    def feed(self, text: str) -> None:
        """Append a piece of text of any size, also from another thread.

        Raises:
            InvalidRequestError: if the request has its own text, the text has ended or is too
                long in all. What is wrong with the words is raised by ``advance``.
        """
        self._fed().feed(text)
        self._changed()

    def flush(self) -> None:
        """Speak all that was fed, without waiting for the end of its sentence."""
        self._fed().flush()
        self._changed()

    def end_text(self) -> None:
        """Say that no more text comes; harmless to repeat."""
        self._fed().end()
        self._changed()

    def cancel(self) -> None:
        """Let the next step be the last; safe from any thread, at any time."""
        self._is_cancelled = True
        self._changed()

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
            InvalidRequestError: if the session is over, or a piece of its text cannot be spoken.
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

    @property
    def token_state(self) -> LMStageState | None:
        """What ``SpeechLMStage.step_many`` advances, if the next step is to make a token.

        Whoever owns several sessions can then step them together and give each its token with
        ``take_token``, instead of calling ``advance``.
        """
        now = self._current
        if now is None or self._is_cancelled or now.lm.is_finished or now.lm.needs_text:
            return None
        return None if self._is_chunk_ready(now) else now.lm

    def take_token(self, token: int | None) -> None:
        """Note the token that ``step_many`` made for ``token_state``; None as there.

        Raises:
            GenerationError: if the network's scores were unusable; the session is over then.
        """
        now = self._current
        assert now is not None  # token_state gave its state
        if now.lm.error is not None:
            self._release(Status.FAILED)
            raise now.lm.error
        if token is not None:
            rendering.add_token(self._model, now.render, token)

    def _step(self) -> AudioChunk | None:
        if self.status is Status.WAITING:
            self.status = Status.RUNNING
            self._prepared = self._prepare()
            return None
        now = self._current
        if now is None:
            return self._begin()
        if now.lm.is_finished or self._is_chunk_ready(now):
            return self._render(now)
        if now.lm.needs_text and not self._supply(now):
            return None
        self._ahead.make_token(now)
        return None

    def _begin(self) -> AudioChunk | None:
        """Start the next utterance, or end the session if there is none."""
        self._current = self._ahead.take()
        if self._current is not None:
            return None
        item = self._source.peek()
        if item is None:
            return self._end() if self._source.is_over else None
        self._source.take()
        if not isinstance(item, Break):
            self._current = self._new_state(item)
        return None

    def _begin_early(self) -> UtteranceState | None:
        """Start an utterance before its turn; only of a text that is there as a whole."""
        item = None if self.takes_text else self._source.peek()
        if not isinstance(item, Utterance):
            return None
        self._source.take()
        return self._new_state(item)

    def _end(self) -> AudioChunk | None:
        """Close the audio, then report what went wrong with it."""
        if not self._has_ended:
            if not self.num_samples:
                raise nothing_to_say() if not self.num_utterances else no_audio()
            return self._last_chunk(joins.NO_SAMPLES)
        raise cut_off(self._cut_off, self.num_utterances)

    def _new_state(self, utterance: Utterance) -> UtteranceState:
        assert self._prepared is not None  # made at the first step
        self._num_begun += 1
        return new_utterance(
            self._model,
            self.request,
            self.manner,
            self._prepared,
            utterance,
            index=self._num_begun - 1,
            whole=self._whole,
        )

    def _supply(self, now: UtteranceState) -> bool:
        """Give an utterance whose text comes in pieces the next one; whether there was any."""
        item = self._source.peek()
        if isinstance(item, Utterance) and item.continues:
            self._source.take()
            now.utterance, now.text = item, now.text + item.text
            self._model.lm.add_text(now.lm, item.ids)
            return True
        if item is None and not self._source.is_over:
            return False
        self._model.lm.end_text(now.lm)
        now.is_last = item is None
        return True

    def _is_chunk_ready(self, now: UtteranceState) -> bool:
        return rendering.is_chunk_ready(self._model, now.render)

    def _render(self, now: UtteranceState) -> AudioChunk | None:
        """Turn the tokens of a chunk into audio; finish the utterance after its last one."""
        samples = self._ahead.render(now)
        if now.render.is_finished:
            return self._finish(now, samples)
        return self._chunk(joins.advance(samples, self._joins))

    def _spare_s(self) -> float:
        return 0.0 if self.spare_s is None or self._is_cancelled else self.spare_s()

    def _finish(self, now: UtteranceState, samples: FloatArray) -> AudioChunk | None:
        if now.lm.hit_limit:
            self._cut_off.append(now.text)
        is_last = now.is_last or (self._ahead.is_empty and self._source.ends_with(now.utterance))
        self._current = None
        self._num_tokens += len(now.lm.tokens)
        self.num_utterances += 1
        if is_last:
            samples = joins.advance(samples, self._joins)
        else:
            pause_s = now.utterance.pause_s / self.request.speed
            samples = joins.end_utterance(samples, pause_s, self._joins)
        self._spoken.add(now.text, self.num_samples + len(samples))
        if not is_last:
            return self._chunk(samples)
        if not self.num_samples + len(samples):
            raise no_audio()
        return self._last_chunk(samples)

    def _last_chunk(self, samples: FloatArray) -> AudioChunk | None:
        chunk = self._chunk(samples, is_last=True)
        self._has_ended = True
        if not self._cut_off:
            self._release(Status.FINISHED)
        return chunk

    def _chunk(self, samples: FloatArray, *, is_last: bool = False) -> AudioChunk | None:
        if not len(samples) and not is_last:
            return None
        rate = self._model.config.sample_rate
        start_s = self.num_samples / rate
        audio = Audio(samples, rate, self.request.seed)
        utterance = self.num_utterances - (self._current is None)  # counted when it is finished
        chunk = AudioChunk(audio, self._num_chunks, start_s, is_last, max(utterance, 0))
        self._num_chunks += 1
        self.num_samples += len(samples)
        return chunk

    def _fed(self) -> PiecedText:
        if self._pieces is None:
            raise InvalidRequestError(
                "this request has its whole text", hint="leave the text out to feed it in pieces"
            )
        return self._pieces

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def _release(self, status: Status) -> None:
        """Free everything but the counters."""
        self.status = status
        self._num_tokens = self.num_tokens
        self._current = self._prepared = None
        self._ahead.close()
