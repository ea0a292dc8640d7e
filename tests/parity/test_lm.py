"""The language model against the official implementation: keys, inputs, hidden states, choices."""

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
from mynah.networks.transformer import PAST
from mynah.pipeline.prompt import LMPrompt, Mode, build_segments
from mynah.pipeline.speech_lm import SpeechLMStage
from tests.parity import golden

# Measured against the fixtures: inputs 0, hidden and logits 1.7e-6 (torch), 2.4e-6 (ONNX).
INPUT_TOLERANCE = 1e-6
TOLERANCE = 5e-5

Arrays = dict[str, npt.NDArray[Any]]
IO: Arrays = golden.load("v2", "lm_io")
MODES: list[Mode] = [
    mode for mode in ("zero_shot", "cross_lingual", "instruct") if f"{mode}.lm_input" in IO
]
GREEDY = SamplingConfig(top_k=1, repetition_window=0)


def _module() -> SpeechLanguageModel:
    config = golden.model_configs()[0]
    module = SpeechLanguageModel(config)
    tensors = lm_keys(config).to_ours(golden.load_tensors("v2", "llm"))
    load_strict(module, tensors, "golden llm")
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
    ids = {name: IO[name][0].astype(np.int64) for name in ("text", "prompt_text")}
    speech = IO["prompt_speech_token"][0].astype(np.int64)
    return LMPrompt(mode, ids["text"], ids["prompt_text"], speech)


def _embed(module: SpeechLanguageModel, segments: list[Segment]) -> torch.Tensor:
    embed = {
        "text": module.embed_text,
        "speech": module.embed_speech,
        "marker": module.embed_marker,
    }
    return torch.cat([embed[s.kind](torch.from_numpy(s.ids)[None]) for s in segments], dim=1)


def _close(actual: Any, expected: Any, tolerance: float) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=0, atol=tolerance)


def test_the_golden_set_has_every_mode() -> None:
    assert len(MODES) == sum(name.endswith(".lm_input") for name in IO)


def test_golden_keys_map_both_ways() -> None:
    table = lm_keys(golden.model_configs()[0])
    official = golden.load_tensors("v2", "llm")
    back = table.to_official(table.to_ours(official))
    assert back.keys() == official.keys()
    for key, value in official.items():
        torch.testing.assert_close(back[key], value, rtol=0, atol=0)


def test_released_keys_and_shapes_map_both_ways() -> None:
    config = lm_config(golden.contract_config()["llm"])
    official = golden.contract("llm")
    with torch.device("meta"):
        own = SpeechLanguageModel(config).state_dict()
    theirs = lm_keys(config).to_official(own)
    assert {key: tuple(value.shape) for key, value in theirs.items()} == official
    assert lm_keys(config).to_ours(theirs).keys() == own.keys()


@pytest.mark.parametrize("mode", MODES)
def test_inputs_and_prefill_hidden_states(module: SpeechLanguageModel, mode: Mode) -> None:
    with torch.inference_mode():
        inputs = _embed(module, build_segments(_prompt(mode), module.config))
        hidden, _ = module(inputs)
    _close(inputs, IO[f"{mode}.lm_input"], INPUT_TOLERANCE)
    _close(hidden, IO[f"{mode}.hidden_prefill"], TOLERANCE)


@pytest.mark.parametrize("mode", MODES)
def test_logits_of_every_forced_step(
    module: SpeechLanguageModel, network: SpeechLM, mode: Mode
) -> None:
    expected = IO[f"{mode}.logits"]
    logits, state = network.prefill(build_segments(_prompt(mode), module.config))
    rows, hidden = [logits], [_hidden(state)]
    for token in IO["forced_tokens"][: len(expected) - 1]:
        rows.extend(network.step(np.array([token]), [state]))
        hidden.append(_hidden(state))
    _close(rows, expected, TOLERANCE)
    _close(hidden, IO[f"{mode}.hidden_steps"], TOLERANCE)
    log_probabilities = torch.from_numpy(rows[0]).log_softmax(-1)
    _close(log_probabilities, IO[f"{mode}.logp_first"], TOLERANCE)


def _hidden(state: Any) -> npt.NDArray[np.float32]:
    return np.asarray(state.hidden).reshape(-1)


@pytest.mark.parametrize("mode", MODES)
def test_incremental_equals_whole(module: SpeechLanguageModel, mode: Mode) -> None:
    with torch.inference_mode():
        prompt = torch.from_numpy(IO[f"{mode}.lm_input"])
        forced = module.embed_speech(torch.from_numpy(IO["forced_tokens"])[None])
        inputs = torch.cat([prompt, forced], dim=1)
        whole, all_rows = module(inputs)
        sizes = [3, prompt.shape[1] - 3, *[1] * forced.shape[1]]
        state, pieces = module.initial_state(), []
        for piece in torch.split(inputs, sizes, dim=1):
            hidden, new = module(piece, state)
            state = {PAST: torch.cat([state[PAST], new[PAST]])}
            pieces.append(hidden)
    _close(torch.cat(pieces, dim=1), whole, TOLERANCE)
    _close(state[PAST], all_rows[PAST], TOLERANCE)


def test_right_padding_changes_nothing(module: SpeechLanguageModel) -> None:
    with torch.inference_mode():
        short, long = (
            torch.from_numpy(IO[f"{mode}.lm_input"]) for mode in ("cross_lingual", "zero_shot")
        )
        padded = torch.zeros_like(long)
        padded[:, : short.shape[1]] = short
        hidden, _ = module(torch.cat([padded, long]))
    _close(hidden[:1, : short.shape[1]], IO["cross_lingual.hidden_prefill"], TOLERANCE)
    _close(hidden[1:], IO["zero_shot.hidden_prefill"], TOLERANCE)


@pytest.mark.parametrize("backend", ["torch", "onnx"])
@pytest.mark.parametrize("run", ["greedy", "greedy_eos", "greedy_nospecial"])
def test_greedy_runs_of_the_official_loop(backend: str, run: str, tmp_path: Path) -> None:
    """Length rules and stop included. Our minimum length holds for every control token.

    The official code masks only the end token, so a run that it ends earlier is compared up to
    there.
    """
    module = _module()
    config = module.config
    with torch.no_grad():
        bias = module.speech_head.bias
        if run == "greedy_eos":
            bias[config.eos] = golden.facts("v2", "lm_io")["eos_bias_value"]
        if run == "greedy_nospecial":
            bias[config.speech_vocab_size :] = -1e9
    stage = SpeechLMStage(_backend(backend, module, tmp_path), config, GREEDY)
    state = stage.start(_prompt("zero_shot"), np.random.default_rng(0))
    scores = [state.logits[:16]]
    while stage.next_token(state) is not None:
        scores.append(state.logits[:16])

    expected = IO[f"{run}.tokens"]
    np.testing.assert_array_equal(state.tokens[: len(expected)], expected)
    if len(expected) >= state.min_tokens:
        assert len(state.tokens) == len(expected)
    assert state.hit_limit == (len(state.tokens) == state.max_tokens)
    if f"{run}.logits_first16" in IO:
        first16 = IO[f"{run}.logits_first16"]
        _close(scores[1 : len(first16) + 1], first16[: len(scores) - 1], TOLERANCE)
