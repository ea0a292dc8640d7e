"""How far a reduced model is from the exact one, end to end, on the same inputs.

The exact model speaks once; what it said is forced upon both, so that no difference grows because
of another choice before it. Each model answers alone (``answer``), so that only one of them has to
be in memory; ``compare`` then needs the answers only. Everything goes through the pipeline as a
stream does: its prompts, chunks, noise and phases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mynah.backends.base import CropArray, Cursor, VocoderNetwork
from mynah.config import MelConfig
from mynah.errors import InvalidRequestError
from mynah.evaluation.measures import (
    Scores,
    compare_scores,
    log_mel_of,
    relative_error,
    signal_to_noise_db,
)
from mynah.pipeline import rendering, vocoder
from mynah.pipeline.model import (
    PreparedVoice,
    SpeechModel,
    choose_manner,
    lm_prompt,
    prepare_voice,
)
from mynah.pipeline.prompt import LMPrompt, build_segments
from mynah.types import FloatArray, SynthesisRequest, TokenArray, Voice

__all__ = [
    "Answer",
    "Fidelity",
    "Line",
    "StreamCheck",
    "answer",
    "compare",
    "record",
]


@dataclass(frozen=True, eq=False)
class Line:
    """One utterance as the exact model spoke it: what every model is forced to say."""

    voice: Voice
    prompt: LMPrompt
    tokens: TokenArray
    """(T,) speech tokens."""
    cursors: tuple[Cursor, ...] = ()
    """Place in the text of every token; none without a pointer."""
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Answer:
    """Everything one model said about one line."""

    scores: FloatArray
    """(T, V): of every token, those before it being given."""
    moves: FloatArray | None
    """(T, M): of the pointer's moves after every token; None without a pointer."""
    mel: FloatArray
    """(F, n_mels), streamed."""
    whole_mel: FloatArray
    """(F, n_mels), in one pass."""
    samples: FloatArray
    """(N,), streamed, from ``mel``."""
    whole_samples: FloatArray
    """(N,), in one pass, from ``whole_mel``."""
    source: FloatArray
    """Source signal of ``samples``: pitch, phase and noise; time is axis 0."""
    vocoded: FloatArray
    """(N,): the exact model's mel through this vocoder."""
    same_source: FloatArray
    """(N,): ``mel`` and the exact model's source through this vocoder."""
    spectrum: FloatArray
    """Log-mel of ``samples``: what is heard of them, without their phases."""


@dataclass(frozen=True, slots=True)
class StreamCheck:
    """Largest differences between a model's stream and its one pass over the whole utterance."""

    mel: float
    """Of the mel, in parts of its standard deviation."""
    samples: float
    """Of the samples, in parts of the largest one."""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Differences of a model from the exact one, over all lines."""

    num_lines: int
    num_tokens: int
    tokens: Scores
    """Next speech token."""
    moves: Scores | None
    """Moves of the text pointer."""
    mel_error: float
    """Root mean square difference of the mel, in parts of the mel's standard deviation."""
    mel_largest: float
    """Largest difference of the mel, in the same parts."""
    vocoder_db: float | None
    """Signal-to-noise ratio of the vocoder alone; None = bit for bit the same."""
    whole_db: float | None
    """The same of flow and vocoder. A pitch that is off by a hair shifts all later phases, which
    nobody hears and this figure does not survive."""
    same_source_db: float | None
    """The same with the pitch, phase and noise of the exact model."""
    spectrum_error: float
    """Root mean square difference of the log-mel of the samples, in parts of its standard
    deviation."""
    exact_stream: StreamCheck
    stream: StreamCheck


def record(
    model: SpeechModel,
    text: str,
    voice: Voice,
    *,
    seed: int = 0,
    num_tokens: int | None = None,
) -> list[Line]:
    """Let the exact model speak a text: one line for each utterance.

    Args:
        model: the exact one.
        text: what it says.
        voice: of that model.
        seed: of its choices.
        num_tokens: tokens of each line, whether the model would stop or not; None = it decides.

    Raises:
        SynthesisError: see ``Session``.
    """
    request = SynthesisRequest(text=text, voice=voice, seed=seed)
    manner = choose_manner(model, request)
    lines = []
    for index, utterance in enumerate(model.reader.utterances(text)):
        if not len(utterance.ids):
            continue
        prompt = lm_prompt(model, voice, manner, utterance.ids)
        sampling = model.config.sampling
        if num_tokens is not None:
            ratio = (num_tokens + 0.5) / len(utterance.ids)
            sampling = sampling.model_copy(
                update={"min_token_text_ratio": ratio, "max_token_text_ratio": ratio}
            )
        state = model.lm.start(
            prompt,
            rendering.sampling_rng(seed, index),
            sampling=sampling,
            pauses=utterance.pauses,
        )
        cursors: list[Cursor] = []
        while not state.is_finished:
            before = state.cursor
            if model.lm.next_token(state) is not None and before is not None:
                cursors.append(before)
        if state.tokens:
            tokens = np.array(state.tokens, dtype=np.int64)
            lines.append(Line(voice, prompt, tokens, tuple(cursors), seed))
    return lines


