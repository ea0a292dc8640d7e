"""Names and shapes of the official tensors, and what kind of values each one gets.

Written from the checkpoints' key lists, not through this project's key tables, so that tests
compare the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Kind = Literal[
    "matrix", "embedding", "bias", "norm", "alpha", "gain", "direction", "position", "frequencies"
]


@dataclass(frozen=True)
class Spec:
    """One tensor of a checkpoint."""

    key: str
    shape: tuple[int, ...]
    kind: Kind


Specs: TypeAlias = Iterator[Spec]


def linear(key: str, outputs: int, inputs: int, *rest: int, bias: bool = True) -> Specs:
    """A matrix (or the kernel of a convolution), and its bias."""
    yield Spec(f"{key}.weight", (outputs, inputs, *rest), "matrix")
    if bias:
        yield Spec(f"{key}.bias", (outputs,), "bias")


def norm(key: str, width: int, *, bias: bool = True) -> Specs:
    """Layer, group or RMS norm."""
    yield Spec(f"{key}.weight", (width,), "norm")
    if bias:
        yield Spec(f"{key}.bias", (width,), "bias")


def embedding(key: str, rows: int, width: int) -> Specs:
    """A table."""
    yield Spec(f"{key}.weight", (rows, width), "embedding")


# language models -----------------------------------------------------------------------------


def language_model(values: Mapping[str, Any]) -> Specs:
    """``llm.pt``."""
    return _relative_model(values) if values["version"] == 1 else _qwen_model(values)


def _relative_model(values: Mapping[str, Any]) -> Specs:
    lm = values["llm"]
    text, trunk, speech = lm["text_encoder"], lm["llm"], lm["speech_token_size"]
    width = lm["llm_input_size"]
    yield from embedding("text_embedding", lm["text_token_size"], text["input_size"])
    yield from _espnet("text_encoder", text, ("norm_mha", "norm_ff"))
    yield from linear("text_encoder_affine_layer", width, text["output_size"])
    yield from embedding("llm_embedding", 2, width)
    yield from _espnet("llm", trunk, ("norm1", "norm2"))
    yield from linear("llm_decoder", speech + 1, lm["llm_output_size"])
    yield from embedding("speech_embedding", speech, width)
    yield from linear("spk_embed_affine_layer", width, lm["spk_embed_dim"])


def _qwen_model(values: Mapping[str, Any]) -> Specs:
    qwen, version = values["qwen"], values["version"]
    rows = values["speech_vocabulary"] + values["control_tokens"]
    width, trunk = qwen["hidden_size"], "llm.model.model"
    head = width // qwen["num_attention_heads"]
    narrow = head * qwen["num_key_value_heads"]
    if version == 2:
        yield from embedding("llm_embedding", 2, width)
    yield from embedding(f"{trunk}.embed_tokens", qwen["vocab_size"], width)
    for index in range(qwen["num_hidden_layers"]):
        layer = f"{trunk}.layers.{index}"
        yield from linear(f"{layer}.self_attn.q_proj", width, width)
        yield from linear(f"{layer}.self_attn.k_proj", narrow, width)
        yield from linear(f"{layer}.self_attn.v_proj", narrow, width)
        yield from linear(f"{layer}.self_attn.o_proj", width, width, bias=False)
        for name in ("gate_proj", "up_proj"):
            yield from linear(f"{layer}.mlp.{name}", qwen["intermediate_size"], width, bias=False)
        yield from linear(f"{layer}.mlp.down_proj", width, qwen["intermediate_size"], bias=False)
        yield from norm(f"{layer}.input_layernorm", width, bias=False)
        yield from norm(f"{layer}.post_attention_layernorm", width, bias=False)
    yield from norm(f"{trunk}.norm", width, bias=False)
    yield from embedding("llm.model.lm_head", qwen["vocab_size"], width)
    yield from linear("llm_decoder", rows, width, bias=version == 2)
    yield from embedding("speech_embedding", rows, width)


def _espnet(key: str, values: Mapping[str, Any], norms: tuple[str, str]) -> Specs:
    """Layers with relative positions, input layer and final norm included."""
    width = values["output_size"]
    yield from linear(f"{key}.embed.out.0", width, values["input_size"])
    yield from norm(f"{key}.embed.out.1", width)
    yield from norm(f"{key}.after_norm", width)
    yield from _espnet_layers(f"{key}.encoders", values, values["num_blocks"], norms)


def _espnet_layers(
    key: str, values: Mapping[str, Any], count: int, norms: tuple[str, str]
) -> Specs:
    width, heads = values["output_size"], values["attention_heads"]
    for index in range(count):
        layer = f"{key}.{index}"
        for name in ("pos_bias_u", "pos_bias_v"):
            yield Spec(f"{layer}.self_attn.{name}", (heads, width // heads), "position")
        for name in ("q", "k", "v", "out"):
            yield from linear(f"{layer}.self_attn.linear_{name}", width, width)
        yield from linear(f"{layer}.self_attn.linear_pos", width, width, bias=False)
        yield from linear(f"{layer}.feed_forward.w_1", values["linear_units"], width)
        yield from linear(f"{layer}.feed_forward.w_2", width, values["linear_units"])
        for name in norms:
            yield from norm(f"{layer}.{name}", width)


# flows ---------------------------------------------------------------------------------------


def flow(values: Mapping[str, Any]) -> Specs:
    """``flow.pt``."""
    version, part = values["version"], values["flow"]
    mels, estimator = part["output_size"], part["decoder"]["estimator"]
    yield from embedding("input_embedding", part["vocab_size"], part["input_size"])
    yield from linear("spk_embed_affine_layer", mels, part["spk_embed_dim"])
    if version == 3:
        layer = part["pre_lookahead_layer"]
        yield from _lookahead(
            "pre_lookahead_layer",
            layer["in_channels"],
            layer["channels"],
            part["pre_lookahead_len"],
        )
        yield from _dit("decoder.estimator", estimator)
        return
    encoder = part["encoder"]
    width = encoder["output_size"]
    yield from _espnet("encoder", encoder, ("norm_mha", "norm_ff"))
    yield from linear("encoder_proj", mels, width)
    if version == 2:
        ahead = part["pre_lookahead_len"]
        yield from _lookahead("encoder.pre_lookahead_layer", width, width, ahead)
        yield from linear("encoder.up_layer.conv", width, width, 5)
        yield from linear("encoder.up_embed.out.0", width, width)
        yield from norm("encoder.up_embed.out.1", width)
        # The number of upper layers is written into the official class.
        yield from _espnet_layers("encoder.up_encoders", encoder, 4, ("norm_mha", "norm_ff"))
    else:
        stages = len(part["length_regulator"]["sampling_ratios"])
        for stage in range(stages):
            yield from linear(f"length_regulator.model.{3 * stage}", mels, mels, 3)
            yield from norm(f"length_regulator.model.{3 * stage + 1}", mels)
        yield from linear(f"length_regulator.model.{3 * stages}", mels, mels, 1)
    yield from _unet("decoder.estimator", estimator, causal=version == 2)


def _lookahead(key: str, width: int, channels: int, ahead: int) -> Specs:
    yield from linear(f"{key}.conv1", channels, width, ahead + 1)
    yield from linear(f"{key}.conv2", width, channels, 3)


def _unet(key: str, values: Mapping[str, Any], *, causal: bool) -> Specs:
    inputs, channels = values["in_channels"], values["channels"]
    width, levels, time = channels[0], len(channels), 4 * channels[0]
    yield from linear(f"{key}.time_mlp.linear_1", time, inputs)
    yield from linear(f"{key}.time_mlp.linear_2", time, time)
    for level in range(levels):
        block = f"{key}.down_blocks.{level}"
        last = level == levels - 1
        yield from _stage(block, inputs if level == 0 else width, values, causal)
        yield from linear(f"{block}.2{'' if last else '.conv'}", width, width, 3)
    for index in range(values["num_mid_blocks"]):
        yield from _stage(f"{key}.mid_blocks.{index}", width, values, causal)
    for level in range(levels):
        block = f"{key}.up_blocks.{level}"
        last = level == levels - 1
        yield from _stage(block, 2 * width, values, causal)
        yield from linear(f"{block}.2{'' if last else '.conv'}", width, width, 3 if last else 4)
    yield from _conv_block(f"{key}.final_block", width, width, causal)
    yield from linear(f"{key}.final_proj", values["out_channels"], width, 1)


def _stage(key: str, inputs: int, values: Mapping[str, Any], causal: bool) -> Specs:
    width = values["channels"][0]
    inner = values["num_heads"] * values["attention_head_dim"]
    yield from linear(f"{key}.0.mlp.1", width, 4 * width)
    yield from _conv_block(f"{key}.0.block1", width, inputs, causal)
    yield from _conv_block(f"{key}.0.block2", width, width, causal)
    yield from linear(f"{key}.0.res_conv", width, inputs, 1)
    for index in range(values["n_blocks"]):
        block = f"{key}.1.{index}"
        yield from norm(f"{block}.norm1", width)
        for name in ("q", "k", "v"):
            yield from linear(f"{block}.attn1.to_{name}", inner, width, bias=False)
        yield from linear(f"{block}.attn1.to_out.0", width, inner)
        yield from norm(f"{block}.norm3", width)
        yield from linear(f"{block}.ff.net.0.proj", 4 * width, width)
        yield from linear(f"{block}.ff.net.2", width, 4 * width)


def _conv_block(key: str, width: int, inputs: int, causal: bool) -> Specs:
    yield from linear(f"{key}.block.0", width, inputs, 3)
    # The causal block has a transposition between convolution and norm.
    yield from norm(f"{key}.block.{2 if causal else 1}", width)


def _dit(key: str, values: Mapping[str, Any]) -> Specs:
    dim, mels = values["dim"], values["mel_dim"]
    inner, forward = values["heads"] * values["dim_head"], values["ff_mult"] * dim
    yield from linear(f"{key}.time_embed.time_mlp.0", dim, 256)
    yield from linear(f"{key}.time_embed.time_mlp.2", dim, dim)
    inputs = 2 * mels + values["mu_dim"] + values["spk_dim"]
    yield from linear(f"{key}.input_embed.proj", dim, inputs)
    for name in ("conv1", "conv2"):
        conv = f"{key}.input_embed.conv_pos_embed.{name}.0"
        yield from linear(conv, dim, dim // 16, 31)
    yield Spec(f"{key}.rotary_embed.inv_freq", (values["dim_head"] // 2,), "frequencies")
    for index in range(values["depth"]):
        block = f"{key}.transformer_blocks.{index}"
        yield from linear(f"{block}.attn_norm.linear", 6 * dim, dim)
        for name in ("q", "k", "v"):
            yield from linear(f"{block}.attn.to_{name}", inner, dim)
        yield from linear(f"{block}.attn.to_out.0", dim, inner)
        yield from linear(f"{block}.ff.ff.0.0", forward, dim)
        yield from linear(f"{block}.ff.ff.2", dim, forward)
    yield from linear(f"{key}.norm_out.linear", 2 * dim, dim)
    yield from linear(f"{key}.proj_out", values["out_channels"], dim)


# vocoders ------------------------------------------------------------------------------------


def vocoder(values: Mapping[str, Any]) -> Specs:
    """``hift.pt``, weight norm in the spelling of current torch."""
    part, causal = values["hift"], values["version"] == 3
    width, harmonics = part["base_channels"], part["nb_harmonics"] + 1
    spectrum = part["istft_params"]["n_fft"] + 2
    yield from linear("m_source.l_linear", 1, harmonics)
    kernel = part["conv_pre_look_right"] + 1 if causal else 7
    yield from _normed("conv_pre", width, part["in_channels"], kernel)
    rates, stages = part["upsample_rates"], len(part["upsample_rates"])
    for stage in range(stages):
        inputs, outputs = width >> stage, width >> (stage + 1)
        kernel = part["upsample_kernel_sizes"][stage]
        if causal:
            yield from _normed(f"ups.{stage}", outputs, inputs, kernel)
        else:  # transposed: input channels first
            yield Spec(f"ups.{stage}.bias", (outputs,), "bias")
            stem = f"ups.{stage}.parametrizations.weight.original"
            yield Spec(f"{stem}0", (inputs, 1, 1), "gain")
            yield Spec(f"{stem}1", (inputs, outputs, kernel), "direction")
        stride = 1
        for rate in rates[stage + 1 :]:
            stride *= rate
        yield from linear(
            f"source_downs.{stage}", outputs, spectrum, 1 if stride == 1 else 2 * stride
        )
        yield from _block(
            f"source_resblocks.{stage}",
            outputs,
            part["source_resblock_kernel_sizes"][stage],
            len(part["source_resblock_dilation_sizes"][stage]),
        )
        kernels = part["resblock_kernel_sizes"]
        for index, size in enumerate(kernels):
            units = len(part["resblock_dilation_sizes"][index])
            yield from _block(f"resblocks.{stage * len(kernels) + index}", outputs, size, units)
    yield from _normed("conv_post", spectrum, width >> stages, 7)
    f0 = part["f0_predictor"]
    channels = f0["cond_channels"]
    for index in range(5):
        inputs = f0["in_channels"] if index == 0 else channels
        kernel = 4 if causal and index == 0 else 3
        yield from _normed(f"f0_predictor.condnet.{2 * index}", channels, inputs, kernel)
    yield from linear("f0_predictor.classifier", f0["num_class"], channels)


def _block(key: str, width: int, kernel: int, units: int) -> Specs:
    for unit in range(units):
        for part in (1, 2):
            yield from _normed(f"{key}.convs{part}.{unit}", width, width, kernel)
            yield Spec(f"{key}.activations{part}.{unit}.alpha", (width,), "alpha")


def _normed(key: str, outputs: int, inputs: int, kernel: int) -> Specs:
    yield Spec(f"{key}.bias", (outputs,), "bias")
    yield Spec(f"{key}.parametrizations.weight.original0", (outputs, 1, 1), "gain")
    yield Spec(f"{key}.parametrizations.weight.original1", (outputs, inputs, kernel), "direction")
