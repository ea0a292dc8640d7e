"""Names of the language model's tensors: official CosyVoice 2 and 3 -> ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mynah.config import LMConfig
from mynah.networks.checkpoint import KeyTable
from mynah.networks.keys_v1 import relative_lm_keys

_TRUNK = "llm.model.model"

_OUTER = {
    "speech_embedding.weight": "speech_embedding.weight",
    "llm_decoder.weight": "speech_head.weight",
    f"{_TRUNK}.embed_tokens.weight": "text_embedding.weight",
    f"{_TRUNK}.norm.weight": "trunk.norm.weight",
}
_LAYER = {
    "input_layernorm.weight": "attention_norm.weight",
    "post_attention_layernorm.weight": "feed_forward_norm.weight",
    "self_attn.q_proj.weight": "attention.query.weight",
    "self_attn.q_proj.bias": "attention.query.bias",
    "self_attn.k_proj.weight": "attention.key.weight",
    "self_attn.k_proj.bias": "attention.key.bias",
    "self_attn.v_proj.weight": "attention.value.weight",
    "self_attn.v_proj.bias": "attention.value.bias",
    "self_attn.o_proj.weight": "attention.output.weight",
    "mlp.gate_proj.weight": "feed_forward.gate.weight",
    "mlp.up_proj.weight": "feed_forward.up.weight",
    "mlp.down_proj.weight": "feed_forward.down.weight",
}


def lm_keys(config: LMConfig) -> KeyTable:
    """Key table of a language model with the layers and tables that ``config`` says."""
    return _TRUNKS[config.trunk](config)


def _qwen2_keys(config: LMConfig) -> KeyTable:
    outer = dict(_OUTER)
    if config.marker_offsets is None:
        outer["llm_embedding.weight"] = "marker_embedding.weight"
    if config.has_head_bias:
        outer["llm_decoder.bias"] = "speech_head.bias"
    layers = {
        f"{_TRUNK}.layers.{index}.{theirs}": f"trunk.layers.{index}.{ours}"
        for index in range(config.num_layers)
        for theirs, ours in _LAYER.items()
    }
    # The text head of Qwen2 is tied to its embedding and never used.
    tied = {"llm.model.lm_head.weight": f"{_TRUNK}.embed_tokens.weight"}
    return KeyTable(outer | layers, tied)


_TRUNKS: Mapping[str, Callable[[LMConfig], KeyTable]] = {
    "qwen2": _qwen2_keys,
    "relative": relative_lm_keys,
}
