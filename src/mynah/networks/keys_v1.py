"""Official names of CosyVoice 1's tensors, and ours, where later generations differ."""

from __future__ import annotations

from mynah.config import LMConfig, RegulatedEncoderConfig, VelocityConfig
from mynah.networks.checkpoint import KeyTable
from mynah.networks.keys_layers import relative_block, unet_stage, with_bias

_LM_TABLES = {
    "text_embedding.weight": "text_embedding.weight",
    "llm_embedding.weight": "marker_embedding.weight",
    "speech_embedding.weight": "speech_embedding.weight",
}
_LM = {
    "text_encoder.embed.out.0": "text_encoder.input.linear",
    "text_encoder.embed.out.1": "text_encoder.input.norm",
    "text_encoder.after_norm": "text_encoder.norm",
    "text_encoder_affine_layer": "text_encoder.projection",
    "llm.embed.out.0": "trunk.input.linear",
    "llm.embed.out.1": "trunk.input.norm",
    "llm.after_norm": "trunk.norm",
    "llm_decoder": "speech_head",
    "spk_embed_affine_layer": "speaker_affine",
}
_TRUNK_NORMS = {"norm1": "norm_attention", "norm2": "norm_feed_forward"}
_ENCODER = {
    "encoder.embed.out.0": "encoder.input.linear",
    "encoder.embed.out.1": "encoder.input.norm",
    "encoder.after_norm": "encoder.norm",
    "encoder_proj": "encoder.projection",
}
_UNET = {
    "time_mlp.linear_1": "time_expand",
    "time_mlp.linear_2": "time_output",
    "down_blocks.0.2.conv": "downsample",
    "down_blocks.1.2": "low_down_conv",
    "up_blocks.0.2.conv": "upsample",
    "up_blocks.1.2": "up_conv",
    "final_block.block.0": "final.conv",
    "final_block.block.1": "final.norm",
    "final_proj": "projection",
}
_RESNET = {
    "mlp.1": "time",
    "block1.block.0": "block1.conv",
    "block1.block.1": "block1.norm",
    "block2.block.0": "block2.conv",
    "block2.block.1": "block2.norm",
    "res_conv": "skip",
}
_STAGES = {
    "down_blocks.0.": "down.",
    "down_blocks.1.": "low_down.",
    "up_blocks.0.": "low_up.",
    "up_blocks.1.": "up.",
}
_LAYERS_PER_CONV = 3  # of the official regulator: convolution, norm, activation


def relative_lm_keys(config: LMConfig) -> KeyTable:
    """Key table of a language model with a relative trunk.

    Raises:
        ValueError: if ``config`` has no text encoder.
    """
    if config.text_encoder is None:
        raise ValueError("a relative trunk needs a text encoder")
    table = _LM_TABLES | with_bias(_LM)
    for i in range(config.text_encoder.num_blocks):
        table.update(relative_block(f"text_encoder.encoders.{i}.", f"text_encoder.blocks.{i}."))
    for i in range(config.num_layers):
        table.update(relative_block(f"llm.encoders.{i}.", f"trunk.layers.{i}.", _TRUNK_NORMS))
    return KeyTable(table, {})


def regulated_encoder_keys(sizes: RegulatedEncoderConfig) -> dict[str, str]:
    """Names of ``RegulatedEncoder`` inside the flow."""
    table = with_bias(_ENCODER)
    for i in range(sizes.num_blocks):
        table.update(relative_block(f"encoder.encoders.{i}.", f"encoder.blocks.{i}."))
    regulator, ours = "length_regulator.model", "encoder.regulator"
    layers = {f"{regulator}.{_LAYERS_PER_CONV * sizes.num_regulator_convs}": f"{ours}.output"}
    for i in range(sizes.num_regulator_convs):
        layers[f"{regulator}.{_LAYERS_PER_CONV * i}"] = f"{ours}.convs.{i}"
        layers[f"{regulator}.{_LAYERS_PER_CONV * i + 1}"] = f"{ours}.norms.{i}"
    return table | with_bias(layers)


def resampling_unet_keys(sizes: VelocityConfig) -> dict[str, str]:
    """Names of ``ResamplingUNet``, without prefixes."""
    stages = _STAGES | {f"mid_blocks.{i}.": f"mid.{i}." for i in range(sizes.num_mid_blocks)}
    table = with_bias(_UNET)
    for official, ours in stages.items():
        table.update(unet_stage(official, ours, _RESNET, sizes.transformers_per_block))
    return table
