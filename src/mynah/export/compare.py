"""How far exported graphs are from the torch networks, on random input.

A network is probed alone, so that the exact one can be let go of before the other is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mynah.backends.base import (
    NO_IDS,
    SOS_MARKER,
    TASK_MARKER,
    Cursor,
    FlowNetwork,
    Segment,
    SpeechLM,
    VocoderNetwork,
)
from mynah.config import ModelConfig
from mynah.pipeline.solver import euler_steps

Probe: TypeAlias = dict[str, npt.NDArray[Any]]
"""What a network answered, by the name of the graph behind it."""

_NUM_TEXT, _NUM_TOKENS, _NUM_FRAMES = 24, 30, 40
_NUM_SCORED = 200
_SCORES = ("lm.onnx",)


@dataclass(frozen=True)
class Deviation:
    """Difference of two answers."""

    max_abs: float
    """Largest absolute difference."""
    relative: float
    """Root mean square of the difference over that of the exact answer."""
    same_token: float | None = None
    """Of scores of tokens: share of positions where the likeliest token is the same."""


def probe(stage: str, network: Any, config: ModelConfig) -> Probe:
    """Run ``lm``, ``flow`` or ``vocoder`` on inputs that depend on the configuration only."""
    return _PROBES[stage](network, config)


def deviations(exact: Probe, other: Probe) -> dict[str, Deviation]:
    """Compare two answers of one stage, graph by graph."""
    return {
        name: _deviation(answer, other[name], has_tokens=name in _SCORES)
        for name, answer in exact.items()
    }


def _deviation(exact: npt.NDArray[Any], other: npt.NDArray[Any], *, has_tokens: bool) -> Deviation:
    difference = np.asarray(other, np.float64) - exact
    scale = float(np.sqrt(np.mean(np.square(exact, dtype=np.float64))))
    size = float(np.sqrt(np.mean(np.square(difference))))
    same = float(np.mean(exact.argmax(-1) == other.argmax(-1))) if has_tokens else None
    return Deviation(float(np.abs(difference).max()), size / max(scale, 1e-12), same)


def _probe_lm(network: SpeechLM, config: ModelConfig) -> Probe:
    """Scores along a sequence of given tokens, so that no difference is carried to the next."""
    rng, lm = np.random.default_rng(0), config.lm
    segments = [Segment("marker", np.array([SOS_MARKER]))]
    if lm.speaker_dim is not None:
        vector = rng.standard_normal(lm.speaker_dim).astype(np.float32)
        segments.append(Segment("speaker", NO_IDS, vector))
    segments.append(Segment("text", rng.integers(0, lm.text_vocab_size, _NUM_TEXT)))
    segments.append(Segment("marker", np.array([TASK_MARKER])))
    cursor = None if lm.pointer is None else Cursor(0, 0)
    logits, state = network.prefill(segments, cursor=cursor)
    scores, moves = [logits], []
    for index, token in enumerate(rng.integers(0, lm.speech_vocab_size, _NUM_SCORED)):
        one = np.array([token])
        if lm.pointer is not None:
            moves.append(network.advance_logits(one, [state])[0])
            cursor = Cursor(min(index, _NUM_TEXT - 1), index % 3)
        cursors = None if cursor is None else [cursor]
        scores.append(network.step(one, [state], cursors)[0])
    found = {"lm.onnx": np.stack(scores)}
    if moves:
        found["lm_pointer_advance.onnx"] = np.stack(moves)
    return found


def _probe_flow(network: FlowNetwork, config: ModelConfig) -> Probe:
    rng, flow = np.random.default_rng(1), config.flow
    tokens = rng.integers(0, flow.speech_vocab_size, _NUM_TOKENS)
    speaker = rng.standard_normal(flow.speaker_dim).astype(np.float32)
    shape = (config.num_frames(_NUM_TOKENS), flow.n_mels)
    noise, mu = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    encoded = network.encode(tokens, None, network.new_encoder_state())
    x = network.to_device(noise)
    rows = network.velocity(
        x,
        euler_steps(flow.num_steps)[flow.num_steps // 2][0],
        network.to_device(mu),
        network.speaker(speaker),
        network.to_device(np.zeros_like(noise)),
        network.new_velocity_state(),
    )
    found = {
        "flow_encoder.onnx": network.to_numpy(encoded),
        "flow_velocity.onnx": np.stack([network.to_numpy(row) for row in rows]),
    }
    if flow.token_mel_ratio is None:
        regulated: Any = network  # a flow of this kind has a regulator
        found["flow_regulator.onnx"] = network.to_numpy(regulated.regulate(x))
    return found


def _probe_vocoder(network: VocoderNetwork, config: ModelConfig) -> Probe:
    rng, vocoder = np.random.default_rng(2), config.vocoder
    mel = (rng.standard_normal((_NUM_FRAMES, vocoder.n_mels)) * 2 - 5).astype(np.float32)
    shape: tuple[int, ...] = (_NUM_FRAMES * vocoder.samples_per_frame,)
    if vocoder.head == "source_filter":
        shape = (*shape, 2)
    source = (rng.standard_normal(shape) * 0.1).astype(np.float32)
    return {
        "vocoder_f0.onnx": network.f0(mel),
        "vocoder_decode.onnx": network.decode(mel, source),
    }


_PROBES: Mapping[str, Callable[[Any, ModelConfig], Probe]] = {
    "lm": _probe_lm,
    "flow": _probe_flow,
    "vocoder": _probe_vocoder,
}
