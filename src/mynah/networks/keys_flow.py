"""Official names of the flow's weights, and ours."""

from __future__ import annotations

from mynah.config import FlowConfig
from mynah.networks.checkpoint import KeyTable

_CONFORMER = {
    "self_attn.linear_q": "attention.query",
    "self_attn.linear_k": "attention.key",
    "self_attn.linear_v": "attention.value",
    "self_attn.linear_out": "attention.output",
    "feed_forward.w_1": "expand",
    "feed_forward.w_2": "contract",
    "norm_mha": "norm_attention",
    "norm_ff": "norm_feed_forward",
}
_RESNET = {
    "mlp.1": "time",
    "block1.block.0": "conv1",
    "block1.block.2": "norm1",
    "block2.block.0": "conv2",
    "block2.block.2": "norm2",
    "res_conv": "skip",
}
_TRANSFORMER = {
    "norm1": "norm_attention",
    "attn1.to_out.0": "output",
    "norm3": "norm_feed_forward",
    "ff.net.0.proj": "expand",
    "ff.net.2": "contract",
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
    "spk_embed_affine_layer": "speaker_affine",
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
    table.update(_with_bias(_ENCODER))
    for official, ours, count in (
        ("encoder.encoders", "encoder.blocks", config.encoder.num_blocks),
        ("encoder.up_encoders", "encoder.up_blocks", config.encoder.num_up_blocks),
    ):
        for i in range(count):
            table.update(_conformer_block(f"{official}.{i}.", f"{ours}.{i}."))
    velocity = _with_bias(_VELOCITY)
    stages = [("down_blocks.0.", "down."), ("up_blocks.0.", "up.")]
    stages += [(f"mid_blocks.{i}.", f"mid.{i}.") for i in range(config.velocity.num_mid_blocks)]
    for official, ours in stages:
        velocity.update(_stage(official, ours, config.velocity.transformers_per_block))
    prefix = "decoder.estimator."
    table.update({prefix + key: "velocity." + value for key, value in velocity.items()})
    return KeyTable(table, {})


def _with_bias(table: dict[str, str], official: str = "", ours: str = "") -> dict[str, str]:
    return {
        f"{official}{key}.{kind}": f"{ours}{value}.{kind}"
        for key, value in table.items()
        for kind in ("weight", "bias")
    }


def _conformer_block(official: str, ours: str) -> dict[str, str]:
    return _with_bias(_CONFORMER, official, ours) | {
        f"{official}self_attn.linear_pos.weight": f"{ours}attention.position.weight",
        f"{official}self_attn.pos_bias_u": f"{ours}attention.content_bias",
        f"{official}self_attn.pos_bias_v": f"{ours}attention.position_bias",
    }


def _stage(official: str, ours: str, transformers: int) -> dict[str, str]:
    table = _with_bias(_RESNET, f"{official}0.", f"{ours}resnet.")
    for i in range(transformers):
        there, here = f"{official}1.{i}.", f"{ours}transformers.{i}."
        table.update(_with_bias(_TRANSFORMER, there, here))
        for letter, name in (("q", "query"), ("k", "key"), ("v", "value")):
            table[f"{there}attn1.to_{letter}.weight"] = f"{here}{name}.weight"
    return table
