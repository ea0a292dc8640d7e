"""The flow stage of a model, of whichever kind its token encoder asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from mynah.backends.base import FloatArray, FlowNetwork, StorableFlowNetwork, TokenArray
from mynah.config import ModelConfig
from mynah.errors import ModelFormatError
from mynah.pipeline import flow
from mynah.pipeline.flow import FlowPrompt, FlowStageState
from mynah.pipeline.flow_prefix import load_prefix, save_prefix
from mynah.pipeline.noise import NoiseSource
from mynah.pipeline.schedule import ChunkSchedule
from mynah.pipeline.sharing import Made
from mynah.pipeline.unconditional import shared_start
from mynah.pipeline.windowed_flow import WindowedFlowStage

FlowState = Any
"""What one utterance keeps between calls; made by a stage, opaque to everyone else."""


class FlowStage(Protocol):
    """Speech tokens to mel frames, incrementally. A stage holds nothing of an utterance."""

    def fit_prompt(self, prompt: FlowPrompt) -> FlowPrompt:
        """Cut a prompt so that as much of it as possible is computed before a request is known.

        Its end stays, because speech goes on from there.
        """
        ...

    def start(self, prompt: FlowPrompt) -> FlowState:
        """State that has read the prompt as far as it can; compute it once per voice.

        Raises:
            InvalidRequestError: if tokens and mel of the prompt do not belong together.
            GenerationError: if a token is out of range or the result is not finite.
        """
        ...

    def fork(self, state: FlowState, *, whole: bool = False) -> FlowState:
        """An independent copy of a state from ``start``, for one utterance.

        ``whole`` says that nobody waits for the first frames: a model whose stream differs from
        one pass over the whole utterance then makes that pass, at the end.
        """
        ...

    def save(self, state: FlowState, path: Path) -> bool:
        """Write a state from ``start`` to a file; False = there is nothing worth keeping.

        Raises:
            OSError: if it cannot be written.
        """
        ...

    def load(self, prompt: FlowPrompt, path: Path) -> FlowState:
        """Map a state that ``save`` wrote for the same prompt, model and backend.

        Raises:
            ModelNotFoundError: if there is no such file.
            ModelFormatError: if it is damaged or of something else.
        """
        ...

    def is_ready(self, state: FlowState, num_fresh: int) -> bool:
        """Whether ``advance`` with so many new tokens would give frames, the end still unknown."""
        ...

    def advance(self, tokens: TokenArray, state: FlowState, *, final: bool) -> FloatArray:
        """Feed tokens and return the mel frames that became certain, without those of the prompt.

        Args:
            tokens: new speech tokens (T,), any number, also none.
            state: changes in place.
            final: whether the utterance ends after these tokens; all frames that are left come.

        Returns:
            log-mel (n, n_mels) float32, n = 0 while nothing is certain.

        Raises:
            GenerationError: if a token is out of range or the result is not finite.
            InvalidRequestError: if the state was finished before.
        """
        ...

    def advance_many(
        self,
        tokens: Sequence[TokenArray],
        states: Sequence[FlowState],
        finals: Sequence[bool],
    ) -> list[Made]:
        """As ``advance`` for several utterances, which share calls where the network can do that.

        Returns:
            what ``advance`` returns for each, or the ``GenerationError`` that it raises.

        Raises:
            BackendError: if the network fails; none of the states can be used any more.
            InvalidRequestError: if a state was finished before; none has changed then.
        """
        ...


class CausalFlowStage:
    """``FlowStage`` in chunks that equal one pass over the whole utterance."""

    def __init__(
        self,
        network: FlowNetwork,
        config: ModelConfig,
        noise: NoiseSource,
        left_chunks: int | None = None,
        splits_guidance: bool = False,
    ) -> None:
        """``left_chunks`` are the chunks visible before a chunk's own, at least 1; None = all.

        ``splits_guidance`` is what ``Backend`` says of the network.
        """
        sizes = config.flow.encoder
        self._network = network
        self._config = config.flow
        self._noise = noise
        self._schedule = ChunkSchedule(sizes.chunk_tokens, sizes.lookahead_tokens)
        self._left_chunks = left_chunks
        self._shared = shared_start(network, config.flow, noise) if splits_guidance else None

    def fit_prompt(self, prompt: FlowPrompt) -> FlowPrompt:
        """Cut the prompt's start so that its prefix ends with a whole chunk."""
        size = len(prompt.tokens)
        skipped = size - self._schedule.best_prompt_length(size)
        if not skipped or prompt.mel is None:
            return prompt
        mel = np.ascontiguousarray(prompt.mel[skipped * self._config.frames_per_token :])
        return FlowPrompt(prompt.speaker, prompt.tokens[skipped:], mel)

    def start(self, prompt: FlowPrompt) -> FlowStageState:
        """See ``FlowStage.start``."""
        return flow.prefix_state(
            self._network,
            self._config,
            prompt,
            self._noise,
            schedule=self._schedule,
            left_chunks=self._left_chunks,
            shared=self._shared,
        )

    def fork(self, state: FlowStageState, *, whole: bool = False) -> FlowStageState:
        """See ``FlowStage.fork``; a stream and one pass are the same here."""
        return flow.fork(self._network, state)

    def save(self, state: FlowStageState, path: Path) -> bool:
        """See ``FlowStage.save``."""
        if not state.committed or not isinstance(self._network, StorableFlowNetwork):
            return False
        save_prefix(self._network, state, path)
        return True

    def load(self, prompt: FlowPrompt, path: Path) -> FlowStageState:
        """See ``FlowStage.load``."""
        if not isinstance(self._network, StorableFlowNetwork):
            raise ModelFormatError(f"{path} is of another backend")
        fresh = self.start(FlowPrompt(prompt.speaker))
        return load_prefix(self._network, self._config, fresh, path)

    def is_ready(self, state: FlowStageState, num_fresh: int) -> bool:
        """See ``FlowStage.is_ready``."""
        available = state.committed + len(state.pending) + num_fresh
        return state.schedule.commit_limit(state.prompt_tokens, available) > state.committed

    def advance(self, tokens: TokenArray, state: FlowStageState, *, final: bool) -> FloatArray:
        """See ``FlowStage.advance``."""
        return flow.advance(self._network, self._config, tokens, state, final=final)

    def advance_many(
        self,
        tokens: Sequence[TokenArray],
        states: Sequence[FlowStageState],
        finals: Sequence[bool],
    ) -> list[Made]:
        """See ``FlowStage.advance_many``."""
        return flow.advance_many(self._network, self._config, tokens, states, finals)


def build_flow_stage(
    network: FlowNetwork,
    config: ModelConfig,
    noise: NoiseSource,
    left_chunks: int | None = None,
    *,
    splits_guidance: bool = False,
) -> FlowStage:
    """The stage for a model; ``left_chunks`` bounds the memory of causal models.

    ``splits_guidance`` is what ``Backend`` says of the network.
    """
    build = _STAGES[config.flow.encoder.kind]
    return build(network, config, noise, left_chunks, splits_guidance)


def _windowed(
    network: Any, config: ModelConfig, noise: NoiseSource, left_chunks: int | None, splits: bool
) -> FlowStage:
    return WindowedFlowStage(network, config, noise)  # its memory is bounded by the window


_Build: TypeAlias = Callable[[FlowNetwork, ModelConfig, NoiseSource, int | None, bool], FlowStage]

_STAGES: Mapping[str, _Build] = {
    "upsample_conformer": CausalFlowStage,
    "lookahead": CausalFlowStage,
    "regulated_conformer": _windowed,
}
