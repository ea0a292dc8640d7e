"""Constructor values of the official configurations, read as ours.

The official files use the names of the original code's constructors. What they hold that has no
place here (dropout, training losses) is ignored on purpose. What is fixed in the original code and
in no file stands here, by generation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mynah.config import (
    DiTConfig,
    FlowConfig,
    LMConfig,
    LookaheadEncoderConfig,
    TokenEncoderConfig,
    VelocityConfig,
    VocoderConfig,
)
from mynah.errors import ModelFormatError
from mynah.networks import official_v1
from mynah.networks.vocoder_layout import f0_reaches

# What no file of a generation says about its language model.
_LM_RULES: Mapping[int, Mapping[str, Any]] = {
    2: {"num_control_tokens": 3},
    3: {
        "num_control_tokens": 200,
        "eos_offset": 1,
        "fill_offset": 3,
        "marker_offsets": (0, 2),
        "has_head_bias": False,
        "silent_tokens": (1, 2, 28, 29, 55, 248, 494, 2241, 2242, 2322, 2323),
    },
}
# The same about its vocoder.
_VOCODER_RULES: Mapping[int, Mapping[str, Any]] = {
    1: {"sine_phase": "sample"},
    2: {},
    3: {
        "sine_phase": "frame_hold",
        "sine_noise": "uniform",
        "is_causal": True,
        "f0_lookahead_frames": 3,
        "f0_float64": True,
    },
}
# Mel frames of the flow's noise, which is drawn once, for 300 seconds.
_NOISE_FRAMES = 15000
# The official encoder class hard-codes its upper half; no file holds this number.
_UP_BLOCKS = 4


def model_config_from_golden(
    config: Mapping[str, Any],
) -> tuple[LMConfig, FlowConfig, VocoderConfig]:
    """Translate a dict of official constructor values (``llm``, ``flow``, ``hift``).

    Raises:
        ModelFormatError: if a value is missing, or this generation is not supported.
    """
    version = config.get("version", 0)
    if version not in _LM_READERS:
        raise ModelFormatError(
            f"official configuration of version {version} is not supported",
            hint=f"this version of mynah reads the generations {', '.join(map(str, _LM_READERS))}",
        )
    try:
        flow = flow_config(config["flow"], version)
        vocoder = vocoder_config(config["hift"], version)
        if vocoder.sine_noise == "uniform":
            offset = _numbers_before_sine_noise(flow, vocoder)
            vocoder = vocoder.model_copy(update={"sine_noise_offset": offset})
        return lm_config(config["llm"], version), flow, vocoder
    except (KeyError, TypeError) as error:
        raise ModelFormatError(f"official configuration: missing or wrong value {error}") from error


def lm_config(values: Mapping[str, Any], version: int = 2) -> LMConfig:
    """Translate the language model's values of a generation."""
    return _LM_READERS[version](values)


def _qwen2_lm(values: Mapping[str, Any], rules: Mapping[str, Any]) -> LMConfig:
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
        text_speech_mix=values["mix_ratio"],
        **rules,
    )


_LM_READERS: Mapping[int, Callable[[Mapping[str, Any]], LMConfig]] = {
    1: official_v1.lm_config,
    **{version: partial(_qwen2_lm, rules=rules) for version, rules in _LM_RULES.items()},
}


def flow_config(values: Mapping[str, Any], version: int = 2) -> FlowConfig:
    """Translate the flow's values of a generation."""
    parts = _FLOW_PARTS[version](values)
    return FlowConfig(
        speech_vocab_size=values["vocab_size"],
        input_size=values["input_size"],
        n_mels=values["output_size"],
        speaker_dim=values["spk_embed_dim"],
        cfg_rate=values["decoder"]["cfm_params"]["inference_cfg_rate"],
        **parts,
    )


def _flow_parts_2(values: Mapping[str, Any]) -> dict[str, Any]:
    encoder, estimator = values["encoder"], values["decoder"]["estimator"]
    return {
        "token_mel_ratio": values["token_mel_ratio"],
        "encoder": TokenEncoderConfig(
            dim=encoder["output_size"],
            num_heads=encoder["attention_heads"],
            feed_forward=encoder["linear_units"],
            num_blocks=encoder["num_blocks"],
            num_up_blocks=_UP_BLOCKS,
            lookahead_tokens=values["pre_lookahead_len"],
            chunk_tokens=encoder["static_chunk_size"],
        ),
        "velocity": VelocityConfig(
            channels=estimator["channels"][0],
            num_heads=estimator["num_heads"],
            head_dim=estimator["attention_head_dim"],
            transformers_per_block=estimator["n_blocks"],
            num_mid_blocks=estimator["num_mid_blocks"],
        ),
    }


def _flow_parts_3(values: Mapping[str, Any]) -> dict[str, Any]:
    estimator, ratio = values["decoder"]["estimator"], values["token_mel_ratio"]
    return {
        "token_mel_ratio": ratio,
        "encoder": LookaheadEncoderConfig(
            kind="lookahead",
            channels=values["pre_lookahead_layer"]["channels"],
            lookahead_tokens=values["pre_lookahead_len"],
            chunk_tokens=estimator["static_chunk_size"] // ratio,
        ),
        "velocity": DiTConfig(
            kind="dit",
            dim=estimator["dim"],
            depth=estimator["depth"],
            num_heads=estimator["heads"],
            head_dim=estimator["dim_head"],
            feed_forward_factor=estimator["ff_mult"],
        ),
    }


_FLOW_PARTS: Mapping[int, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    1: official_v1.flow_parts,
    2: _flow_parts_2,
    3: _flow_parts_3,
}


def vocoder_config(values: Mapping[str, Any], version: int = 2) -> VocoderConfig:
    """Translate the vocoder's values of a generation."""
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
        lookahead_frames=values.get("conv_pre_look_right", 0),
        **_VOCODER_RULES[version],
    )


def _numbers_before_sine_noise(flow: FlowConfig, vocoder: VocoderConfig) -> int:
    """Random numbers that the official program draws from seed 0 up to the vocoder's noise.

    In this order: the flow's noise, its embedding and speaker projection, the F0 predictor, the
    sines' first phases. Every size is a multiple of 16, so each value takes one number.
    """
    speaker = (flow.speaker_dim + 1) * flow.n_mels
    drawn = flow.n_mels * _NOISE_FRAMES + flow.speech_vocab_size * flow.input_size + speaker
    channels = vocoder.n_mels
    for left, right in f0_reaches(vocoder):
        drawn += (channels * (left + 1 + right) + 1) * vocoder.f0_channels
        channels = vocoder.f0_channels
    return drawn + channels + 1 + vocoder.num_harmonics + 1
