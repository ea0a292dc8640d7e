"""Constructor values of the official CosyVoice 1 configurations, read as ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mynah.config import LMConfig, RegulatedEncoderConfig, TextEncoderConfig, VelocityConfig
from mynah.errors import ModelFormatError

_LEVELS = 2
_PLAIN_RATIO = 1


def lm_config(values: Mapping[str, Any]) -> LMConfig:
    """Translate the language model's values.

    Raises:
        ModelFormatError: if the widths of the language model differ, which none released does.
    """
    trunk, text = values["llm"], values["text_encoder"]
    width = trunk["output_size"]
    if not values["llm_input_size"] == values["llm_output_size"] == trunk["input_size"] == width:
        raise ModelFormatError("official configuration: the language model's widths differ")
    heads = trunk["attention_heads"]
    return LMConfig(
        trunk="relative",
        text_encoder=TextEncoderConfig(
            input_size=text["input_size"],
            dim=text["output_size"],
            num_heads=text["attention_heads"],
            feed_forward=text["linear_units"],
            num_blocks=text["num_blocks"],
        ),
        text_vocab_size=values["text_token_size"],
        hidden_size=width,
        num_layers=trunk["num_blocks"],
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=width // heads,
        intermediate_size=trunk["linear_units"],
        speech_vocab_size=values["speech_token_size"],
        num_control_tokens=1,
        fill_offset=None,
        speaker_dim=values["spk_embed_dim"],
    )


def flow_parts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the parts of the flow that other generations do not have.

    Raises:
        ModelFormatError: if the U-Net or the length regulator is of a kind never released.
    """
    encoder, estimator = values["encoder"], values["decoder"]["estimator"]
    channels, ratios = estimator["channels"], values["length_regulator"]["sampling_ratios"]
    if len(channels) != _LEVELS or len(set(channels)) != 1:
        raise ModelFormatError(f"official configuration: U-Net channels {channels} are unknown")
    if set(ratios) != {_PLAIN_RATIO}:
        raise ModelFormatError(f"official configuration: sampling ratios {ratios} are unknown")
    return {
        "token_mel_ratio": None,
        # The official code draws new noise at every call; here it is the same for an utterance,
        # and needs no file.
        "noise": "numpy",
        "encoder": RegulatedEncoderConfig(
            kind="regulated_conformer",
            dim=encoder["output_size"],
            num_heads=encoder["attention_heads"],
            feed_forward=encoder["linear_units"],
            num_blocks=encoder["num_blocks"],
            num_regulator_convs=len(ratios),
        ),
        "velocity": VelocityConfig(
            is_causal=False,
            channels=channels[0],
            num_heads=estimator["num_heads"],
            head_dim=estimator["attention_head_dim"],
            transformers_per_block=estimator["n_blocks"],
            num_mid_blocks=estimator["num_mid_blocks"],
        ),
    }