def answer(model: SpeechModel, lines: Sequence[Line], exact: Sequence[Answer] = ()) -> list[Answer]:
    """Force the lines upon a model.

    Args:
        model: exact or reduced.
        lines: from ``record``.
        exact: the exact model's answers; none = this model is the exact one.

    Raises:
        InvalidRequestError: if the exact model has other sizes.
        SynthesisError: if a network fails.
    """
    found = []
    for index, line in enumerate(lines):
        voice = replace(line.voice, model_id=model.config.model_id)
        prepared = prepare_voice(model, voice)
        found.append(_answer(model, line, prepared, exact[index] if exact else None))
    return found


def compare(exact: Sequence[Answer], other: Sequence[Answer]) -> Fidelity:
    """Put the answers of two models to the same lines side by side.

    Raises:
        InvalidRequestError: if they are of different lines or of models of different sizes.
    """
    if len(exact) != len(other) or not exact:
        raise InvalidRequestError(
            f"{len(exact)} answers are to be compared with {len(other)}",
            hint="let both models answer the same lines, at least one",
        )
    pairs = list(zip(exact, other, strict=True))
    for one, two in pairs:
        _check_sizes(one, two)
    mel, other_mel = (np.concatenate([a.mel for a in side]) for side in (exact, other))
    moves = [(a.moves, b.moves) for a, b in pairs if a.moves is not None and b.moves is not None]
    return Fidelity(
        num_lines=len(pairs),
        num_tokens=sum(len(a.scores) for a in exact),
        tokens=compare_scores([(a.scores, b.scores) for a, b in pairs]),
        moves=compare_scores(moves) if moves else None,
        mel_error=relative_error(mel, other_mel),
        mel_largest=float(np.abs(other_mel - mel).max()) / max(float(mel.std()), 1e-12),
        vocoder_db=signal_to_noise_db([(a.samples, b.vocoded) for a, b in pairs]),
        whole_db=signal_to_noise_db([(a.samples, b.samples) for a, b in pairs]),
        same_source_db=signal_to_noise_db([(a.samples, b.same_source) for a, b in pairs]),
        spectrum_error=relative_error(
            *(np.concatenate([a.spectrum for a in side]) for side in (exact, other))
        ),
        exact_stream=_stream_check(exact),
        stream=_stream_check(other),
    )


def _answer(
    model: SpeechModel, line: Line, prepared: PreparedVoice, exact: Answer | None
) -> Answer:
    scores, moves = _forced_scores(model, line)
    mel, whole_mel = (_mel(model, prepared, line.tokens, whole=whole) for whole in (False, True))
    heard = _Listener(model.backend.vocoder)
    samples = _samples(model, heard, mel, line.seed)
    source = np.concatenate(heard.sources)
    vocoded = same_source = samples
    if exact is not None:
        _check_shape("mel", exact.mel, np.concatenate(mel))
        _check_shape("source", exact.source, source)
        pieces = np.split(exact.mel, np.cumsum([len(piece) for piece in mel])[:-1])
        vocoded = _samples(model, model.backend.vocoder, pieces, line.seed)
        given = _GivenSource(model.backend.vocoder, exact.source)
        same_source = _samples(model, given, mel, line.seed)
    return Answer(
        scores=scores,
        moves=moves,
        mel=np.concatenate(mel),
        whole_mel=np.concatenate(whole_mel),
        samples=samples,
        whole_samples=_samples(model, model.backend.vocoder, whole_mel, line.seed),
        source=source,
        vocoded=vocoded,
        same_source=same_source,
        spectrum=log_mel_of(samples, _listening(model.config.mel)),
    )


