"""Voice conversion: the speech tokens of a recording, spoken by another voice.

The words, their timing and melody stay, since no language model takes part. A long recording is
cut at quiet places into pieces that the speech tokenizer can read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from mynah.audio import features
from mynah.audio.quality import frame_levels_db
from mynah.audio.resample import sinc_resample
from mynah.backends.base import SpeechTokenizer
from mynah.errors import CancelledError, GenerationError, InvalidRequestError, PromptAudioError
from mynah.pipeline import joins, rendering
from mynah.pipeline.joins import JoinState
from mynah.pipeline.model import PreparedVoice, SpeechModel
from mynah.pipeline.rendering import RenderState
from mynah.pipeline.session import Status
from mynah.pipeline.voices import read_tokens
from mynah.types import Audio, AudioChunk, FloatArray, check_seed, check_speed

_LONGEST_S = 30.0  # what the released speech tokenizers read at once
_SHORTEST_S = 0.3
_PIECE_S, _SEARCH_S = 25.0, 2.5  # a piece is at most 25 s + 2 * 2.5 s long
_LOWEST_RATE = 16_000


class Conversion:
    """Converts one recording. Call ``advance`` until ``is_over``; each call is a bounded step."""

    needs_text = False
    takes_text = False
    num_tokens = 0
    """None is made; they are read from the recording."""

    def __init__(
        self,
        model: SpeechModel,
        audio: Audio,
        prepare: Callable[[], PreparedVoice],
        tokenizer: Callable[[], SpeechTokenizer],
        *,
        speed: float = 1.0,
        seed: int = 0,
        whole: bool = False,
    ) -> None:
        """Check the recording; nothing is computed yet.

        Args:
            model: what speaks.
            audio: at 16 kHz or more, of any length from 0.3 s.
            prepare: gives the voice ready for use, called at the first step.
            tokenizer: gives the model's speech tokenizer, called at the first step.
            speed: 0.25 (slow) to 4 (fast).
            seed: of the noise; the same seed gives the same samples.
            whole: whether nobody waits for the first chunk, see ``FlowStage.fork``.

        Raises:
            PromptAudioError: if the recording is too short or its rate too low.
            InvalidRequestError: if speed or seed is out of range.
        """
        check_source(audio)
        self.seed = check_seed(seed)
        self.status = Status.WAITING
        self.num_samples = 0
        self._speed = check_speed(speed)
        self._model = model
        self._prepare, self._load_tokenizer = prepare, tokenizer
        self._prepared: PreparedVoice | None = None
        self._tokenizer: SpeechTokenizer | None = None
        self._whole = whole
        self._duration_s = audio.duration_s
        self._pieces: Iterator[Audio] = iter(quiet_pieces(audio))
        self._next: Audio | None = next(self._pieces)
        self._converted_s = 0.0
        self._tokens: list[int] = []
        self._render: RenderState | None = None
        self._joins = JoinState(model.config.sample_rate)
        self._num_pieces = self._num_chunks = 0
        self._is_cancelled = False
        self.on_change: Callable[[], None] | None = None
        self.spare_s: Callable[[], float] | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether the next step is the last."""
        return self._is_cancelled

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.status in (Status.FINISHED, Status.FAILED, Status.CANCELLED)

    @property
    def progress(self) -> float:
        """Share of the recording that was converted, 0 to 1, by pieces."""
        return min(self._converted_s / self._duration_s, 1.0)

    def text_until(self, seconds: float) -> str:
        """Return ""; a conversion knows no words."""
        return ""

    def feed(self, text: str) -> None:
        """Refuse text."""
        raise InvalidRequestError("a conversion takes no text", hint="use TTS.stream to speak")

    def flush(self) -> None:
        """Do nothing."""

    def end_text(self) -> None:
        """Do nothing."""

    def cancel(self) -> None:
        """Let the next step be the last; safe from any thread, at any time."""
        self._is_cancelled = True
        if self.on_change is not None:
            self.on_change()

    def close(self) -> None:
        """Free everything now; only for the thread that advances the conversion."""
        if not self.is_over:
            self._release(Status.CANCELLED)

    def advance(self) -> AudioChunk | None:
        """Make one step: prepare the voice, read a piece's tokens, or make a chunk of audio.

        Raises:
            CancelledError: if it was cancelled.
            GenerationError: if a network produced something unusable.
            BackendError: if a network cannot be run.
            InvalidRequestError: if it is over.
        """
        if self.is_over:
            raise InvalidRequestError(f"this conversion is {self.status.value}; start a new one")
        try:
            if self._is_cancelled:
                raise CancelledError("the conversion was cancelled")
            return self._step()
        except BaseException as error:
            cancelled = isinstance(error, CancelledError)
            self._release(Status.CANCELLED if cancelled else Status.FAILED)
            raise

    def _step(self) -> AudioChunk | None:
        if self.status is Status.WAITING:
            self.status = Status.RUNNING
            self._prepared, self._tokenizer = self._prepare(), self._load_tokenizer()
            return None
        if self._render is None:
            return self._begin()
        return self._advance(self._render)

    def _begin(self) -> AudioChunk | None:
        """Read the tokens of the next piece."""
        piece, prepared, tokenizer = self._next, self._prepared, self._tokenizer
        assert piece is not None  # else the last chunk has been made
        assert prepared is not None  # made at the first step
        assert tokenizer is not None
        narrow = sinc_resample(piece.samples, piece.sample_rate, features.FEATURE_RATE)
        self._tokens = read_tokens(tokenizer, narrow, self._model.config).tolist()
        self._render = rendering.new_state(
            self._model,
            prepared,
            speaking_speed=self._speed,
            seed=self.seed,
            index=self._num_pieces,
            whole=self._whole,
        )
        return None

    def _advance(self, state: RenderState) -> AudioChunk | None:
        """Hand over as many tokens as make a chunk, or the rest of the piece."""
        while self._tokens and not rendering.is_chunk_ready(self._model, state):
            state.fresh.append(self._tokens.pop(0))
        # A piece that fits its last chunk exactly is still ended by a call of its own.
        final = not self._tokens and not rendering.is_chunk_ready(self._model, state)
        tokens = rendering.take_tokens(state, None)
        samples = rendering.advance(self._model, state, tokens, final=final)
        if not final:
            return self._chunk(joins.advance(samples, self._joins))
        return self._finish(samples)

    def _finish(self, samples: FloatArray) -> AudioChunk | None:
        assert self._next is not None  # it is the piece that was just converted
        self._converted_s += self._next.duration_s
        self._next, self._render = next(self._pieces, None), None
        self._num_pieces += 1
        if self._next is not None:
            return self._chunk(joins.end_utterance(samples, 0.0, self._joins))
        chunk = self._chunk(joins.advance(samples, self._joins), is_last=True)
        if not self.num_samples:
            raise GenerationError(
                "the recording gave no speech tokens", hint="use a longer recording"
            )
        self._release(Status.FINISHED)
        return chunk

    def _chunk(self, samples: FloatArray, *, is_last: bool = False) -> AudioChunk | None:
        if not len(samples) and not is_last:
            return None
        rate = self._model.config.sample_rate
        start_s = self.num_samples / rate
        audio = Audio(samples, rate, self.seed)
        index, piece = self._num_chunks, self._num_pieces - (self._render is None)
        self._num_chunks += 1
        self.num_samples += len(samples)
        return AudioChunk(audio, index, start_s, is_last, piece)

    def _release(self, status: Status) -> None:
        """Free everything but the counters."""
        self.status = status
        self._render = self._prepared = self._tokenizer = self._next = None
        self._pieces, self._tokens = iter(()), []


