"""Official names of the flow's weights, and ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mynah.config import (
    DiTConfig,
    FlowConfig,
    LookaheadEncoderConfig,
    TokenEncoderConfig,
    VelocityConfig,
)
from mynah.networks.checkpoint import KeyTable
from mynah.networks.keys_layers import relative_block, unet_stage, with_bias
from mynah.networks.keys_v1 import regulated_encoder_keys, resampling_unet_keys

_RESNET = {
    "mlp.1": "time",
    "block1.block.0": "conv1",
    "block1.block.2": "norm1",
    "block2.block.0": "conv2",
    "block2.block.2": "norm2",
    "res_conv": "skip",
}
_ENCODER = {
    "encoder.embed.out.0": "encoder.input.linear",
    "encoder.embed.out.1": "encoder.input.norm",
    "encoder.pre_lookahead_layer.conv1": "encoder.lookahead_conv",
    "encoder.pre_lookahead_layer.conv2": "encoder.lookahead_output",
    "encoder.up_layer.conv": "encoder.upsample",
    "encoder.up_embed.out.0": "encoder.up_input.linear",
    "encoder.up_embed.out.1": "encoder.up_input.norm",
    "encoder.after_norm": "encoder.norm",
    "encoder_proj": "encoder.projection",
}
_LOOKAHEAD = {
    "pre_lookahead_layer.conv1": "encoder.lookahead_conv",
    "pre_lookahead_layer.conv2": "encoder.lookahead_output",
}
_DIT = {
    "time_embed.time_mlp.0": "time_expand",
    "time_embed.time_mlp.2": "time_output",
    "input_embed.proj": "input",
    "input_embed.conv_pos_embed.conv1.0": "positions.conv1",
    "input_embed.conv_pos_embed.conv2.0": "positions.conv2",
    "norm_out.linear": "modulation.linear",
    "proj_out": "projection",
}
_DIT_BLOCK = {
    "attn_norm.linear": "modulation.linear",
    "attn.to_q": "query",
    "attn.to_k": "key",
    "attn.to_v": "value",
    "attn.to_out.0": "output",
    "ff.ff.0.0": "expand",
    "ff.ff.2": "contract",
}
_VELOCITY = {
    "time_mlp.linear_1": "time_expand",
    "time_mlp.linear_2": "time_output",
    "down_blocks.0.2": "down_conv",
    "up_blocks.0.2": "up_conv",
    "final_block.block.0": "final_conv",
    "final_block.block.2": "final_norm",
    "final_proj": "projection",
}


def flow_keys(config: FlowConfig) -> KeyTable:
    """Table official key -> key of ``mynah.networks.flow.Flow``, complete for these sizes."""
    table = {"input_embedding.weight": "encoder.embedding.weight"}
    table.update(with_bias({"spk_embed_affine_layer": "speaker_affine"}))
    table.update(_ENCODER_TABLES[config.encoder.kind](config.encoder))
    velocity = _VELOCITY_TABLES[config.velocity.kind](config.velocity)
    prefix = "decoder.estimator."
    table.update({prefix + key: "velocity." + value for key, value in velocity.items()})
    return KeyTable(table, {})


def _upsample_conformer(sizes: TokenEncoderConfig) -> dict[str, str]:
    table = with_bias(_ENCODER)
    for official, ours, count in (
        ("encoder.encoders", "encoder.blocks", sizes.num_blocks),
        ("encoder.up_encoders", "encoder.up_blocks", sizes.num_up_blocks),
    ):
        for i in range(count):
            table.update(relative_block(f"{official}.{i}.", f"{ours}.{i}."))
    return table


def _unet(sizes: VelocityConfig) -> dict[str, str]:
    return _causal_unet(sizes) if sizes.is_causal else resampling_unet_keys(sizes)


def _causal_unet(sizes: VelocityConfig) -> dict[str, str]:
    table = with_bias(_VELOCITY)
    stages = [("down_blocks.0.", "down."), ("up_blocks.0.", "up.")]
    stages += [(f"mid_blocks.{i}.", f"mid.{i}.") for i in range(sizes.num_mid_blocks)]
    for official, ours in stages:
        table.update(unet_stage(official, ours, _RESNET, sizes.transformers_per_block))
    return table


def _lookahead(sizes: LookaheadEncoderConfig) -> dict[str, str]:
    return with_bias(_LOOKAHEAD)


def _dit(sizes: DiTConfig) -> dict[str, str]:
    table = with_bias(_DIT) | {"rotary_embed.inv_freq": "frequencies"}
    for i in range(sizes.depth):
        table.update(with_bias(_DIT_BLOCK, f"transformer_blocks.{i}.", f"blocks.{i}."))
    return table


# The part that is given always fits its kind, which a table of functions cannot express.
_ENCODER_TABLES: Mapping[str, Callable[[Any], dict[str, str]]] = {
    "upsample_conformer": _upsample_conformer,
    "regulated_conformer": regulated_encoder_keys,
    "lookahead": _lookahead,
}
_VELOCITY_TABLES: Mapping[str, Callable[[Any], dict[str, str]]] = {
    "unet": _unet,
    "dit": _dit,
}
