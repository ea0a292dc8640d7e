"""The language model of CosyVoice 3 against the official code.

What differs from CosyVoice 2 is data: markers are rows of the speech embedding, the head has no
bias and 200 control ids. And one thing on purpose: the official loop hides id S before the minimum
length, which in this generation is not the end of speech, so it may end at once. Ours may not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from mynah.backends.base import Segment, SpeechLM
from mynah.backends.onnx.language_model import OnnxSpeechLM
from mynah.backends.torch.language_model import TorchSpeechLM
from mynah.config import SamplingConfig
from mynah.export.lm import export_lm
from mynah.networks.checkpoint import load_strict
from mynah.networks.keys_lm import lm_keys
from mynah.networks.language_model import SpeechLanguageModel
from mynah.networks.official import lm_config
from mynah.pipeline.prompt import LMPrompt, Mode, build_segments
from mynah.pipeline.speech_lm import SpeechLMStage
from tests.parity import golden
from tests.parity.checks import assert_close

# Measured: 0 (torch), 1.5e-6 (ONNX).
INPUT_TOLERANCE = 1e-6
TOLERANCE = 5e-5

IO: dict[str, npt.NDArray[Any]] = golden.load("v3", "lm_io")
FACTS = golden.facts("v3", "lm_io")
CONFIG = golden.model_configs("v3")[0]
MODES: list[Mode] = ["zero_shot", "cross_lingual", "instruct"]
GREEDY = SamplingConfig(top_k=1, repetition_window=0)


def _module() -> SpeechLanguageModel:
    module = SpeechLanguageModel(CONFIG)
    load_strict(module, lm_keys(CONFIG).to_ours(golden.load_tensors("v3", "llm")), "golden llm")
    return module.eval()


def _backend(name: str, module: SpeechLanguageModel, folder: Path) -> SpeechLM:
    if name == "torch":
        return TorchSpeechLM(module)
    export_lm(module, folder)
    return OnnxSpeechLM(folder, module.config, 1)


@pytest.fixture(scope="module")
def module() -> SpeechLanguageModel:
    return _module()


@pytest.fixture(scope="module", params=["torch", "onnx"])
def network(
    request: pytest.FixtureRequest,
    module: SpeechLanguageModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> SpeechLM:
    return _backend(request.param, module, tmp_path_factory.mktemp("lm"))


def _prompt(mode: Mode) -> LMPrompt:
    text = IO["text_with_eop" if mode == "cross_lingual" else "text"][0].astype(np.int64)
    prompt_text = IO["prompt_text"][0].astype(np.int64)
    return LMPrompt(mode, text, prompt_text, IO["prompt_speech_token"][0].astype(np.int64))


def _embed(module: SpeechLanguageModel, segments: list[Segment]) -> torch.Tensor:
    embed = {
        "text": module.embed_text,
        "speech": module.embed_speech,
        "marker": module.embed_marker,
    }
    return torch.cat([embed[s.kind](torch.from_numpy(s.ids)[None]) for s in segments], dim=1)


def test_the_golden_set_has_every_mode() -> None:
    assert len(MODES) == sum(name.endswith(".lm_input") for name in IO)


def test_special_ids() -> None:
    size = CONFIG.speech_vocab_size
    assert (CONFIG.eos, CONFIG.fill, CONFIG.head_size) == (size + 1, size + 3, size + 200)
    assert IO["zero_shot.logits"].shape[1] == CONFIG.head_size


@pytest.mark.parametrize("mode", MODES)
def test_inputs_and_prefill_hidden_states(module: SpeechLanguageModel, mode: Mode) -> None:
    with torch.inference_mode():
        inputs = _embed(module, build_segments(_prompt(mode), CONFIG))
        hidden, _ = module(inputs)
    assert_close(inputs, IO[f"{mode}.lm_input"], INPUT_TOLERANCE)
    assert_close(hidden, IO[f"{mode}.hidden_prefill"], TOLERANCE)


@pytest.mark.parametrize("mode", MODES)
def test_logits_of_every_forced_step(network: SpeechLM, mode: Mode) -> None:
    expected = IO[f"{mode}.logits"]
    logits, state = network.prefill(build_segments(_prompt(mode), CONFIG))
    rows, hidden = [logits], [np.asarray(state.hidden).reshape(-1)]
    for token in IO["forced_tokens"][: len(expected) - 1]:
        rows.extend(network.step(np.array([token]), [state]))
        hidden.append(np.asarray(state.hidden).reshape(-1))
    assert_close(np.stack(rows), expected, TOLERANCE)
    assert_close(np.stack(hidden), IO[f"{mode}.hidden_steps"], TOLERANCE)
    log_probabilities = torch.from_numpy(rows[0]).log_softmax(-1)
    assert_close(log_probabilities, IO[f"{mode}.logp_first"], TOLERANCE)


@pytest.mark.parametrize("backend", ["torch", "onnx"])
@pytest.mark.parametrize("run", ["greedy", "greedy_eos", "greedy_nospecial"])
def test_greedy_runs_of_the_official_loop(backend: str, run: str, tmp_path: Path) -> None:
    module = _module()
    with torch.no_grad():
        if run == "greedy_eos":
            module.speech_head.weight[CONFIG.eos] *= FACTS["eos_row_scale"]
        if run == "greedy_nospecial":
            module.speech_head.weight[CONFIG.speech_vocab_size :] = 0
    stage = SpeechLMStage(_backend(backend, module, tmp_path), CONFIG, GREEDY)
    state = stage.start(_prompt("zero_shot"), np.random.default_rng(0))
    scores, expected = [state.logits], IO[f"{run}.tokens"]
    while stage.next_token(state) is not None:
        scores.append(state.logits)
    np.testing.assert_array_equal(state.tokens[: len(expected)], expected)
    if f"{run}.logits_first16" in IO:
        first16 = IO[f"{run}.logits_first16"]
        ours = np.stack(scores[1:])[: len(first16), :16]
        assert_close(ours, first16[: len(ours)], TOLERANCE)
    if len(expected) >= state.min_tokens:
        assert len(state.tokens) == len(expected)
    else:  # it wanted to end there, like the official one, and was not allowed to
        assert scores[len(expected) + 1].argmax() >= CONFIG.speech_vocab_size
        assert len(state.tokens) >= state.min_tokens
    assert state.hit_limit == (len(state.tokens) == state.max_tokens)


def test_golden_keys_map_both_ways() -> None:
    table, official = lm_keys(CONFIG), golden.load_tensors("v3", "llm")
    back = table.to_official(table.to_ours(official))
    assert back.keys() == official.keys()
    assert all(torch.equal(back[key], value) for key, value in official.items())


def test_released_keys_and_shapes_map_both_ways() -> None:
    config = lm_config(golden.contract_config(3)["llm"], 3)
    with torch.device("meta"):
        own = SpeechLanguageModel(config).state_dict()
    theirs = lm_keys(config).to_official(own)
    assert {key: tuple(value.shape) for key, value in theirs.items()} == golden.contract("llm", 3)
    assert lm_keys(config).to_ours(theirs).keys() == own.keys()
