"""Names of the language model's tensors: official CosyVoice2 -> ours."""

from __future__ import annotations

from mynah.config import LMConfig
from mynah.networks.checkpoint import KeyTable

_TRUNK = "llm.model.model"

_OUTER = {
    "llm_embedding.weight": "marker_embedding.weight",
    "speech_embedding.weight": "speech_embedding.weight",
    "llm_decoder.weight": "speech_head.weight",
    "llm_decoder.bias": "speech_head.bias",
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
    """Key table of a language model with as many layers as ``config`` says."""
    layers = {
        f"{_TRUNK}.layers.{index}.{theirs}": f"trunk.layers.{index}.{ours}"
        for index in range(config.num_layers)
        for theirs, ours in _LAYER.items()
    }
    # The text head of Qwen2 is tied to its embedding and never used.
    tied = {"llm.model.lm_head.weight": f"{_TRUNK}.embed_tokens.weight"}
    return KeyTable(_OUTER | layers, tied)
