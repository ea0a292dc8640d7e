"""Velocity networks on the native kernels, in place of the graph ``flow_velocity.onnx``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mynah.backends.composed_flow import TIME_GRAPH, VELOCITY_GRAPH
from mynah.backends.native import dit, unet
from mynah.backends.native.flow_time import TIME_TERMS, Gains
from mynah.backends.native.kernels import TILE, AnyArray, Threads
from mynah.backends.native.named_weights import NamedWeights
from mynah.backends.native.onnx_weights import read_initializers
from mynah.backends.native.program import Program, Rows
from mynah.backends.native.segments import CacheLayout, SegmentedState, SegmentPool, restored
from mynah.config import DiTConfig, FlowConfig, VelocityConfig
from mynah.types import FloatArray

_LEAST_FRAMES = 50
_WIDTH_STEP = 16
_HEAD_SIZES = (16, 32, 48, 64)
_ROTARY_THETA = 10000.0


class _Steps(Protocol):
    """A program with its inputs and its result."""

    program: Program
    inputs: Rows
    velocity: Rows
    max_frames: int


@dataclass(frozen=True)
class _Kind:
    """What differs between the kinds of velocity networks."""

    inputs: tuple[str, ...]
    first_weight: str
    """One that is in eight bits where the network runs natively."""
    obstacle: Callable[[Any], str | None]
    weights: Callable[[Mapping[str, AnyArray], Any], Any]
    layout: Callable[[Any, int], CacheLayout]
    steps: Callable[[Any, int, int, int], _Steps]


def _unet_obstacle(sizes: VelocityConfig) -> str | None:
    if not sizes.is_causal:
        return "there are native kernels for the causal U-Net only"
    return _widths_obstacle(sizes.head_dim, sizes.channels)


def _dit_obstacle(sizes: DiTConfig) -> str | None:
    if sizes.dim != TILE * sizes.conv_groups:
        return f"groups of {sizes.dim // sizes.conv_groups} channels are not {TILE} wide"
    return _widths_obstacle(sizes.head_dim, sizes.dim)


def _widths_obstacle(head: int, channels: int) -> str | None:
    if head in _HEAD_SIZES and channels % _WIDTH_STEP == 0:
        return None
    return f"heads of {head} and {channels} channels fit no vector"


_KINDS: Mapping[str, _Kind] = {
    "unet": _Kind(
        unet.INPUTS,
        "down.resnet.skip.scale",
        _unet_obstacle,
        unet.UNetWeights,
        unet.cache_layout,
        unet.UNetProgram,
    ),
    "dit": _Kind(
        dit.INPUTS,
        "input.scale",
        _dit_obstacle,
        dit.DiTWeights,
        lambda sizes, n_mels: dit.cache_layout(sizes),
        dit.DiTProgram,
    ),
}


def velocity_obstacle(folder: Path, config: FlowConfig) -> str | None:
    """Why the velocity network of a model folder cannot run here; None if it can.

    Raises:
        ModelNotFoundError: if its file is missing.
        ModelFormatError: if its file is damaged.
    """
    kind = _KINDS[config.velocity.kind]
    if config.n_mels % _WIDTH_STEP:
        return f"{config.n_mels} mels fit no vector"
    if (obstacle := kind.obstacle(config.velocity)) is not None:
        return obstacle
    if not (folder / TIME_GRAPH).is_file():
        return "the graph was traced, not built by hand"
    if kind.first_weight not in NamedWeights(read_initializers(folder / VELOCITY_GRAPH)):
        return "its weights are not in eight bits, or have no names (convert the model again)"
    return None


class NativeVelocity:
    """``VelocityNetwork`` without ONNX Runtime."""

    def __init__(self, folder: Path, config: FlowConfig, threads: Threads) -> None:
        """Read and pack the weights.

        Raises:
            ModelNotFoundError: if a file is missing.
            ModelFormatError: if one is damaged, or has other weights than ``config`` says.
        """
        self._config, self._threads = config, threads
        self._kind, sizes = _KINDS[config.velocity.kind], config.velocity
        self._branches = 1 if config.cfg_rate == 0 else 2
        self._weights = self._kind.weights(read_initializers(folder / VELOCITY_GRAPH), sizes)
        self._time = TIME_TERMS[sizes.kind](folder, config, sizes)
        self._known_times: dict[float, tuple[FloatArray, Gains | None]] = {}
        self._idle: dict[int, list[_Steps]] = {}
        # by branches; a call takes one, with its buffers
        self._pool = SegmentPool(self._kind.layout(sizes, config.n_mels))

    def new_state(self, *, guided: bool = True) -> SegmentedState:
        """See ``VelocityNetwork``."""
        return SegmentedState(self._pool, self._branches if guided else 1)

    def restore(self, arrays: Mapping[str, AnyArray], *, guided: bool = True) -> SegmentedState:
        """See ``VelocityNetwork``."""
        return restored(arrays, self._pool, self._branches if guided else 1)

    def run(
        self,
        x: FloatArray,
        t: float,
        mu: FloatArray,
        speaker: FloatArray,
        cond: FloatArray,
        state: SegmentedState,
    ) -> FloatArray:
        """See ``VelocityNetwork``."""
        branches, frames, mels = state.branches, len(x), self._config.n_mels
        terms, gains = self._time_terms(t)
        steps = self._take_steps(branches, frames)
        inputs = steps.inputs
        rows = inputs.memory[: branches * (frames + inputs.pad)].reshape(branches, -1, inputs.width)
        known = {"x": x, "mu": mu, "speaker": speaker, "cond": cond}
        for index, name in enumerate(self._kind.inputs):
            part = rows[:, inputs.pad :, index * mels : (index + 1) * mels]
            part[0], part[1:] = known[name], x if name == "x" else 0
        rotation = _rotation(state.position, frames, self._pool.layout.size)
        addresses = [array.ctypes.data for array in (state.contexts, terms, rotation)]
        slots = [frames, branches, *addresses, *state.extend(frames)]
        steps.program.run(self._threads, np.array(slots, dtype=np.int64))
        velocity = steps.velocity.memory[: branches * frames].reshape(branches, frames, mels).copy()
        self._idle[branches].append(steps)
        if gains is not None:
            velocity += np.float32(gains[0]) * x
            velocity[0] += np.float32(gains[1]) * mu
        return velocity

    def _time_terms(self, t: float) -> tuple[FloatArray, Gains | None]:
        if t not in self._known_times:
            self._known_times[t] = self._time.terms(t), self._time.gains(t)
        return self._known_times[t]

    def _take_steps(self, branches: int, frames: int) -> _Steps:
        """Steps for so many frames, which no other call uses."""
        idle = self._idle.setdefault(branches, [])
        try:
            known = idle.pop()
        except IndexError:
            known = None
        if known is None or known.max_frames < frames:
            room = max(frames, _LEAST_FRAMES, 2 * known.max_frames if known else 0)
            known = self._kind.steps(self._weights, self._config.n_mels, branches, room)
        return known


def _rotation(first: int, frames: int, size: int) -> FloatArray:
    """Cosines and sines of positions (frames, 2, size / 2), in float32 as the torch module."""
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    frequencies = np.float32(1) / np.float32(_ROTARY_THETA) ** exponents
    angles = np.arange(first, first + frames, dtype=np.float32)[:, None] * frequencies
    return np.ascontiguousarray(np.stack([np.cos(angles), np.sin(angles)], axis=1))
