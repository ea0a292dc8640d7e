"""Weights of a graph by their names, packed for the kernels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mynah.backends.native.kernels import AnyArray
from mynah.backends.native.matrices import Matrix, pack_codes, pack_floats
from mynah.errors import ModelFormatError
from mynah.types import FloatArray

_LEAST_SCALE = np.float32(1e-30)


class NamedWeights:
    """What ``GraphBuilder.linear`` and ``layer_norm`` named, whatever it is stored as."""

    def __init__(self, weights: Mapping[str, AnyArray]) -> None:
        """``weights`` by name; those in half precision have ``.half`` behind it."""
        self._weights = weights

    def __contains__(self, name: str) -> bool:
        return name in self._weights or f"{name}.half" in self._weights

    def get(self, name: str) -> AnyArray:
        """As it is stored.

        Raises:
            ModelFormatError: if it is missing.
        """
        for stored in (name, f"{name}.half"):
            if stored in self._weights:
                return self._weights[stored]
        raise ModelFormatError(
            f"the velocity network has no weight {name}", hint="convert the model again"
        )

    def floats(self, name: str) -> FloatArray:
        """In float32."""
        return self.get(name).astype(np.float32)

    def norm(self, name: str) -> tuple[FloatArray, FloatArray]:
        """Gain and bias."""
        return self.floats(f"{name}.weight"), self.floats(f"{name}.bias")

    def exact(self, name: str, taps: int = 1) -> Matrix:
        """A product in float32; with taps a convolution, whose inner elements come tap by tap."""
        weight = self.floats(f"{name}.weight").T
        return pack_floats(weight, bias=self.floats(f"{name}.bias"), taps=taps)

    def rounded(self, name: str, taps: int) -> Matrix:
        """A convolution that is stored in floats, in eight bits: one scale for a column's tap."""
        weight = self.floats(f"{name}.weight").T
        rows = weight.reshape(len(weight), taps, -1)
        scales = np.maximum(np.abs(rows).max(axis=2) / np.float32(127), _LEAST_SCALE)
        codes = np.rint(rows / scales[:, :, np.newaxis]).astype(np.int8)
        bias = self.floats(f"{name}.bias")
        return pack_codes(codes.reshape(weight.shape), scales, bias=bias, taps=taps)

    def linear(self, *names: str) -> Matrix:
        """One matrix in eight bits for several products of the same rows."""
        codes = np.concatenate([self.get(f"{name}.weight") for name in names], axis=1)
        scales = np.concatenate([self.floats(f"{name}.scale") for name in names])
        biases = [self.floats(f"{name}.bias") for name in names if f"{name}.bias" in self]
        bias = np.concatenate(biases) if biases else None
        return pack_codes(codes.T, scales, bias=bias)
