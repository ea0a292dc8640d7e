"""Constructor values of the official CosyVoice2 configuration, read as ours.

The official files use the names of the original code's constructors. What they hold that has no
place here (dropout, training losses) is ignored on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mynah.config import (
    FlowConfig,
    LMConfig,
    TokenEncoderConfig,
    VelocityConfig,
    VocoderConfig,
)
from mynah.errors import ModelFormatError

_CONTROL_TOKENS = 3
# The official encoder class hard-codes its upper half; no file holds this number.
_UP_BLOCKS = 4


def model_config_from_golden(
    config: Mapping[str, Any],
) -> tuple[LMConfig, FlowConfig, VocoderConfig]:
    """Translate a dict of official constructor values (``llm``, ``flow``, ``hift``).

    Raises:
        ModelFormatError: if a value is missing, or this generation is not supported.
    """
    if config.get("version") != 2:
        raise ModelFormatError(
            f"official configuration of version {config.get('version')} is not supported",
            hint="this version of mynah reads the CosyVoice2 generation",
        )
    try:
        return (
            lm_config(config["llm"]),
            flow_config(config["flow"]),
            vocoder_config(config["hift"]),
        )
    except (KeyError, TypeError) as error:
        raise ModelFormatError(f"official configuration: missing or wrong value {error}") from error


def lm_config(values: Mapping[str, Any]) -> LMConfig:
    """Translate the language model's values."""
    trunk = values["llm"]
    return LMConfig(
        text_vocab_size=trunk["vocab_size"],
        hidden_size=trunk["hidden_size"],
        num_layers=trunk["num_hidden_layers"],
        num_heads=trunk["num_attention_heads"],
        num_kv_heads=trunk["num_key_value_heads"],
        head_dim=trunk["hidden_size"] // trunk["num_attention_heads"],
        intermediate_size=trunk["intermediate_size"],
        rope_theta=trunk["rope_theta"],
        rms_norm_eps=trunk["rms_norm_eps"],
        speech_vocab_size=values["speech_token_size"],
        num_control_tokens=_CONTROL_TOKENS,
    )


def flow_config(values: Mapping[str, Any]) -> FlowConfig:
    """Translate the flow's values."""
    encoder, estimator = values["encoder"], values["decoder"]["estimator"]
    return FlowConfig(
        speech_vocab_size=values["vocab_size"],
        input_size=values["input_size"],
        n_mels=values["output_size"],
        speaker_dim=values["spk_embed_dim"],
        encoder=TokenEncoderConfig(
            dim=encoder["output_size"],
            num_heads=encoder["attention_heads"],
            feed_forward=encoder["linear_units"],
            num_blocks=encoder["num_blocks"],
            num_up_blocks=_UP_BLOCKS,
            lookahead_tokens=values["pre_lookahead_len"],
            chunk_tokens=encoder["static_chunk_size"],
        ),
        velocity=VelocityConfig(
            channels=estimator["channels"][0],
            num_heads=estimator["num_heads"],
            head_dim=estimator["attention_head_dim"],
            transformers_per_block=estimator["n_blocks"],
            num_mid_blocks=estimator["num_mid_blocks"],
        ),
        token_mel_ratio=values["token_mel_ratio"],
        cfg_rate=values["decoder"]["cfm_params"]["inference_cfg_rate"],
    )


def vocoder_config(values: Mapping[str, Any]) -> VocoderConfig:
    """Translate the vocoder's values."""
    return VocoderConfig(
        n_mels=values["in_channels"],
        base_channels=values["base_channels"],
        num_harmonics=values["nb_harmonics"],
        sine_amplitude=values["nsf_alpha"],
        noise_std=values["nsf_sigma"],
        voiced_threshold_hz=values["nsf_voiced_threshold"],
        upsample_rates=values["upsample_rates"],
        upsample_kernel_sizes=values["upsample_kernel_sizes"],
        n_fft=values["istft_params"]["n_fft"],
        hop_length=values["istft_params"]["hop_len"],
        resblock_kernel_sizes=values["resblock_kernel_sizes"],
        resblock_dilations=values["resblock_dilation_sizes"],
        source_resblock_kernel_sizes=values["source_resblock_kernel_sizes"],
        source_resblock_dilations=values["source_resblock_dilation_sizes"],
        leaky_slope=values["lrelu_slope"],
        audio_limit=values["audio_limit"],
        f0_channels=values["f0_predictor"]["cond_channels"],
    )
