"""How far the exported graphs are from the torch networks, on random input."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mynah.backends.base import NO_IDS, SOS_MARKER, TASK_MARKER, Backend, Cursor, Segment
from mynah.config import ModelConfig

_NUM_TEXT, _NUM_TOKENS = 24, 30


def compare_backends(exact: Backend, other: Backend, config: ModelConfig) -> dict[str, float]:
    """Largest absolute difference for each graph, by file name."""
    return {
        **_compare_lm(exact, other, config),
        **_compare_flow(exact, other, config),
        **_compare_vocoder(exact, other, config),
    }


def _compare_lm(exact: Backend, other: Backend, config: ModelConfig) -> dict[str, float]:
    rng, lm = np.random.default_rng(0), config.lm
    segments = [Segment("marker", np.array([SOS_MARKER]))]
    if lm.speaker_dim is not None:
        vector = rng.standard_normal(lm.speaker_dim).astype(np.float32)
        segments.append(Segment("speaker", NO_IDS, vector))
    segments.append(Segment("text", rng.integers(0, lm.text_vocab_size, _NUM_TEXT)))
    segments.append(Segment("marker", np.array([TASK_MARKER])))
    tokens = rng.integers(0, lm.speech_vocab_size, _NUM_TOKENS)
    scores, moves = [], []
    for backend in (exact, other):
        cursor = None if lm.pointer is None else Cursor(0, 0)
        logits, state = backend.lm.prefill(segments, cursor=cursor)
        rows, advances = [logits], []
        for index, token in enumerate(tokens):
            one = np.array([token])
            if lm.pointer is not None:
                advances.append(backend.lm.advance_logits(one, [state])[0])
                cursor = Cursor(min(index, _NUM_TEXT - 1), index % 3)
            cursors = None if cursor is None else [cursor]
            rows.append(backend.lm.step(one, [state], cursors)[0])
        scores.append(np.stack(rows))
        moves.append(np.stack(advances) if advances else np.zeros(1))
    found = {"lm.onnx": _difference(*scores)}
    if lm.pointer is not None:
        found["lm_pointer_advance.onnx"] = _difference(*moves)
    return found


def _compare_flow(exact: Backend, other: Backend, config: ModelConfig) -> dict[str, float]:
    rng, flow = np.random.default_rng(1), config.flow
    tokens = rng.integers(0, flow.speech_vocab_size, _NUM_TOKENS)
    speaker = rng.standard_normal(flow.speaker_dim).astype(np.float32)
    frames = _NUM_TOKENS * flow.token_mel_ratio
    noise = rng.standard_normal((frames, flow.n_mels)).astype(np.float32)
    encoded, velocities = [], []
    mu = exact.flow.to_numpy(exact.flow.encode(tokens, None, exact.flow.new_encoder_state()))
    for backend in (exact, other):
        network = backend.flow
        out = network.encode(tokens, None, network.new_encoder_state())
        encoded.append(network.to_numpy(out))
        x, same = network.to_device(noise), network.to_device(mu)
        rows = network.velocity(
            x, 0.5, same, network.speaker(speaker), x * 0, network.new_velocity_state()
        )
        velocities.append(np.stack([network.to_numpy(row) for row in rows]))
    return {
        "flow_encoder.onnx": _difference(*encoded),
        "flow_velocity.onnx": _difference(*velocities),
    }


def _compare_vocoder(exact: Backend, other: Backend, config: ModelConfig) -> dict[str, float]:
    rng, vocoder = np.random.default_rng(2), config.vocoder
    mel = (rng.standard_normal((40, vocoder.n_mels)) * 2 - 5).astype(np.float32)
    shape: tuple[int, ...] = (40 * vocoder.samples_per_frame,)
    if vocoder.head == "source_filter":
        shape = (*shape, 2)
    source = (rng.standard_normal(shape) * 0.1).astype(np.float32)
    return {
        "vocoder_f0.onnx": _difference(exact.vocoder.f0(mel), other.vocoder.f0(mel)),
        "vocoder_decode.onnx": _difference(
            exact.vocoder.decode(mel, source), other.vocoder.decode(mel, source)
        ),
    }


def _difference(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return float(np.abs(a - b).max())
