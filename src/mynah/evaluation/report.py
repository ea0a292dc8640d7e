"""Speaking a list of sentences and judging each: what was heard, how it sounds, how long it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from mynah.audio.features import FEATURE_RATE, kaldi_fbank
from mynah.audio.resample import resample
from mynah.backends.base import SpeakerEncoder
from mynah.errors import GenerationLimitError
from mynah.evaluation.dnsmos import Dnsmos, Scores
from mynah.evaluation.lengths import expected_duration_s
from mynah.evaluation.recognizer import Recognizer
from mynah.evaluation.wer import WordErrors, total, word_errors
from mynah.types import Audio, FloatArray

SHORTEST_RATIO, LONGEST_RATIO = 0.7, 1.4
"""Lengths outside of this, relative to the expected one, count as wrong."""


class Speak(Protocol):
    """Speaks one sentence."""

    def __call__(self, text: str, seed: int) -> Audio:
        """Return the audio; raise GenerationLimitError if the speech did not stop by itself."""
        ...


@dataclass(frozen=True, slots=True)
class SpeakerCheck:
    """Compares speech with the voice it should have, and with voices it should not have."""

    encoder: SpeakerEncoder
    target: FloatArray
    """Speaker embedding (D,) of the voice that speaks."""
    others: Sequence[FloatArray] = ()
    """Speaker embeddings (D,) of other people: the wrong-speaker baseline."""

    def similarities(self, audio: Audio) -> tuple[float, float | None]:
        """Return cosine similarity to the voice, and the mean to the others (None without any)."""
        samples = resample(audio.samples, audio.sample_rate, FEATURE_RATE)
        spoken = self.encoder.embed(kaldi_fbank(samples))
        wrong = [_cosine(spoken, other) for other in self.others]
        return _cosine(spoken, self.target), float(np.mean(wrong)) if wrong else None


@dataclass(frozen=True, slots=True)
class Judges:
    """What judges the audio; None = that figure is left out."""

    recognizer: Recognizer | None = None
    dnsmos: Dnsmos | None = None
    speaker: SpeakerCheck | None = None


@dataclass(frozen=True, slots=True)
class SentenceResult:
    """Everything measured on one sentence."""

    text: str
    heard: str | None
    errors: WordErrors | None
    stopped: bool
    """Whether the speech ended by itself."""
    duration_s: float
    length_ratio: float
    """Length relative to the expected one."""
    took_s: float
    scores: Scores | None
    similarity: float | None
    wrong_similarity: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def judge(
    sentences: Iterable[str],
    speak: Speak,
    judges: Judges,
    *,
    seed: int = 0,
    keep: Callable[[int, Audio], None] | None = None,
) -> Iterator[SentenceResult]:
    """Speak and judge one sentence after the other.

    Args:
        sentences: English.
        speak: the voice.
        judges: who judges.
        seed: of the first sentence; the next ones have the following numbers.
        keep: called with number and audio of each sentence, for example to save it.

    Raises:
        SynthesisError: whatever ``speak`` raises beside GenerationLimitError.
    """
    for index, text in enumerate(sentences):
        started = time.perf_counter()
        stopped = True
        try:
            audio = speak(text, seed + index)
        except GenerationLimitError as error:
            if not isinstance(error.audio, Audio):
                raise
            stopped, audio = False, error.audio
        took_s = time.perf_counter() - started
        if keep is not None:
            keep(index, audio)
        yield _judge_one(text, audio, stopped, took_s, judges)


def summarise(results: Sequence[SentenceResult]) -> dict[str, float | int | None]:
    """Condense the results; a figure that nobody judged is None."""
    audio_s = sum(result.duration_s for result in results)
    errors = [result.errors for result in results if result.errors is not None]
    ratios = [result.length_ratio for result in results]
    scores = [result.scores for result in results if result.scores is not None]
    return {
        "sentences": len(results),
        "word_error_rate": total(errors).rate if errors else None,
        "sentences_without_error": sum(not e.count for e in errors) if errors else None,
        "stopped": sum(result.stopped for result in results),
        "length_ok": sum(SHORTEST_RATIO <= ratio <= LONGEST_RATIO for ratio in ratios),
        "length_ratio_mean": _mean(ratios),
        "length_ratio_min": min(ratios, default=None),
        "length_ratio_max": max(ratios, default=None),
        "dnsmos_overall": _mean([s.overall for s in scores]),
        "dnsmos_speech": _mean([s.speech for s in scores]),
        "dnsmos_background": _mean([s.background for s in scores]),
        "speaker_similarity": _mean([r.similarity for r in results]),
        "wrong_speaker_similarity": _mean([r.wrong_similarity for r in results]),
        "audio_s": audio_s,
        "real_time_factor": sum(r.took_s for r in results) / audio_s if audio_s else None,
    }


def _judge_one(
    text: str, audio: Audio, stopped: bool, took_s: float, judges: Judges
) -> SentenceResult:
    heard = judges.recognizer.transcribe(audio) if judges.recognizer else None
    right, wrong = judges.speaker.similarities(audio) if judges.speaker else (None, None)
    return SentenceResult(
        text=text,
        heard=heard,
        errors=None if heard is None else word_errors(text, heard),
        stopped=stopped,
        duration_s=audio.duration_s,
        length_ratio=audio.duration_s / expected_duration_s(text),
        took_s=took_s,
        scores=judges.dnsmos.score(audio) if judges.dnsmos else None,
        similarity=right,
        wrong_similarity=wrong,
    )


def _cosine(a: FloatArray, b: FloatArray) -> float:
    scale = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(a @ b) / scale if scale else 0.0


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
