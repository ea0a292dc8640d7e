"""From noise to mel frames: the Euler solver with classifier-free guidance, for one or many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, cast

import numpy as np

from mynah.backends.base import BatchedFlowNetwork, DeviceArray, FloatArray, FlowNetwork, State
from mynah.config import FlowConfig
from mynah.errors import GenerationError
from mynah.pipeline.sharing import Made, unwrapped

_Velocity: TypeAlias = Callable[[DeviceArray, float, State], tuple[DeviceArray, DeviceArray]]


def euler_steps(num_steps: int) -> list[tuple[float, float]]:
    """Time and step size of every Euler step on the cosine schedule, summed up in float32."""
    grid = np.linspace(0, 1, num_steps + 1, dtype=np.float32)
    times = np.float32(1) - np.cos(grid * np.float32(0.5 * np.pi))
    steps, t = [], times[0]
    for after in times[1:]:
        dt = after - t
        steps.append((float(t), float(dt)))
        t = t + dt
    return steps


def solve(
    network: FlowNetwork,
    config: FlowConfig,
    noise: FloatArray,
    mu: DeviceArray,
    speaker: DeviceArray,
    cond: FloatArray,
    states: Iterable[State],
    start: DeviceArray | None = None,
) -> FloatArray:
    """Integrate from noise to normalised mel with classifier-free guidance.

    Args:
        network: the networks of one backend.
        config: solver and guidance settings.
        noise: (F, n_mels).
        mu: mean frames (F, n_mels).
        speaker: projected speaker vector (n_mels,).
        cond: normalised known frames at the start, at most F.
        states: one velocity state for each Euler step.
        start: unconditional velocity (F, n_mels) of the first step, whose state then needs no
            branch for it; None = the network computes it.

    Raises:
        GenerationError: if the result is not finite.
    """
    known = np.zeros_like(noise)
    known[: len(cond)] = cond
    x, known = network.to_device(scaled(config, noise)), network.to_device(known)
    x = _integrate(
        config,
        lambda x, t, state: network.velocity(x, t, mu, speaker, known, state),
        x,
        states,
        start,
    )
    return unwrapped(_checked(network.to_numpy(x)))


def solve_many(
    network: FlowNetwork,
    config: FlowConfig,
    noises: Sequence[FloatArray],
    mu: DeviceArray,
    speakers: Sequence[DeviceArray],
    conds: Sequence[FloatArray],
    states: Sequence[Sequence[State]],
) -> list[Made]:
    """As ``solve`` for N streams together, by a ``BatchedFlowNetwork``.

    Args:
        network: the networks of one backend.
        config: solver and guidance settings.
        noises: (F, n_mels) each.
        mu: mean frames of ``encode_many``, (N, longest F, n_mels).
        speakers: projected speaker vectors (n_mels,).
        conds: normalised known frames at the start, at most F.
        states: of each stream one velocity state for each Euler step.

    Returns:
        normalised mel (F, n_mels) of each stream, or an error if its own is not finite.
    """
    batched = cast(BatchedFlowNetwork, network)  # a protocol cannot see through a timed network
    lengths = [len(noise) for noise in noises]
    shape = (len(noises), max(lengths), config.n_mels)
    start, known = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for index, (noise, cond) in enumerate(zip(noises, conds, strict=True)):
        start[index, : len(noise)] = noise
        known[index, : len(cond)] = cond
    x, known = network.to_device(scaled(config, start)), network.to_device(known)
    speaker = batched.stack(speakers)
    x = _integrate(
        config,
        lambda x, t, step: batched.velocity_many(x, t, mu, speaker, known, lengths, step),
        x,
        zip(*states, strict=True),
    )
    mels = network.to_numpy(x)
    return [_checked(mel[:length]) for mel, length in zip(mels, lengths, strict=True)]


def is_guided(config: FlowConfig, step: int) -> bool:
    """Whether an Euler step needs the unconditional velocity."""
    return config.guided_steps is None or step < config.guided_steps


def scaled(config: FlowConfig, noise: FloatArray) -> FloatArray:
    """Where the flow begins: standard normal noise (F, n_mels) at the model's temperature."""
    return noise if config.temperature == 1.0 else noise * np.float32(config.temperature)


def _integrate(
    config: FlowConfig,
    velocity: _Velocity,
    x: DeviceArray,
    states: Iterable[State],
    start: DeviceArray | None = None,
) -> DeviceArray:
    """Follow the velocity from x at time 0; ``states`` are what each Euler step needs.

    ``start`` is the unconditional velocity of the first step, if it is known.
    """
    strong, weak = 1.0 + config.cfg_rate, config.cfg_rate
    steps = zip(euler_steps(config.num_steps), states, strict=True)
    for index, ((t, dt), state) in enumerate(steps):
        direction, unconditional = velocity(x, t, state)
        if index == 0 and start is not None:
            unconditional = start
        if is_guided(config, index):
            direction = strong * direction - weak * unconditional
        x = x + dt * direction
    return x


def _checked(mel: FloatArray) -> Made:
    if np.isfinite(mel).all():
        return mel
    return GenerationError(
        "the flow produced values that are not finite",
        hint="the weights may be damaged, or half precision overflowed",
    )
