from __future__ import annotations

import numpy as np
import pytest

from mynah.backends.base import FloatArray
from mynah.errors import GenerationLimitError
from mynah.evaluation.lengths import expected_duration_s
from mynah.evaluation.report import Judges, SpeakerCheck, judge, summarise
from mynah.evaluation.sentences import everyday_sentences
from mynah.evaluation.wer import normalise
from mynah.types import Audio
from tests.sounds import make_speechlike

RATE = 24000


def _speak(text: str, seed: int) -> Audio:
    """As long as expected; the second sentence never stops and is cut at twice that."""
    duration_s = expected_duration_s(text)
    if seed == 1:
        audio = make_speechlike(2 * duration_s, RATE)
        raise GenerationLimitError("too long", audio=audio)
    return make_speechlike(duration_s, RATE)


class _FirstBins:
    """A speaker encoder of two numbers."""

    def embed(self, fbank: FloatArray) -> FloatArray:
        assert fbank.shape[1] == 80
        return np.array([1.0, 0.0], np.float32)


def test_judging_counts_what_did_not_stop() -> None:
    kept: list[int] = []
    speaker = SpeakerCheck(
        _FirstBins(), np.array([2.0, 0.0], np.float32), [np.array([0.0, 1.0], np.float32)]
    )
    results = list(
        judge(
            everyday_sentences()[:3],
            _speak,
            Judges(speaker=speaker),
            keep=lambda index, audio: kept.append(index),
        )
    )
    summary = summarise(results)
    assert kept == [0, 1, 2]
    assert [result.stopped for result in results] == [True, False, True]
    assert summary["stopped"] == 2
    assert summary["length_ok"] == 2
    assert summary["length_ratio_max"] == pytest.approx(2.0, rel=0.01)
    assert summary["speaker_similarity"] == pytest.approx(1.0)
    assert summary["wrong_speaker_similarity"] == pytest.approx(0.0)
    assert summary["word_error_rate"] is None
    assert summary["dnsmos_overall"] is None


def test_an_empty_list_has_no_figures() -> None:
    summary = summarise([])
    assert summary["sentences"] == 0
    assert summary["real_time_factor"] is None


def test_a_limit_error_without_audio_is_passed_on() -> None:
    def fails(text: str, seed: int) -> Audio:
        raise GenerationLimitError("nothing was made")

    with pytest.raises(GenerationLimitError):
        list(judge(["Hello."], fails, Judges()))


def test_expected_lengths_are_those_of_calm_reading() -> None:
    assert 0.5 < expected_duration_s("Yes.") < 1.1
    assert 2.0 < expected_duration_s("I left my umbrella on the bus again.") < 3.5
    assert expected_duration_s("One, two, three.") > expected_duration_s("One two three.")
    assert expected_duration_s("It costs 25 dollars.") > expected_duration_s("It costs dollars.")


def test_the_bundled_sentences_are_two_hundred_different_ones() -> None:
    sentences = everyday_sentences()
    assert len({" ".join(normalise(sentence)) for sentence in sentences}) == 200
    assert all(3 <= len(sentence.split()) <= 20 for sentence in sentences)
    assert all(sentence.endswith((".", "?", "!")) for sentence in sentences)


def test_the_bundled_sentences_are_not_among_the_training_templates() -> None:
    import re

    from recipes.nano.sentences import SLOTS, TEMPLATES

    patterns = [
        re.compile(
            re.sub(r"\\{(\w+)\\}", lambda slot: f"(?:{SLOTS[slot[1]]})", re.escape(template)),
            re.IGNORECASE,
        )
        for template in TEMPLATES
    ]
    made = [s for s in everyday_sentences() if any(p.fullmatch(s) for p in patterns)]
    assert made == []