def _forced_scores(model: SpeechModel, line: Line) -> tuple[FloatArray, FloatArray | None]:
    """Scores of every token and of every move, as the stage asks for them, choices given."""
    network, config = model.backend.lm, model.config.lm
    segments = build_segments(line.prompt, config)
    logits, state = network.prefill(segments, cursor=line.cursors[0] if line.cursors else None)
    scores, moves = [logits], []
    for index in range(len(line.tokens)):
        one = line.tokens[index : index + 1]
        if line.cursors:
            moves.append(network.advance_logits(one, [state])[0])
        if index + 1 < len(line.tokens):
            at = [line.cursors[index + 1]] if line.cursors else None
            scores.append(network.step(one, [state], at)[0])
    return np.stack(scores), np.stack(moves) if moves else None


def _mel(
    model: SpeechModel, prepared: PreparedVoice, tokens: TokenArray, *, whole: bool
) -> list[FloatArray]:
    """Mel of given tokens in the pieces in which a stream, or one pass, makes it."""
    state = model.flow.fork(prepared.flow, whole=whole)
    made, start = [], 0
    for stop in range(1, len(tokens) if not whole else 0):
        if model.flow.is_ready(state, stop - start):
            made.append(model.flow.advance(tokens[start:stop], state, final=False))
            start = stop
    made.append(model.flow.advance(tokens[start:], state, final=True))
    return made


def _samples(
    model: SpeechModel, network: VocoderNetwork, mel: Sequence[FloatArray], seed: int
) -> FloatArray:
    """Waveform of mel in pieces, with the noise of the first utterance of a request."""
    config = model.config
    noise = rendering.noise_rng(seed, 0)
    state = vocoder.new_state(config.vocoder, config.sample_rate, noise)
    parts = [
        vocoder.advance(network, config.vocoder, piece, state, final=index + 1 == len(mel))
        for index, piece in enumerate(mel)
    ]
    return np.concatenate(parts)


@dataclass(eq=False)
class _Listener:
    """A vocoder network that keeps the source signal it made."""

    network: VocoderNetwork
    sources: list[FloatArray] = field(default_factory=list)

    def f0(self, mel: FloatArray) -> FloatArray:
        return self.network.f0(mel)

    def excitation(self, harmonics: FloatArray) -> FloatArray:
        self.sources.append(self.network.excitation(harmonics))
        return self.sources[-1]

    def decode(
        self, mel: FloatArray, source: FloatArray, crops: CropArray | None = None
    ) -> FloatArray:
        return self.network.decode(mel, source, crops)


@dataclass(eq=False)
class _GivenSource:
    """A vocoder network with a source signal from elsewhere, whatever its own would be."""

    network: VocoderNetwork
    source: FloatArray
    position: int = 0

    def f0(self, mel: FloatArray) -> FloatArray:
        return self.network.f0(mel)

    def excitation(self, harmonics: FloatArray) -> FloatArray:
        start, self.position = self.position, self.position + len(harmonics)
        return self.source[start : self.position]

    def decode(
        self, mel: FloatArray, source: FloatArray, crops: CropArray | None = None
    ) -> FloatArray:
        return self.network.decode(mel, source, crops)


def _stream_check(answers: Sequence[Answer]) -> StreamCheck:
    mel, whole = (
        np.concatenate([getattr(a, key) for a in answers]) for key in ("mel", "whole_mel")
    )
    streamed = np.concatenate([a.samples for a in answers])
    at_once = np.concatenate([a.whole_samples for a in answers])
    return StreamCheck(
        mel=float(np.abs(mel - whole).max()) / max(float(whole.std()), 1e-12),
        samples=float(np.abs(streamed - at_once).max()) / max(float(np.abs(at_once).max()), 1e-12),
    )


def _listening(config: MelConfig) -> MelConfig:
    """The model's own front end over the whole band: a waveform has one."""
    return config.model_copy(update={"fmax": None})


def _check_sizes(exact: Answer, other: Answer) -> None:
    _check_shape("scores", exact.scores, other.scores)
    _check_shape("mel", exact.mel, other.mel)
    _check_shape("samples", exact.samples, other.samples)


def _check_shape(what: str, exact: FloatArray, other: FloatArray) -> None:
    if exact.shape != other.shape:
        raise InvalidRequestError(
            f"the {what} of the two models have the shapes {exact.shape} and {other.shape}",
            hint="compare two variants of one model, on the same lines",
        )
