"""CosyVoice 1's networks: what they refuse, and what the text encoder may see."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mynah.config import LMConfig, PointerConfig
from mynah.networks.build import build_language_model
from mynah.networks.keys_lm import lm_keys
from mynah.networks.relative_language_model import RelativeLanguageModel
from tests.tiny_model import tiny_config


def config(**changes: Any) -> LMConfig:
    return tiny_config("cosyvoice1").lm.model_copy(update=changes)


def module() -> RelativeLanguageModel:
    torch.manual_seed(3)
    built = build_language_model(config())
    assert isinstance(built, RelativeLanguageModel)
    return built.eval()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"text_encoder": None}, "text encoder"),
        ({"pointer": PointerConfig()}, "pointer"),
        ({"num_kv_heads": 2}, "every head"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RelativeLanguageModel(config(**changes))


def test_keys_need_a_text_encoder() -> None:
    with pytest.raises(ValueError, match="text encoder"):
        lm_keys(config(text_encoder=None))


def test_a_speaker_needs_a_projection() -> None:
    deaf = RelativeLanguageModel(config(speaker_dim=None))
    with pytest.raises(ValueError, match="no speaker"):
        deaf.embed_speaker(torch.zeros(1, 12))


@torch.inference_mode()
def test_text_is_read_from_left_to_right() -> None:
    network, ids = module(), torch.arange(9)[None]
    whole = network.embed_text(ids)
    torch.testing.assert_close(network.embed_text(ids[:, :4]), whole[:, :4])
    # the second half alone is read differently: what was before it counts
    assert (network.embed_text(ids[:, 4:]) - whole[:, 4:]).abs().max() > 1e-3


@torch.inference_mode()
def test_padding_before_a_shorter_past_changes_nothing() -> None:
    network = module()
    x = torch.randn(2, 6, network.config.hidden_size)
    _, rows = network(x)
    step = torch.randn(2, 1, network.config.hidden_size)
    past = rows["past_kv"].clone()
    past[2:, 1] = past[:-2, 1].clone()  # the second sequence is two shorter
    past[:2, 1] = 99.0
    mask = torch.ones(2, 1, 7, dtype=torch.bool)
    mask[1, :, :2] = False
    lengths = torch.tensor([[6], [4]])
    batch, _ = network(step, {"past_kv": past}, mask, lengths)
    for index, length in enumerate([6, 4]):
        alone = {"past_kv": rows["past_kv"][:length, index : index + 1]}
        expected, _ = network(step[index : index + 1], alone)
        torch.testing.assert_close(batch[index : index + 1], expected, atol=1e-5, rtol=0)
