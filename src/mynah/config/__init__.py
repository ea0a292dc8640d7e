"""Model configuration: strict, frozen data read from a model folder's ``config.json``.

Rates and sizes that follow from others are properties, so that no number is written twice.
Differences between model generations are values here, never class names in logic.
"""

from mynah.config.flow import (
    DiTConfig,
    FlowConfig,
    LookaheadEncoderConfig,
    RegulatedEncoderConfig,
    TokenEncoderConfig,
    VelocityConfig,
)
from mynah.config.language_model import LMConfig, PointerConfig, SamplingConfig, TextEncoderConfig
from mynah.config.model import InstructConfig, ModelConfig, PromptTemplates
from mynah.config.part import Part
from mynah.config.vocoder import MelConfig, VocoderConfig

__all__ = [
    "DiTConfig",
    "FlowConfig",
    "InstructConfig",
    "LMConfig",
    "LookaheadEncoderConfig",
    "MelConfig",
    "ModelConfig",
    "Part",
    "PointerConfig",
    "PromptTemplates",
    "RegulatedEncoderConfig",
    "SamplingConfig",
    "TextEncoderConfig",
    "TokenEncoderConfig",
    "VelocityConfig",
    "VocoderConfig",
]
