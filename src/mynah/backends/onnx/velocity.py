"""Velocity networks run by ONNX Runtime: graphs built by hand, or traced from torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mynah.backends.base import FloatArray
from mynah.backends.composed_flow import TIME_GRAPH, VELOCITY_GRAPH, VelocityNetwork
from mynah.backends.onnx.graph import AnyArray, CachedGraph, FrameState, Graph
from mynah.backends.onnx.layers import LayeredGraph, LayeredState


def load_velocity(folder: Path, threads: int, branches: int) -> VelocityNetwork:
    """Load the velocity network of a model folder, of either kind."""
    kind = LayeredVelocity if (folder / TIME_GRAPH).is_file() else TracedVelocity
    return kind(folder, threads, branches)


class LayeredVelocity:
    """A graph built by hand; its terms of the flow time are computed once for each time."""

    def __init__(self, folder: Path, threads: int, branches: int) -> None:
        """Load from ``folder``; ``branches`` is 2 with guidance, else 1."""
        self._graph = LayeredGraph(folder / VELOCITY_GRAPH, threads)
        self._time = Graph(folder / TIME_GRAPH, threads=1)
        self._terms: dict[float, dict[str, AnyArray]] = {}
        self._branches = np.eye(1, branches, dtype=np.float32)[0]

    def new_state(self, *, guided: bool = True) -> LayeredState:
        """See ``VelocityNetwork``."""
        return self._graph.new_state(len(self._branches) if guided else 1)

    def restore(self, arrays: Mapping[str, AnyArray], *, guided: bool = True) -> LayeredState:
        """See ``VelocityNetwork``."""
        return self._graph.restore(arrays, len(self._branches) if guided else 1)

    def run(
        self,
        x: FloatArray,
        t: float,
        mu: FloatArray,
        speaker: FloatArray,
        cond: FloatArray,
        state: LayeredState,
    ) -> FloatArray:
        """See ``VelocityNetwork``."""
        if t not in self._terms:
            self._terms[t] = self._time.run({"t": np.full(1, t, np.float32)})
        branches = self._branches[: state.branches]
        inputs = {"x": x, "mu": mu, "speaker": speaker, "cond": cond, "branches": branches}
        rows = self._graph.run_layers(inputs | self._terms[t], state, len(x))["velocity"]
        return rows.swapaxes(0, 1)


class TracedVelocity:
    """A graph traced from torch, with the batch first."""

    def __init__(self, folder: Path, threads: int, branches: int) -> None:
        """Load from ``folder``; ``branches`` is 2 with guidance, else 1."""
        self._graph = CachedGraph(folder / VELOCITY_GRAPH, threads)
        self._branches = branches

    def new_state(self, *, guided: bool = True) -> FrameState:
        """See ``VelocityNetwork``; the traced graph computes all its branches always."""
        return FrameState(self._graph.new_state(self._branches))

    def restore(self, arrays: Mapping[str, AnyArray], *, guided: bool = True) -> FrameState:
        """See ``VelocityNetwork``."""
        return FrameState(self._graph.restore(arrays, self._branches))

    def run(
        self,
        x: FloatArray,
        t: float,
        mu: FloatArray,
        speaker: FloatArray,
        cond: FloatArray,
        state: FrameState,
    ) -> FloatArray:
        """See ``VelocityNetwork``."""
        inputs = {"mu": mu, "speaker": speaker, "cond": cond}
        rows = {name: self._conditional(value) for name, value in inputs.items()}
        rows["x"] = np.stack([x] * self._branches)
        rows["t"] = np.full(self._branches, t, dtype=np.float32)
        velocity: FloatArray = self._graph.run(rows, state.rows)["velocity"]
        return velocity

    def _conditional(self, row: FloatArray) -> FloatArray:
        """Row 0 as given; another row, the unconditional branch, zero."""
        rows = np.zeros((self._branches, *row.shape), dtype=np.float32)
        rows[0] = row
        return rows