def check_source(audio: Audio) -> None:
    """Refuse a recording that cannot be converted.

    Raises:
        PromptAudioError: naming what was measured.
    """
    if audio.duration_s < _SHORTEST_S:
        raise PromptAudioError(
            f"the recording to convert is {audio.duration_s:.2f} s long, "
            f"at least {_SHORTEST_S} s are needed",
            hint="use a longer recording",
        )
    if audio.sample_rate < _LOWEST_RATE:
        raise PromptAudioError(
            f"the recording to convert has {audio.sample_rate} samples per second, "
            f"at least {_LOWEST_RATE} are needed",
            hint="record at 16 kHz or more",
        )


def quiet_pieces(audio: Audio) -> list[Audio]:
    """Cut a recording into pieces of at most 30 s, each at the quietest place near its end."""
    if audio.duration_s <= _LONGEST_S:
        return [audio]
    count = int(np.ceil(audio.duration_s / _PIECE_S))
    rate, samples = audio.sample_rate, audio.samples
    edges = [0]
    for index in range(1, count):
        middle = index * len(samples) // count
        reach = int(_SEARCH_S * rate)
        levels = frame_levels_db(samples[middle - reach : middle + reach], rate)
        step = 2 * reach / len(levels)
        edges.append(middle - reach + round((int(levels.argmin()) + 0.5) * step))
    edges.append(len(samples))
    return [Audio(samples[start:stop], rate) for start, stop in pairwise(edges)]
