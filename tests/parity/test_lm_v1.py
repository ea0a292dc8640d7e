"""CosyVoice 1's language model against the official implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from mynah.backends.base import Segment, SpeechLM, joined_text
from mynah.config import SamplingConfig
from mynah.networks.build import build_language_model
from mynah.networks.keys_lm import lm_keys
from mynah.networks.official import lm_config
from mynah.networks.relative_language_model import RelativeLanguageModel
from mynah.networks.transformer import PAST
from mynah.pipeline.prompt import LMPrompt, Mode, build_segments
from mynah.pipeline.speech_lm import SpeechLMStage
from tests.parity import golden, v1

# Measured against the fixtures: inputs 7e-7, hidden and logits 1.7e-6, both backends alike.
INPUT_TOLERANCE = 2e-5
TOLERANCE = 5e-5

IO = golden.load("v1", "lm_io")
MODES: list[Mode] = [
    mode for mode in ("sft", "zero_shot", "cross_lingual", "instruct") if f"{mode}.lm_input" in IO
]
GREEDY = SamplingConfig(top_k=1, repetition_window=0)


@pytest.fixture(scope="module")
def module() -> RelativeLanguageModel:
    return v1.lm_module()


@pytest.fixture(scope="module", params=v1.BACKENDS)
def network(request: pytest.FixtureRequest, module: RelativeLanguageModel) -> SpeechLM:
    return v1.lm_network(request.param, module)


def prompt(mode: Mode) -> LMPrompt:
    ids = {name: IO[name][0].astype(np.int64) for name in ("text", "prompt_text")}
    return LMPrompt(
        mode,
        ids["text"],
        ids["prompt_text"],
        IO["prompt_speech_token"][0].astype(np.int64),
        IO["spk_embedding"][0],
        reads_speaker=mode != "instruct",
    )


def embed(module: RelativeLanguageModel, segments: list[Segment]) -> torch.Tensor:
    parts = []
    for segment in joined_text(segments):
        if segment.vector is not None:
            parts.append(module.embed_speaker(torch.from_numpy(segment.vector)[None]))
            continue
        look_up = {
            "text": module.embed_text,
            "speech": module.embed_speech,
            "marker": module.embed_marker,
        }[segment.kind]
        parts.append(look_up(torch.from_numpy(segment.ids)[None]))
    return torch.cat(parts, dim=1)


def close(actual: Any, expected: Any, tolerance: float = TOLERANCE) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=0, atol=tolerance)


def hidden_of(state: Any) -> npt.NDArray[np.float32]:
    return np.asarray(state.hidden).reshape(-1)


def test_the_golden_set_has_every_mode() -> None:
    assert len(MODES) == sum(name.endswith(".lm_input") for name in IO)


def test_golden_keys_map_both_ways() -> None:
    table = lm_keys(v1.model_config().lm)
    official = golden.load_tensors("v1", "llm")
    back = table.to_official(table.to_ours(official))
    assert back.keys() == official.keys()
    assert all(torch.equal(back[key], value) for key, value in official.items())


def test_released_keys_and_shapes_map_both_ways() -> None:
    config = lm_config(golden.contract_config(1)["llm"], 1)
    with torch.device("meta"):
        own = build_language_model(config).state_dict()
    theirs = lm_keys(config).to_official(own)
    assert {key: tuple(value.shape) for key, value in theirs.items()} == golden.contract("llm", 1)
    assert lm_keys(config).to_ours(theirs).keys() == own.keys()


@pytest.mark.parametrize("mode", MODES)
def test_inputs_and_prefill_hidden_states(module: RelativeLanguageModel, mode: Mode) -> None:
    with torch.inference_mode():
        inputs = embed(module, build_segments(prompt(mode), module.config))
        hidden, _ = module(inputs)
    close(inputs, IO[f"{mode}.lm_input"], INPUT_TOLERANCE)
    close(hidden, IO[f"{mode}.hidden_prefill"])


@pytest.mark.parametrize("mode", MODES)
def test_logits_of_every_forced_step(
    module: RelativeLanguageModel, network: SpeechLM, mode: Mode
) -> None:
    expected = IO[f"{mode}.logits"]
    logits, state = network.prefill(build_segments(prompt(mode), module.config))
    rows, hidden = [logits], [hidden_of(state)]
    for token in IO["forced_tokens"][: len(expected) - 1]:
        rows.extend(network.step(np.array([token]), [state]))
        hidden.append(hidden_of(state))
    close(rows, expected)
    close(hidden, IO[f"{mode}.hidden_steps"])
    close(torch.from_numpy(rows[0]).log_softmax(-1), IO[f"{mode}.logp_first"])


def test_a_transcript_is_read_with_the_text_after_it(
    module: RelativeLanguageModel, network: SpeechLM
) -> None:
    """The text encoder runs once: its positions and attention go over both."""
    together = prompt("zero_shot")
    apart = build_segments(together, module.config)
    assert [segment.kind for segment in apart].count("text") == 2
    one = Segment("text", np.concatenate([together.prompt_text, together.text]))
    joined = [segment for segment in apart if segment.kind != "text"]
    joined.insert(2, one)
    close(network.prefill(apart)[0], network.prefill(joined)[0], 0)


@pytest.mark.parametrize("mode", MODES)
def test_incremental_equals_whole(module: RelativeLanguageModel, mode: Mode) -> None:
    with torch.inference_mode():
        read = torch.from_numpy(IO[f"{mode}.lm_input"])
        forced = module.embed_speech(torch.from_numpy(IO["forced_tokens"])[None])
        inputs = torch.cat([read, forced], dim=1)
        whole, all_rows = module(inputs)
        state, pieces = module.initial_state(), []
        for piece in torch.split(inputs, [3, read.shape[1] - 3, *[1] * forced.shape[1]], dim=1):
            hidden, new = module(piece, state)
            state = {PAST: torch.cat([state[PAST], new[PAST]])}
            pieces.append(hidden)
    close(torch.cat(pieces, dim=1), whole)
    close(state[PAST], all_rows[PAST])


def test_a_batch_of_unequal_lengths_equals_each_alone(
    module: RelativeLanguageModel, network: SpeechLM
) -> None:
    states = [network.prefill(build_segments(prompt(mode), module.config))[1] for mode in MODES]
    alone = [network.fork(state) for state in states]
    for tokens in IO["forced_tokens"][: 3 * len(MODES)].reshape(3, -1):
        batch = network.step(tokens, states)
        single = [network.step(np.array([t]), [s])[0] for t, s in zip(tokens, alone, strict=True)]
        close(batch, single)


@pytest.mark.parametrize("backend", v1.BACKENDS)
@pytest.mark.parametrize("run", ["greedy", "greedy_eos", "greedy_nospecial"])
def test_greedy_runs_of_the_official_loop(backend: str, run: str) -> None:
    """Length rules and stop included."""
    module = v1.lm_module()
    config = module.config
    with torch.no_grad():
        if run == "greedy_eos":
            bias = golden.facts("v1", "lm_io")["eos_bias_value"]
            module.speech_head.bias[config.eos] = bias
        if run == "greedy_nospecial":
            module.speech_head.bias[config.speech_vocab_size :] = -1e9
    language_model = SpeechLMStage(v1.lm_network(backend, module), config, GREEDY)
    state = language_model.start(prompt("zero_shot"), np.random.default_rng(0))
    scores = [state.logits[:16]]
    while language_model.next_token(state) is not None:
        scores.append(state.logits[:16])

    np.testing.assert_array_equal(state.tokens, IO[f"{run}.tokens"])
    assert state.hit_limit == (len(state.tokens) == state.max_tokens)
    if f"{run}.logits_first16" in IO:
        first16 = IO[f"{run}.logits_first16"]
        close(scores[1 : len(first16) + 1], first16[: len(scores) - 1])
