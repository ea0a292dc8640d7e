"""The unconditional velocity of the first Euler step, computed once for all utterances of a model.

The first step moves noise, and the noise of a frame is the model's. Without its conditions the
network sees that noise and nothing else, so what it makes of a chunk is the same whatever is said
and whoever says it. Guidance needs it for every chunk of every utterance: one of the two branches
of one of the steps, a twentieth of the flow where it has ten.

Velocities lie on the grid of chunks that utterances use. A chunk that is shorter, as the last one
of an utterance may be, is computed by that utterance: its frames see no later ones, so they are
others than those of a whole chunk.
"""

from __future__ import annotations

import numpy as np

from mynah.backends.base import DeviceArray, FloatArray, FlowNetwork, State
from mynah.config import FlowConfig
from mynah.pipeline.noise import NoiseSource
from mynah.pipeline.schedule import Span
from mynah.pipeline.solver import euler_steps, is_guided, scaled

_MOST_FRAMES = 1000
"""Of which velocities, keys and values are kept: twenty seconds of speech, 60 MB of CosyVoice2. An
utterance of that length needs as much less."""
_STRIDE = 2
"""Chunks from one kept state to the next: each state owns memory that it fills in part. Whoever
begins between two of them computes a chunk again."""


class SharedStart:
    """What a model knows of it. Threads may share it.

    There is no lock: whoever lacks a chunk computes it and adds it. Two who do so at the same time
    add the same values.
    """

    def __init__(self, network: FlowNetwork, config: FlowConfig, noise: NoiseSource) -> None:
        """Nothing is computed yet; ``network`` must be able to do without the other branch."""
        self.network = network
        self.chunk_tokens = config.encoder.chunk_tokens
        self._config, self._noise = config, noise
        self._chunk_frames = self.chunk_tokens * config.frames_per_token
        self.most_chunks = _MOST_FRAMES // self._chunk_frames
        self._time = euler_steps(config.num_steps)[0][0]
        self._velocities: dict[int, DeviceArray] = {}
        first = network.new_velocity_state(guided=False)
        # By the chunks that they have seen. Nothing is ever taken out, and the last state, which
        # may be between two kept ones, is replaced in one piece: readers in other threads see
        # something whole.
        self._kept: dict[int, State] = {0: first}
        self._last = (0, first)

    def cursor(self) -> StartCursor:
        """For an utterance at its start."""
        return StartCursor(self)

    def chunk(self, index: int) -> DeviceArray:
        """Velocity of a whole chunk below ``most_chunks`` (F, n_mels), only to be read."""
        known = self._velocities.get(index)
        return self._next(index, self.state(index)) if known is None else known

    def state(self, index: int) -> State:
        """A state that has seen so many whole chunks, at most ``most_chunks``; the caller's own."""
        place, nearest = self._nearest(index)
        state = self.network.fork(nearest)
        for chunk in range(place, index):
            self._next(chunk, state)
        return state

    def velocity(self, noise: FloatArray, state: State) -> DeviceArray:
        """Unconditional velocity (F, n_mels) at noise (F, n_mels); the state advances."""
        x, nothing = (
            self.network.to_device(array)
            for array in (scaled(self._config, noise), np.zeros_like(noise))
        )
        return self.network.velocity(x, self._time, nothing, nothing[0], nothing, state)[0]

    def offer(self, index: int, state: State) -> None:
        """Begin with a state that has seen so many whole chunks, if nothing was computed yet."""
        if not self._last[0] and 0 < index <= self.most_chunks:
            self._kept[index] = state
            self._last = (index, state)

    def _next(self, chunk: int, state: State) -> DeviceArray:
        """Velocity of the chunk that follows what a state has seen; both are noted."""
        first = chunk * self._chunk_frames
        noise = self._noise.frames(first, first + self._chunk_frames)
        velocity = self._velocities.setdefault(chunk, self.velocity(noise, state))
        self._keep(chunk + 1, state)
        return velocity

    def _nearest(self, index: int) -> tuple[int, State]:
        last = self._last
        place = next(place for place in range(index, -1, -1) if place in self._kept)
        return last if place < last[0] <= index else (place, self._kept[place])

    def _keep(self, place: int, state: State) -> None:
        wanted = place % _STRIDE == 0 and place not in self._kept
        if not wanted and place <= self._last[0]:
            return
        copy = self.network.fork(state)
        if wanted:
            self._kept[place] = copy
        if place > self._last[0]:
            self._last = (place, copy)


class StartCursor:
    """Where one utterance, or the prefix of a voice, is in what its model knows."""

    def __init__(self, shared: SharedStart, own: State | None = None) -> None:
        """``own``: a state of this utterance alone, once it has left what is shared."""
        self._shared, self._own = shared, own

    def velocity(self, span: Span, noise: FloatArray) -> DeviceArray:
        """Velocity (F, n_mels) of the chunk that follows the one before, at noise (F, n_mels)."""
        shared = self._shared
        index, size = span.start // shared.chunk_tokens, span.stop - span.start
        if self._own is None:
            if size == shared.chunk_tokens and index < shared.most_chunks:
                return shared.chunk(index)
            self._own = shared.state(index)
        return shared.velocity(noise, self._own)

    def fork(self) -> StartCursor:
        """One that goes on alone."""
        own = self._own
        return StartCursor(self._shared, None if own is None else self._shared.network.fork(own))

    def state(self, committed: int) -> State:
        """What has seen ``committed`` tokens of this utterance, to be stored, not to be changed."""
        if self._own is not None:
            return self._own
        return self._shared.state(committed // self._shared.chunk_tokens)

    def restored(self, committed: int, state: State) -> StartCursor:
        """A cursor behind ``committed`` tokens; ``state`` is what was stored for them."""
        index = committed // self._shared.chunk_tokens
        if index > self._shared.most_chunks:
            return StartCursor(self._shared, state)
        self._shared.offer(index, state)
        return StartCursor(self._shared)


def shared_start(
    network: FlowNetwork, config: FlowConfig, noise: NoiseSource
) -> SharedStart | None:
    """Of a model; None if its first step is not guided."""
    if config.cfg_rate == 0 or not is_guided(config, 0):
        return None
    return SharedStart(network, config, noise)
