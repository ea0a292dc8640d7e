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
