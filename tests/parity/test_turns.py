"""Text that arrives while it is spoken, against the official bistream loop: calls, scores, tokens.

The golden runs hand over one text id at a time and choose the likeliest speech token; their end
token comes once 100 tokens, ``fill`` included, are in the history. Measured: scores 2.3e-6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mynah.backends.base import Cursor, Segment
from mynah.backends.torch.language_model import TorchSpeechLM
from mynah.config import LMConfig, SamplingConfig
from mynah.networks.checkpoint import load_strict
from mynah.networks.keys_lm import lm_keys
from mynah.networks.language_model import SpeechLanguageModel
from mynah.pipeline.prompt import LMPrompt
from mynah.pipeline.speech_lm import LMStageState, SpeechLMStage
from mynah.types import FloatArray, TokenArray
from tests.parity import golden

TOLERANCE = 5e-5
END_AT = 100
END_OF_PROMPT = 501
"""Stands for the marker in the golden v3 runs, whose vocabulary is small."""
GREEDY = SamplingConfig(top_k=1, repetition_window=0)
VERSIONS = [v for v in ("v2", "v3") if (golden.golden_dir() / v / "lm_io.safetensors").is_file()]
RUNS = ("bistream", "bistream_b")


class RecordingLM:
    """A network whose calls are kept, and whose scores let only the run's sampler decide."""

    def __init__(self, network: TorchSpeechLM, config: LMConfig) -> None:
        self.network, self.config = network, config
        self.lengths: list[int] = []
        self.scores: list[FloatArray] = []

    def _keep(self, scores: FloatArray, length: int) -> FloatArray:
        self.lengths.append(length)
        self.scores.append(scores)
        steered = scores.copy()
        steered[self.config.speech_vocab_size :] = -1e9
        if len(self.scores) > END_AT:
            steered[self.config.eos] = 1e9
        return steered

    def prefill(
        self, segments: Sequence[Segment], state: Any = None, cursor: Cursor | None = None
    ) -> tuple[FloatArray, Any]:
        scores, state = self.network.prefill(segments, state, cursor)
        return self._keep(scores, sum(len(segment) for segment in segments)), state

    def step(
        self, tokens: TokenArray, states: Sequence[Any], cursors: Sequence[Cursor] | None = None
    ) -> FloatArray:
        return self._keep(self.network.step(tokens, states, cursors)[0], 1)[None]

    def advance_logits(self, tokens: TokenArray, states: Sequence[Any]) -> FloatArray:
        raise NotImplementedError

    def fork(self, state: Any) -> Any:
        return self.network.fork(state)


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def network(version: str) -> RecordingLM:
    config = golden.model_configs(version)[0]
    module = SpeechLanguageModel(config)
    load_strict(module, lm_keys(config).to_ours(golden.load_tensors(version, "llm")), "golden llm")
    return RecordingLM(TorchSpeechLM(module.eval()), config)


def _prompt(arrays: dict[str, npt.NDArray[Any]], version: str, run: str) -> LMPrompt:
    words = arrays[f"{run}.prompt_text"][0].astype(np.int64)
    speech = arrays[f"{run}.prompt_speech_token"][0].astype(np.int64)
    fixed = int(np.flatnonzero(words == END_OF_PROMPT)[-1]) + 1 if version == "v3" else 0
    return LMPrompt("zero_shot", words[:0], words, speech, num_fixed=fixed)


def _speak(network: RecordingLM, version: str, run: str, piece: int) -> LMStageState:
    """Hand the text over in pieces of so many ids, always as late as possible."""
    network.lengths, network.scores = [], []
    arrays = golden.load(version, "lm_io")
    text = arrays[f"{run}.text"][0].astype(np.int64)
    stage = SpeechLMStage(network, network.config, GREEDY)
    state = stage.start_turns(_prompt(arrays, version, run), np.random.default_rng(0))
    while not state.is_finished:
        if state.needs_text:
            stage.add_text(state, text[:piece])
            text = text[piece:]
            if not len(text):
                stage.end_text(state)
        stage.next_token(state)
    return state


@pytest.mark.parametrize("run", RUNS)
def test_a_golden_run(version: str, network: RecordingLM, run: str) -> None:
    state = _speak(network, version, run, piece=1)
    arrays = golden.load(version, "lm_io")
    assert network.lengths == arrays[f"{run}.input_len_per_call"].tolist()
    assert state.tokens == arrays[f"{run}.tokens"].tolist()
    first = np.stack([row[:64] for row in network.scores])
    np.testing.assert_allclose(first, arrays[f"{run}.logits_first64"], rtol=0, atol=TOLERANCE)
    last = arrays[f"{run}.logits_last"]
    np.testing.assert_allclose(network.scores[-1], last, rtol=0, atol=TOLERANCE)
    assert not state.hit_limit


@pytest.mark.parametrize("piece", [2, 5, 7, 1000])
def test_pieces_of_any_size_give_the_same(version: str, network: RecordingLM, piece: int) -> None:
    state = _speak(network, version, "bistream_b", piece)
    assert state.tokens == golden.load(version, "lm_io")["bistream_b.tokens"].tolist()
