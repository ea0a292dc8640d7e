"""What velocity networks make of the flow time alone: ``flow_time.onnx`` without ONNX Runtime.

A solver visits a handful of times, each one's terms are computed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mynah.backends.composed_flow import TIME_GRAPH
from mynah.backends.native.kernels import AnyArray
from mynah.backends.native.traced_weights import TracedWeights
from mynah.config import DiTConfig, FlowConfig, VelocityConfig
from mynah.errors import BackendError, ModelFormatError
from mynah.types import FloatArray

TIMES, TABLE = "times", "table"
"""Weights of the table of a diffusion transformer, as ``mynah.export.flow_dit`` names them."""
NEAR = 1e-4
"""A time farther than this from every one in the table is another time."""
_UNNAMED_TIMES = "w0"  # as earlier versions wrote it, before the only weight of three dimensions
_TABLE_DIMENSIONS = 3
_NETWORK = "network."

Gains = tuple[float, float]


class ResnetBiases:
    """Of a U-Net: a bias (R, C) for its resnets."""

    def __init__(self, folder: Path, config: FlowConfig, sizes: VelocityConfig) -> None:
        """Read the weights.

        Raises:
            ModelNotFoundError: if the graph is missing.
            ModelFormatError: if it is damaged, or lacks a weight.
        """
        weights = TracedWeights(folder / TIME_GRAPH, {})
        self._width = 4 * config.n_mels
        self._stages = ["down", *(f"mid.{n}" for n in range(sizes.num_mid_blocks)), "up"]
        self._linears = {name: _Linear(weights, _NETWORK + name) for name in self._names()}
        self._prior_std = sizes.prior_std

    def _names(self) -> list[str]:
        return ["time_expand", "time_output", *(f"{s}.resnet.time" for s in self._stages)]

    def terms(self, t: float) -> FloatArray:
        """Biases (R, C)."""
        expand, output, *resnets = self._linears.values()
        x = expand(_time_embedding(t, self._width))
        x = output(x / (1 + np.exp(-x)))
        x = x * np.tanh(np.logaddexp(np.float32(0), x))
        return np.ascontiguousarray([resnet(x) for resnet in resnets], dtype=np.float32)

    def gains(self, t: float) -> Gains | None:
        """What x and mu are multiplied by in the velocity that the network corrects, if it does.

        The closed form of ``mynah.networks.unet.gaussian_velocity``: mu + gain * (x - t * mu).
        """
        if self._prior_std is None:
            return None
        variance, rest = self._prior_std**2, 1 - t
        gain = (variance * t - rest) / (variance * t * t + rest * rest)
        return gain, 1 - gain * t


class Modulation:
    """Of a diffusion transformer: vectors (rows, C) from a table of times."""

    def __init__(self, folder: Path, config: FlowConfig, sizes: DiTConfig) -> None:
        """Read the table; raises as ``ResnetBiases``."""
        weights = TracedWeights(folder / TIME_GRAPH, {})
        tables = [name for name in weights if len(weights.shape(name)) == _TABLE_DIMENSIONS]
        self._table = weights[TABLE if TABLE in weights else (tables or [TABLE])[0]]
        self._times = weights[TIMES if TIMES in weights else _UNNAMED_TIMES]
        if self._times.shape != self._table.shape[:1]:
            raise ModelFormatError(
                f"{folder / TIME_GRAPH} has no table of times", hint="convert the model again"
            )

    def terms(self, t: float) -> FloatArray:
        """Vectors of one of the times (rows, C).

        Raises:
            BackendError: if the table has no such time.
        """
        distance = np.abs(self._times - np.float32(t))
        index = int(distance.argmin())
        if distance[index] > NEAR:
            raise BackendError(
                f"the model's table has no flow time {t:g}",
                hint="choose one of the quality settings; it was converted for their steps",
            )
        row: FloatArray = self._table[index]
        return row

    def gains(self, t: float) -> Gains | None:
        """None: networks of this kind correct nothing."""
        return None


class _Linear:
    """A layer as it is stored; matrices for products in eight bits lie the other way round."""

    def __init__(self, weights: TracedWeights, name: str) -> None:
        weight = f"{name}.weight"
        values, scale = weights.stored(weight)
        self._codes: AnyArray = values.T if weights.is_dynamic(weight) else values
        self._scale = np.float32(1) if scale is None else scale
        self._bias = weights[f"{name}.bias"]

    def __call__(self, x: FloatArray) -> FloatArray:
        product: FloatArray = (self._codes.astype(np.float32) @ x) * self._scale + self._bias
        return product


def _time_embedding(t: float, width: int) -> FloatArray:
    """As ``mynah.networks.unet.time_embedding``, (width,)."""
    half = width // 2
    steps = np.arange(half, dtype=np.float32)
    frequencies = np.exp(steps * np.float32(-math.log(10000.0) / (half - 1)))
    angle = np.float32(1000.0) * np.float32(t) * frequencies
    return np.concatenate([np.sin(angle), np.cos(angle)])


TIME_TERMS: Mapping[str, Callable[[Path, FlowConfig, Any], ResnetBiases | Modulation]] = {
    "unet": ResnetBiases,
    "dit": Modulation,
}
"""By the kind of the velocity network."""
