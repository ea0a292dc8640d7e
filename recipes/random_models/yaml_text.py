"""The yaml file of a release: constructor values under HyperPyYAML's tags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

NAMES = {1: "cosyvoice.yaml", 2: "cosyvoice2.yaml", 3: "cosyvoice3.yaml"}

_ENCODER = "cosyvoice.transformer.encoder"
_CLASSES: dict[int, dict[str, str]] = {
    1: {
        "llm": "cosyvoice.llm.llm.TransformerLM",
        "llm.text_encoder": f"{_ENCODER}.ConformerEncoder",
        "llm.llm": f"{_ENCODER}.TransformerEncoder",
        "flow": "cosyvoice.flow.flow.MaskedDiffWithXvec",
        "flow.encoder": f"{_ENCODER}.ConformerEncoder",
        "flow.length_regulator": "cosyvoice.flow.length_regulator.InterpolateRegulator",
        "flow.decoder": "cosyvoice.flow.flow_matching.ConditionalCFM",
        "flow.decoder.estimator": "cosyvoice.flow.decoder.ConditionalDecoder",
        "hift": "cosyvoice.hifigan.generator.HiFTGenerator",
        "hift.f0_predictor": "cosyvoice.hifigan.f0_predictor.ConvRNNF0Predictor",
    },
    2: {
        "llm": "cosyvoice.llm.llm.Qwen2LM",
        "llm.llm": "cosyvoice.llm.llm.Qwen2Encoder",
        "flow": "cosyvoice.flow.flow.CausalMaskedDiffWithXvec",
        "flow.encoder": "cosyvoice.transformer.upsample_encoder.UpsampleConformerEncoder",
        "flow.decoder": "cosyvoice.flow.flow_matching.CausalConditionalCFM",
        "flow.decoder.estimator": "cosyvoice.flow.decoder.CausalConditionalDecoder",
        "hift": "cosyvoice.hifigan.generator.HiFTGenerator",
        "hift.f0_predictor": "cosyvoice.hifigan.f0_predictor.ConvRNNF0Predictor",
    },
    3: {
        "llm": "cosyvoice.llm.llm.CosyVoice3LM",
        "llm.llm": "cosyvoice.llm.llm.Qwen2Encoder",
        "flow": "cosyvoice.flow.flow.CausalMaskedDiffWithDiT",
        "flow.pre_lookahead_layer": "cosyvoice.transformer.upsample_encoder.PreLookaheadLayer",
        "flow.decoder": "cosyvoice.flow.flow_matching.CausalConditionalCFM",
        "flow.decoder.estimator": "cosyvoice.flow.DiT.dit.DiT",
        "hift": "cosyvoice.hifigan.generator.CausalHiFTGenerator",
        "hift.f0_predictor": "cosyvoice.hifigan.f0_predictor.CausalConvRNNF0Predictor",
    },
}
# Values that the releases write once, at the top.
_SHARED = {
    "llm.llm_input_size": "<llm_input_size>",
    "llm.llm_output_size": "<llm_output_size>",
    "llm.spk_embed_dim": "<spk_embed_dim>",
    "flow.spk_embed_dim": "<spk_embed_dim>",
    "flow.token_mel_ratio": "<token_mel_ratio>",
    "flow.encoder.static_chunk_size": "<chunk_size>",
    "flow.decoder.estimator.static_chunk_size": "<chunk_size> * <token_mel_ratio>",
    "flow.decoder.estimator.num_decoding_left_chunks": "<num_decoding_left_chunks>",
    "hift.sampling_rate": "<sample_rate>",
    "feat_extractor.sampling_rate": "<sample_rate>",
}


def yaml_text(values: Mapping[str, Any]) -> str:
    """Write the whole file."""
    version = values["version"]
    shared = {
        "sample_rate": values["sample_rate"],
        "llm_input_size": values["llm"]["llm_input_size"],
        "llm_output_size": values["llm"]["llm_output_size"],
        "spk_embed_dim": values["flow"]["spk_embed_dim"],
    }
    if version > 1:
        shared |= {
            "qwen_pretrain_path": "",
            "token_frame_rate": values["flow"]["input_frame_rate"],
            "token_mel_ratio": values["flow"]["token_mel_ratio"],
            "chunk_size": 25,
            "num_decoding_left_chunks": -1,
        }
    lines = ["# Random weights in the official format; made by recipes/random_models."]
    lines.append("__set_seed1: !apply:random.seed [1986]")
    lines.append("__set_seed3: !apply:torch.manual_seed [1986]")
    lines += [f"{key}: {_scalar(value)}" for key, value in shared.items()]
    llm = dict(values["llm"])
    sampling = llm.pop("sampling")
    if version > 1:
        llm["llm"] = {"pretrain_path": "!ref <qwen_pretrain_path>"}
    lines += _section("llm", llm, version, shared)
    lines += ["    sampling: !name:cosyvoice.utils.common.ras_sampling"]
    lines += [f"        {key}: {_scalar(value)}" for key, value in sampling.items()]
    for name in ("flow", "hift"):
        lines += _section(name, values[name], version, shared)
    lines += ["", "feat_extractor: !name:matcha.utils.audio.mel_spectrogram"]
    lines += _values("feat_extractor", values["mel"], version, shared, 1)
    lines += _text_side(version)
    return "\n".join(lines) + "\n"


def _text_side(version: int) -> list[str]:
    lines = ["", "# text and data"]
    if version == 1:
        lines += [
            "get_tokenizer: !name:whisper.tokenizer.get_tokenizer",
            "    multilingual: True",
            "    num_languages: 100",
            "    language: 'en'",
            "    task: 'transcribe'",
        ]
    else:
        lines += [
            "get_tokenizer: !name:cosyvoice.tokenizer.tokenizer.get_qwen_tokenizer",
            "    token_path: !ref <qwen_pretrain_path>",
            "    skip_special_tokens: True",
        ]
    lines += ["    version: cosyvoice3"] if version == 3 else []
    return [
        *lines,
        "allowed_special: 'all'",
        "tokenize: !name:cosyvoice.dataset.processor.tokenize",
        "    get_tokenizer: !ref <get_tokenizer>",
        "    allowed_special: !ref <allowed_special>",
        "data_pipeline: [",
        "    !ref <tokenize>,",
        "]",
    ]


def _section(
    name: str, values: Mapping[str, Any], version: int, shared: Mapping[str, Any]
) -> list[str]:
    return ["", f"{name}: !new:{_CLASSES[version][name]}", *_values(name, values, version, shared)]


def _values(
    path: str, values: Mapping[str, Any], version: int, shared: Mapping[str, Any], depth: int = 1
) -> list[str]:
    lines, margin = [], "    " * depth
    for key, value in values.items():
        here = f"{path}.{key}"
        reference = _SHARED.get(here)
        if reference is not None and (" " in reference or reference.strip("<>") in shared):
            lines.append(f"{margin}{key}: !ref {reference}")
        elif key == "cfm_params":
            lines.append(f"{margin}{key}: !new:omegaconf.DictConfig")
            lines.append(f"{margin}    content:")
            lines += _values(here, value, version, shared, depth + 2)
        elif isinstance(value, Mapping):
            kind = _CLASSES[version].get(here)
            lines.append(f"{margin}{key}:" + (f" !new:{kind}" if kind else ""))
            lines += _values(here, value, version, shared, depth + 1)
        else:
            lines.append(f"{margin}{key}: {_scalar(value)}")
    return lines


def _scalar(value: object) -> str:
    """As people write it: ``True``, ``'mel'``, ``[1, 2]``, ``null``."""
    if isinstance(value, str):
        return value if value.startswith("!") else f"'{value}'"
    if value is None or isinstance(value, list):
        return json.dumps(value)
    return str(value)
