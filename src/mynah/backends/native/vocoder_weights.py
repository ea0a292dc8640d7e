"""Weights of the vocoder's graphs, by the names of the modules they belong to.

``mynah.export.vocoder`` writes these names. Graphs that were written before it did have most of
them; the few that the tracing exporter numbered are found by their order, which is that of the
network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mynah.backends.native.kernels import AnyArray
from mynah.backends.native.onnx_weights import OnnxWeights, read_initializers
from mynah.config import VocoderConfig
from mynah.errors import ModelFormatError
from mynah.networks.vocoder_layout import F0_CONVS, f0_reaches
from mynah.types import FloatArray

DECODE_GRAPH, F0_GRAPH = "vocoder_decode.onnx", "vocoder_f0.onnx"


class VocoderWeights(Mapping[str, FloatArray]):
    """Name -> float32 array, or float64 where the graph has such; every look-up reads it again."""

    def __init__(self, path: Path, numbered: Mapping[str, list[str]]) -> None:
        """Find the weights.

        Args:
            path: of the graph.
            numbered: operator -> names of the weights that the exporter may have numbered, in the
                network's order.

        Raises:
            ModelNotFoundError: if there is no such file.
            ModelFormatError: if it is damaged.
        """
        self._path = path
        self._file = read_initializers(path)
        self._places = {_plain(name): name for name in self._file if not _is_scale(name)}
        for operator, names in numbered.items():
            if not set(names) <= set(self._places):
                self._number(operator, names)

    def _number(self, operator: str, names: list[str]) -> None:
        pattern = f"onnx::{operator}_"
        found = [name for name in self._places if name.startswith(pattern)]
        found.sort(key=lambda name: int(name.rpartition("_")[2]))
        if len(found) == len(names):
            places = [self._places[name] for name in found]
            self._places.update(zip(names, places, strict=True))

    def __getitem__(self, name: str) -> FloatArray:
        """Read a weight.

        Raises:
            ModelFormatError: if there is none of that name, or the file is damaged.
        """
        if name not in self._places:
            raise ModelFormatError(
                f"{self._path} has no weight {name}", hint="convert the model again"
            )
        place = self._places[name]
        values = self._file[place]
        if values.dtype == np.int8:
            values = self._scaled(values, place.removesuffix(".int8"))
        wide = values.dtype == np.float64
        weight: FloatArray = values if wide else values.astype(np.float32)
        return weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a weight, without reading it; raises KeyError if there is none."""
        return self._file.shape(self._places[name])

    def _scaled(self, codes: AnyArray, name: str) -> AnyArray:
        scale = _first(self._file, f"{name}.scale").astype(np.float32)
        # of output channels: the first axis, but for transposed convolutions
        axis = 0 if codes.shape[0] == scale.size else 1
        shape = [-1 if index == axis else 1 for index in range(codes.ndim)]
        return codes.astype(np.float32) * scale.reshape(shape)


def decode_weights(folder: Path, config: VocoderConfig) -> VocoderWeights:
    """Weights of the decoder; raises as ``VocoderWeights``."""
    return VocoderWeights(folder / DECODE_GRAPH, numbered_decode_names(config))


def f0_weights(folder: Path, config: VocoderConfig) -> VocoderWeights:
    """Weights of the F0 predictor; raises as ``VocoderWeights``."""
    return VocoderWeights(folder / F0_GRAPH, numbered_f0_names(config))


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


def _plain(name: str) -> str:
    for ending in (".half", ".int8"):
        name = name.removesuffix(ending)
    return name


def _is_scale(name: str) -> bool:
    return _plain(name).endswith(".scale")


def _first(file: OnnxWeights, name: str) -> AnyArray:
    for place in (f"{name}.half", name):
        if place in file:
            return file[place]
    raise ModelFormatError(f"a weight has codes but no {name}", hint="convert the model again")
