from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mynah.backends.base import Backend
from mynah.backends.registry import load_backend, load_noise
from mynah.config import ModelConfig
from mynah.errors import InvalidRequestError
from mynah.evaluation.fidelity import Answer, Fidelity, Line, answer, compare, record
from mynah.pipeline.model import SpeechModel, build_model
from mynah.pipeline.quality import find_quality
from mynah.pipeline.session import Session
from mynah.pipeline.synthesizer import synthesize
from mynah.types import FloatArray, SynthesisRequest
from tests.fake_model import reader_for
from tests.tiny_model import build_tiny_model, tiny_voice

TEXT = "Hello there."
FAMILIES = ("nano", "cosyvoice1", "cosyvoice2")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        build_tiny_model(path / family, family)
    build_tiny_model(
        path / "cosyvoice2-int8",
        "cosyvoice2",
        variants={"lm": "int8", "flow": "int8"},
        weights=False,
    )
    return path


@cache
def load(folder: Path, backend: str = "onnx", quality: str = "exact") -> SpeechModel:
    config = ModelConfig.load(folder / "config.json")
    networks = load_backend(folder, config, backend=backend, threads=1)
    config = find_quality(quality).apply(config)
    return build_model(config, networks, reader_for(config), noise=load_noise(folder))


@cache
def exact(folder: Path) -> tuple[list[Line], list[Answer]]:
    model = load(folder, "torch")
    lines = record(model, TEXT, tiny_voice(model.config), seed=3, num_tokens=24)
    return lines, answer(model, lines)


def against(folder: Path, other: SpeechModel) -> Fidelity:
    lines, answers = exact(folder)
    return compare(answers, answer(other, lines, answers))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_equals_itself(root: Path, family: str) -> None:
    found = against(root / family, load(root / family, "torch"))
    assert (found.tokens.same, found.tokens.divergence) == (1.0, 0.0)
    assert (found.mel_error, found.mel_largest, found.spectrum_error) == (0.0, 0.0, 0.0)
    assert found.vocoder_db is found.whole_db is found.same_source_db is None
    assert found.num_tokens == 24
    assert (found.moves is None) == (family != "nano")
    assert found.stream == found.exact_stream


@pytest.mark.parametrize("family", FAMILIES)
def test_backends_differ_by_rounding_only(root: Path, family: str) -> None:
    found = against(root / family, load(root / family))
    assert found.tokens.same == 1.0
    assert found.tokens.divergence < 1e-9
    assert found.mel_error < 1e-5
    for decibels in (found.vocoder_db, found.whole_db, found.same_source_db):
        assert decibels is None or decibels > 80


@pytest.mark.parametrize("family", ["nano", "cosyvoice2"])
def test_a_stream_equals_one_pass(root: Path, family: str) -> None:
    found = against(root / family, load(root / family))
    for check in (found.stream, found.exact_stream):
        assert check.mel < 1e-5
        assert check.samples < 1e-4


def test_windows_are_told_from_one_pass(root: Path) -> None:
    """The first generation streams in windows, which differ from its one pass by design."""
    _, answers = exact(root / "cosyvoice1")
    whole = against(root / "cosyvoice1", load(root / "cosyvoice1"))
    assert answers[0].mel.shape == answers[0].whole_mel.shape
    assert whole.stream.mel > 1e-3


def test_eight_bits_have_a_price_at_every_stage_but_the_vocoder(root: Path) -> None:
    found = against(root / "cosyvoice2", load(root / "cosyvoice2-int8"))
    assert 0 < found.tokens.divergence < 0.1
    assert 0.8 < found.tokens.same <= 1
    assert 1e-5 < found.mel_error < 0.1
    assert found.mel_largest > found.mel_error
    assert found.vocoder_db is None or found.vocoder_db > 80
    assert found.same_source_db is not None
    assert 10 < found.same_source_db < 80
    assert found.stream.mel < 1e-5


def test_fewer_steps_change_the_mel_and_nothing_before_it(root: Path) -> None:
    found = against(root / "cosyvoice2", load(root / "cosyvoice2", quality="fast"))
    assert found.tokens.divergence < 1e-9
    assert found.mel_error > 0.01


def test_what_was_forced_is_what_a_request_says(root: Path) -> None:
    """The exact answer is the audio of a plain request, sample by sample."""
    model = load(root / "nano")
    voice = tiny_voice(model.config)
    lines = record(model, TEXT, voice, seed=3)
    (found,) = answer(model, lines)
    request = Session(model, SynthesisRequest(text=TEXT, voice=voice, seed=3))
    spoken = synthesize(request).samples
    assert request.num_tokens == len(lines[0].tokens) == len(lines[0].cursors)
    np.testing.assert_allclose(found.samples[: len(spoken)], spoken, atol=1e-6)


def test_an_error_in_one_score_stays_there(root: Path) -> None:
    """Teacher forcing: a wrong choice in the middle changes nothing after it."""
    lines, answers = exact(root / "cosyvoice2")
    scores = answers[0].scores.copy()
    scores[10] = -scores[10]
    found = compare(answers, [replace(answers[0], scores=scores)])
    assert found.tokens.same == pytest.approx(1 - 1 / 24)
    assert [part == 0 for part in found.tokens.divergence_along] == [True, False, True, True]
    assert len(lines[0].tokens) == len(scores)


def test_a_broken_vocoder_is_heard_where_it_is(root: Path) -> None:
    model = load(root / "cosyvoice2")
    other = replace(model, backend=replace(model.backend, vocoder=_Quieter(model.backend)))
    found = against(root / "cosyvoice2", other)
    assert found.mel_error < 1e-5
    assert found.vocoder_db == pytest.approx(20, abs=0.5)


class _Quieter:
    """A vocoder at nine tenths of its level."""

    def __init__(self, backend: Backend) -> None:
        self._network = backend.vocoder
        self.f0, self.excitation = self._network.f0, self._network.excitation

    def decode(self, *arguments: FloatArray) -> FloatArray:
        return np.float32(0.9) * self._network.decode(*arguments)


def test_models_of_other_sizes_are_refused(root: Path) -> None:
    lines, answers = exact(root / "cosyvoice2")
    short = replace(answers[0], mel=answers[0].mel[:-1])
    with pytest.raises(InvalidRequestError, match="mel of the two models"):
        compare(answers, [short])
    with pytest.raises(InvalidRequestError, match="1 answers are to be compared with 0"):
        compare(answers, [])
    with pytest.raises(InvalidRequestError, match="0 answers"):
        compare([], [])
    assert lines


def test_the_result_is_plain_data(root: Path) -> None:
    found = against(root / "nano", load(root / "nano"))
    assert json.loads(json.dumps(asdict(found)))["tokens"]["same"] == 1.0
