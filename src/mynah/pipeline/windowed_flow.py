"""Speech tokens to mel frames in windows, for a flow in which nothing is causal (CosyVoice 1).

Every frame depends on every other frame of the same pass, so no frame of a stream is exactly what
one pass over the whole utterance would give. A stream is made of windows that share their last and
first tokens. A window starts from the same noise and the same mean frames there as the one before,
which makes both mels nearly the same, and the frames are cross-faded with weights that sum to one.
Where windows begin and end follows from the number of tokens alone, never from how they arrive.

Frames lie on one grid for the utterance: token i begins at frame ``num_frames(i)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mynah.backends.base import (
    NO_IDS,
    DeviceArray,
    FloatArray,
    RegulatedFlowNetwork,
    TokenArray,
)
from mynah.config import ModelConfig, RegulatedEncoderConfig
from mynah.errors import GenerationError, InvalidRequestError, ModelNotFoundError
from mynah.pipeline.flow import FlowPrompt, check_tokens, denormalised, normalised
from mynah.pipeline.noise import NoiseSource
from mynah.pipeline.resize import resize
from mynah.pipeline.sharing import Made
from mynah.pipeline.solver import solve


@dataclass(eq=False)
class WindowedFlowState:
    """All that one utterance keeps between calls; owned by its session, changed by ``advance``."""

    speaker: DeviceArray
    prompt: FlowPrompt
    """Its mel is normalised; both may be empty."""
    is_whole: bool = False
    """Whether all tokens are awaited and made in one window."""
    start: int = 0
    """Generated tokens before the current window."""
    tokens: TokenArray = field(default_factory=lambda: NO_IDS)
    """Tokens of the current window so far."""
    carried: FloatArray | None = None
    """Mean frames of the prompt and of the overlap, from the window before."""
    held: FloatArray | None = None
    """Normalised frames of the overlap, not given out yet (frames, n_mels)."""
    finished: bool = False


@dataclass(frozen=True, eq=False)
class Window:
    """What one pass of the flow gave, prompt first; ``frames`` are normalised."""

    mu: FloatArray
    frames: FloatArray


class WindowedFlowStage:
    """``FlowStage`` for one model; holds nothing that changes."""

    def __init__(
        self, network: RegulatedFlowNetwork, config: ModelConfig, noise: NoiseSource
    ) -> None:
        """``noise`` is addressed by frames from the start of the prompt."""
        encoder = config.flow.encoder
        assert isinstance(encoder, RegulatedEncoderConfig)  # chosen by its kind
        self._network = network
        self.config = config
        self._encoder = encoder
        self._noise = noise

    def fit_prompt(self, prompt: FlowPrompt) -> FlowPrompt:
        """Return ``prompt``: all of it can be used."""
        return prompt

    def start(self, prompt: FlowPrompt) -> WindowedFlowState:
        """Check the prompt; nothing of it can be computed before the text is known.

        Raises:
            InvalidRequestError: if tokens and mel of the prompt do not belong together.
            GenerationError: if a token of the prompt is out of range.
        """
        flow = self.config.flow
        mel = np.zeros((0, flow.n_mels), np.float32) if prompt.mel is None else prompt.mel
        if (
            mel.ndim != 2
            or mel.shape[1] != flow.n_mels
            or bool(len(mel)) != bool(prompt.tokens.size)
        ):
            raise InvalidRequestError(
                f"the prompt's mel has shape {mel.shape} beside {len(prompt.tokens)} tokens, "
                f"(frames, {flow.n_mels}) are needed",
                hint="make the voice again from its recording",
            )
        check_tokens(flow, prompt.tokens)
        known = replace(prompt, mel=normalised(flow, mel))
        return WindowedFlowState(self._network.speaker(prompt.speaker), known)

    def fork(self, state: WindowedFlowState, *, whole: bool = False) -> WindowedFlowState:
        """An independent copy; see ``FlowStage.fork``."""
        return replace(state, is_whole=whole)  # arrays are replaced, never changed

    def save(self, state: Any, path: Path) -> bool:
        """Keep nothing: a window reads the prompt anew."""
        return False

    def load(self, prompt: FlowPrompt, path: Path) -> Any:
        """Nothing was kept; see ``FlowStage.load``."""
        raise ModelNotFoundError(f"there is no prepared voice {path}")

    def is_ready(self, state: WindowedFlowState, num_fresh: int) -> bool:
        """Whether ``num_fresh`` more tokens complete a window."""
        return not state.is_whole and len(state.tokens) + num_fresh >= self._size(state)

    def advance(self, tokens: TokenArray, state: WindowedFlowState, *, final: bool) -> FloatArray:
        """Feed tokens and return the mel frames that became certain; see ``FlowStage.advance``.

        Raises:
            GenerationError: if a token is out of range or the result is not finite.
            InvalidRequestError: if the state was finished before.
        """
        if state.finished:
            raise InvalidRequestError("this utterance is finished; start from a new state")
        flow = self.config.flow
        check_tokens(flow, tokens)
        state.tokens = np.concatenate([state.tokens, tokens])
        made = [np.zeros((0, flow.n_mels), np.float32)]
        while self.is_ready(state, 0):
            made.append(self._next_window(state))
        if final:
            made.append(self._last_window(state))
            state.finished = True
        return denormalised(flow, np.concatenate(made))

    def advance_many(
        self,
        tokens: Sequence[TokenArray],
        states: Sequence[WindowedFlowState],
        finals: Sequence[bool],
    ) -> list[Made]:
        """See ``FlowStage.advance_many``; windows of different streams share no calls."""
        made: list[Made] = []
        for new, state, final in zip(tokens, states, finals, strict=True):
            try:
                made.append(self.advance(new, state, final=final))
            except GenerationError as error:
                made.append(error)
        return made

    def decode_window(
        self,
        state: WindowedFlowState,
        tokens: TokenArray,
        num_frames: int,
        noise: FloatArray,
        carried: FloatArray | None = None,
    ) -> Window:
        """One pass over prompt and tokens.

        Args:
            state: gives prompt and speaker; stays as it is.
            tokens: of the window (T,), at least one.
            num_frames: F, what the tokens become.
            noise: (prompt frames + F, n_mels).
            carried: mean frames that replace the first ones; they belong to the same noise.
        """
        network, flow, prompt = self._network, self.config.flow, state.prompt
        assert prompt.mel is not None  # start() gives every prompt one
        mu = self._mean_frames(prompt, tokens, num_frames)
        if carried is not None:
            mu = np.concatenate([carried, mu[len(carried) :]])
        fresh = (network.new_velocity_state() for _ in range(flow.num_steps))
        frames = solve(
            network, flow, noise, network.to_device(mu), state.speaker, prompt.mel, fresh
        )
        return Window(mu, frames)

    def _mean_frames(self, prompt: FlowPrompt, tokens: TokenArray, num_frames: int) -> FloatArray:
        """Mean frames mu of the prompt and of the tokens, before anything is carried over."""
        network, split = self._network, len(prompt.tokens)
        assert prompt.mel is not None
        everything = np.concatenate([prompt.tokens, tokens])
        encoded = network.encode(everything, None, network.new_encoder_state())
        rows = network.to_numpy(encoded)
        frames = np.concatenate(
            [
                resize(rows[:split], len(prompt.mel)),
                stretch(
                    rows[split:],
                    num_frames,
                    self._encoder.edge_tokens,
                    self.config.num_frames(self._encoder.edge_tokens),
                ),
            ]
        )
        return network.to_numpy(network.regulate(network.to_device(frames)))

    def _size(self, state: WindowedFlowState) -> int:
        """Tokens that the current window has if more follow."""
        sizes = self._encoder
        new = sizes.chunk_tokens if state.start else sizes.first_chunk_tokens
        return new + sizes.overlap_tokens

    def _next_window(self, state: WindowedFlowState) -> FloatArray:
        """Make a window that another one follows, and hold its last frames back."""
        size, overlap = self._size(state), self._encoder.overlap_tokens
        window, frames = self._window(state, size)
        shared = self._between(state.start + size - overlap, state.start + size)
        prompt = len(window.mu) - self._between(state.start, state.start + size)
        state.carried = np.concatenate([window.mu[:prompt], window.mu[len(window.mu) - shared :]])
        state.held = frames[len(frames) - shared :]
        state.start += size - overlap
        state.tokens = state.tokens[size - overlap :]
        return frames[: len(frames) - shared]

    def _last_window(self, state: WindowedFlowState) -> FloatArray:
        """Make what is left; nothing, if the window before ended with the last token."""
        if state.held is not None and len(state.tokens) <= self._encoder.overlap_tokens:
            return state.held
        if not len(state.tokens):
            return np.zeros((0, self.config.flow.n_mels), np.float32)
        return self._window(state, len(state.tokens))[1]

    def _window(self, state: WindowedFlowState, size: int) -> tuple[Window, FloatArray]:
        """Make the window's frames without the prompt, faded over from the window before."""
        assert state.prompt.mel is not None
        prompt, first = len(state.prompt.mel), self.config.num_frames(state.start)
        count = self._between(state.start, state.start + size)
        noise = np.concatenate(
            [
                self._noise.frames(0, prompt),
                self._noise.frames(prompt + first, prompt + first + count),
            ]
        )
        window = self.decode_window(state, state.tokens[:size], count, noise, state.carried)
        frames = window.frames[prompt:]
        return window, frames if state.held is None else cross_fade(state.held, frames)

    def _between(self, start: int, stop: int) -> int:
        """Frames from the token ``start`` to the token ``stop``."""
        return self.config.num_frames(stop) - self.config.num_frames(start)


def stretch(rows: FloatArray, num_frames: int, edge: int, edge_frames: int) -> FloatArray:
    """Resize rows (T, C), one for each token, to ``num_frames`` mel frames.

    Of more than two edges of tokens, both edges become ``edge_frames`` each, whatever the length:
    so tokens that two windows share lie on the same frames in both.
    """
    if len(rows) <= 2 * edge:
        return resize(rows, num_frames)
    middle = num_frames - 2 * edge_frames
    parts = [(rows[:edge], edge_frames), (rows[edge:-edge], middle), (rows[-edge:], edge_frames)]
    return np.concatenate([resize(part, count) for part, count in parts])


def cross_fade(before: FloatArray, after: FloatArray) -> FloatArray:
    """``after`` (F, n_mels), its first frames faded over from ``before``.

    The weights are halves of a raised cosine and sum to exactly one: what both agree on stays.
    """
    count = len(before)
    angle = np.pi * (np.arange(count) + 0.5) / max(count, 1)
    weight = (0.5 - 0.5 * np.cos(angle)).astype(np.float32)[:, None]
    faded = before + weight * (after[:count] - before)
    return np.concatenate([faded, after[count:]])
