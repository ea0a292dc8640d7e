"""Every way of storing the language model's weights: close to torch, and blind to the batch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np
import pytest
import torch

from mynah.backends.base import FloatArray, Segment, SpeechLM
from mynah.backends.onnx.language_model import OnnxSpeechLM
from mynah.backends.torch.language_model import TorchSpeechLM
from mynah.config import LMConfig
from mynah.export.lm import export_lm
from mynah.export.lm_graph import LMVariant
from mynah.networks.language_model import SpeechLanguageModel

VARIANTS: tuple[LMVariant, ...] = get_args(LMVariant)

# Relative error of the scores, measured on these weights: 6e-7, 6e-4, 0.023, 0.026, 0.016, 0.21.
# On a processor without eight-bit dot products ONNX Runtime takes other, exact kernels.
TOLERANCES: Mapping[str, float] = {
    "float32": 1e-5,
    "float16": 2e-3,
    "int8": 0.05,
    "int8_rows": 0.05,
    "int8_weights": 0.04,
    "int4": 0.35,
}
CONFIG = LMConfig(
    text_vocab_size=80,
    hidden_size=144,  # no multiple of a block
    num_layers=3,
    num_heads=6,
    num_kv_heads=2,
    head_dim=24,  # not what the attention kernel takes
    intermediate_size=320,
    speech_vocab_size=60,
    num_control_tokens=5,
    eos_offset=1,
    fill_offset=3,
    marker_offsets=(0, 2),
    has_head_bias=False,
)


@cache
def module() -> SpeechLanguageModel:
    """Random weights at a usual scale."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = SpeechLanguageModel(CONFIG).eval()
        for name, weight in made.named_parameters():
            if weight.dim() == 2 and "embedding" not in name:
                torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    return made


@cache
def network(variant: LMVariant, threads: int = 1) -> OnnxSpeechLM:
    with TemporaryDirectory() as folder:  # read, or mapped, when this returns
        export_lm(module(), Path(folder), variant)
        return OnnxSpeechLM(Path(folder), CONFIG, threads)


def _segments(seed: int) -> list[Segment]:
    rng = np.random.default_rng(seed)
    return [
        Segment("marker", np.array([0])),
        Segment("text", rng.integers(0, 80, 5 + 3 * seed)),
        Segment("marker", np.array([1])),
        Segment("speech", rng.integers(0, 60, 4 + seed)),
    ]


def _scores(lm: SpeechLM, count: int) -> FloatArray:
    logits, state = lm.prefill(_segments(1))
    return np.stack([logits, *(lm.step(np.array([k % 60]), [state])[0] for k in range(count))])


@pytest.mark.parametrize("variant", VARIANTS)
def test_close_to_torch(variant: LMVariant) -> None:
    exact = _scores(TorchSpeechLM(module()), 40)
    found = _scores(network(variant), 40)
    error = float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    assert error < TOLERANCES[variant]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_does_not_depend_on_its_batch(variant: LMVariant, threads: int) -> None:
    """Equal to the bit, whatever the others are and however the batch changes."""
    lm = network(variant, threads)
    tokens = np.random.default_rng(4).integers(0, 60, (12, 5))
    alone = []
    for number in range(5):
        _, state = lm.prefill(_segments(number))
        alone.append([lm.step(tokens[k, number : number + 1], [state])[0] for k in range(12)])
    states = [lm.prefill(_segments(number))[1] for number in range(5)]
    made = [0] * 5
    batches = [[0], [0, 1, 2], [4, 3, 2, 1, 0], [2, 4], [1, 3, 4], [0, 1, 2, 3, 4], [3], [0, 1]]
    for batch in batches:
        step = np.array([tokens[made[number], number] for number in batch])
        for number, row in zip(batch, lm.step(step, [states[n] for n in batch]), strict=True):
            np.testing.assert_array_equal(row, alone[number][made[number]])
            made[number] += 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_forks_of_one_state_in_one_batch(variant: LMVariant) -> None:
    lm = network(variant)
    _, state = lm.prefill(_segments(2))
    forks = [lm.fork(state) for _ in range(3)]
    rows = lm.step(np.array([7, 8, 7]), forks)
    np.testing.assert_array_equal(rows[0], rows[2])
    assert (rows[0] != rows[1]).any()
    np.testing.assert_array_equal(lm.step(np.array([8]), [state])[0], rows[1])


def test_eight_bits_in_pieces_stay_close_to_the_whole() -> None:
    """Prompts are read in another kernel when they are one position long."""
    lm = network("int8")
    whole, _ = lm.prefill(_segments(3))
    state = None
    for segment in _segments(3):
        logits, state = lm.prefill([segment], state)
    assert np.linalg.norm(logits - whole) < 0.05 * np.linalg.norm(whole)


def test_past_the_first_capacity() -> None:
    lm = network("float32")
    torch_lm = TorchSpeechLM(module())
    long = [Segment("speech", np.arange(1020) % 60)]
    (a, ours), (b, theirs) = lm.prefill(long), torch_lm.prefill(long)
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)
    for token in range(8):
        step = np.array([token])
        a, b = lm.step(step, [ours])[0], torch_lm.step(step, [theirs])[0]
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)
