"""Official names of layers that several networks share, and ours."""

from __future__ import annotations

from collections.abc import Mapping

_RELATIVE_ATTENTION = {
    "self_attn.linear_q": "attention.query",
    "self_attn.linear_k": "attention.key",
    "self_attn.linear_v": "attention.value",
    "self_attn.linear_out": "attention.output",
}
_FEED_FORWARD = {"feed_forward.w_1": "expand", "feed_forward.w_2": "contract"}
CONFORMER_NORMS = {"norm_mha": "norm_attention", "norm_ff": "norm_feed_forward"}
_TRANSFORMER = {
    "norm1": "norm_attention",
    "attn1.to_out.0": "output",
    "norm3": "norm_feed_forward",
    "ff.net.0.proj": "expand",
    "ff.net.2": "contract",
}


def with_bias(table: Mapping[str, str], official: str = "", ours: str = "") -> dict[str, str]:
    """Weight and bias of every layer of ``table``, with prefixes before both names."""
    return {
        f"{official}{key}.{kind}": f"{ours}{value}.{kind}"
        for key, value in table.items()
        for kind in ("weight", "bias")
    }


def relative_block(
    official: str, ours: str, norms: Mapping[str, str] = CONFORMER_NORMS
) -> dict[str, str]:
    """One layer with relative positions; ``norms`` names its two layer norms."""
    layers = {**_RELATIVE_ATTENTION, **_FEED_FORWARD, **norms}
    return with_bias(layers, official, ours) | {
        f"{official}self_attn.linear_pos.weight": f"{ours}attention.position.weight",
        f"{official}self_attn.pos_bias_u": f"{ours}attention.content_bias",
        f"{official}self_attn.pos_bias_v": f"{ours}attention.position_bias",
    }


def unet_stage(
    official: str, ours: str, resnet: Mapping[str, str], transformers: int
) -> dict[str, str]:
    """One stage of a U-Net: a resnet block, whose layers ``resnet`` names, and transformers."""
    table = with_bias(resnet, f"{official}0.", f"{ours}resnet.")
    for i in range(transformers):
        there, here = f"{official}1.{i}.", f"{ours}transformers.{i}."
        table.update(with_bias(_TRANSFORMER, there, here))
        for letter, name in (("q", "query"), ("k", "key"), ("v", "value")):
            table[f"{there}attn1.to_{letter}.weight"] = f"{here}{name}.weight"
    return table
