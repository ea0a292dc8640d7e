"""Weights of the vocoder's graphs, by the names of the modules they belong to.

``mynah.export.vocoder`` writes these names.
"""

from __future__ import annotations

from pathlib import Path

from mynah.backends.native.traced_weights import TracedWeights
from mynah.config import VocoderConfig
from mynah.networks.vocoder_layout import F0_CONVS, f0_reaches

DECODE_GRAPH, F0_GRAPH = "vocoder_decode.onnx", "vocoder_f0.onnx"


def decode_weights(folder: Path, config: VocoderConfig) -> TracedWeights:
    """Weights of the decoder; raises as ``TracedWeights``."""
    return TracedWeights(folder / DECODE_GRAPH, numbered_decode_names(config))


def f0_weights(folder: Path, config: VocoderConfig) -> TracedWeights:
    """Weights of the F0 predictor; raises as ``TracedWeights``."""
    return TracedWeights(folder / F0_GRAPH, numbered_f0_names(config))


def numbered_decode_names(config: VocoderConfig) -> dict[str, list[str]]:
    """Operator -> names of the weights that the tracing exporter numbers, in their order."""
    stages = range(len(config.upsample_rates))
    ups = [f"stages.{stage}.up.bias" for stage in stages] if config.is_causal else []
    return {"Mul": snake_names(config), "Add": ups}


def numbered_f0_names(config: VocoderConfig) -> dict[str, list[str]]:
    """The same for the F0 predictor."""
    kernels = _f0_kernels(config) if config.f0_float64 else []
    return {"MatMul": [f0_prefix(config) + name for name in [*kernels, "output.weight"]]}


def f0_prefix(config: VocoderConfig) -> str:
    """Of all names of the F0 predictor's weights."""
    return "predictor." if config.f0_float64 else "vocoder.f0_predictor."


def snake_names(config: VocoderConfig) -> list[str]:
    """Of all trained factors, in the order in which the network uses them."""
    names = []
    for stage in range(len(config.upsample_rates)):
        blocks = [
            (f"blocks.{index}", dilations)
            for index, dilations in enumerate(config.resblock_dilations)
        ]
        if config.head == "polar":
            blocks.insert(0, ("source_block", config.source_resblock_dilations[stage]))
        names += [
            f"stages.{stage}.{block}.{unit}.snake{half}.alpha"
            for block, dilations in blocks
            for unit in range(len(dilations))
            for half in (1, 2)
        ]
    return names


def decode_names(config: VocoderConfig) -> list[str]:
    """Of everything that the native decoder reads."""
    names = [f"{part}.{kind}" for part in ("conv_pre", "head.conv") for kind in ("weight", "bias")]
    for stage in range(len(config.upsample_rates)):
        parts = ["up", "source_down"] if config.head == "polar" else ["up"]
        names += [f"stages.{stage}.{part}.{kind}" for part in parts for kind in ("weight", "bias")]
    for snake in snake_names(config):
        unit, _, half = snake.removesuffix(".alpha").rpartition(".snake")
        names += [snake, f"{unit}.conv{half}.weight", f"{unit}.conv{half}.bias"]
    return names


def f0_names(config: VocoderConfig) -> list[str]:
    """Of everything that the native F0 predictor reads."""
    names = [*_f0_kernels(config), *(f"convs.{conv}.bias" for conv in range(F0_CONVS))]
    return [f0_prefix(config) + name for name in [*names, "output.weight", "output.bias"]]


def _f0_kernels(config: VocoderConfig) -> list[str]:
    """In double precision there is a matrix for each tap."""
    if not config.f0_float64:
        return [f"convs.{conv}.weight" for conv in range(F0_CONVS)]
    reaches = enumerate(f0_reaches(config))
    return [
        f"convs.{conv}.weight.{tap}"
        for conv, (left, right) in reaches
        for tap in range(left + right + 1)
    ]
