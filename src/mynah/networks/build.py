"""Which module a configuration asks for: tables, no conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from torch import nn

from mynah.config import LMConfig, ModelConfig
from mynah.networks.flow import Flow
from mynah.networks.language_model import SpeechLanguageModel
from mynah.networks.relative_language_model import RelativeLanguageModel
from mynah.networks.vocoder import HiFT

LanguageModel: TypeAlias = SpeechLanguageModel | RelativeLanguageModel
"""Both have the same methods; backends use either."""

LANGUAGE_MODELS: Mapping[str, Callable[[LMConfig], LanguageModel]] = {
    "qwen2": SpeechLanguageModel,
    "relative": RelativeLanguageModel,
}
"""By ``LMConfig.trunk``."""


def build_language_model(config: LMConfig) -> LanguageModel:
    """Language model with random weights."""
    return LANGUAGE_MODELS[config.trunk](config)


def build_module(stage: str, config: ModelConfig) -> nn.Module:
    """``lm``, ``flow`` or ``vocoder`` of a model, with random weights."""
    builders: Mapping[str, Callable[[], nn.Module]] = {
        "lm": lambda: build_language_model(config.lm),
        "flow": lambda: Flow(config.flow),
        "vocoder": lambda: HiFT(config.vocoder),
    }
    return builders[stage]()
