"""Numeric health of an installation: does it speak, twice the same, and as torch computes it?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from mynah.backends.base import Backend, CropArray, Cursor, VocoderNetwork
from mynah.cli.checks import Check
from mynah.config import ModelConfig
from mynah.errors import SynthesisError
from mynah.pipeline import vocoder
from mynah.pipeline.prompt import LMPrompt, build_segments
from mynah.types import FloatArray

SENTENCE = "One two three, testing."
SILENCE = 0.001
"""Root mean square below which speech counts as silent."""
LEAST_AGREEMENT = 0.95
"""Correlation between the backends; weights of eight bits stay above it, broken kernels do not."""


def self_tests(model: str) -> Iterator[Check]:
    """Speak with the ONNX backend, then compare single networks with torch where it is."""
    try:
        yield _speaks(model)
        yield _agrees_with_torch(model)
    except SynthesisError as error:
        yield Check("self-test", "failed", error.message, error.hint)


def _speaks(model: str) -> Check:
    from mynah.api import TTS

    with TTS.load(model) as tts:
        first, second = (tts.synthesize(SENTENCE, seed=1).samples for _ in range(2))
        duration_s = len(first) / tts.sample_rate
    level = float(np.sqrt(np.mean(np.square(first, dtype=np.float64))))
    detail = f"{duration_s:.2f} s of speech, level {20 * np.log10(max(level, 1e-9)):.1f} dB"
    if not np.isfinite(first).all():
        return Check("self-test", "failed", "the audio holds NaN", _BROKEN)
    if level < SILENCE:
        return Check("self-test", "failed", f"{detail}: silent", _BROKEN)
    if not np.array_equal(first, second):
        return Check("self-test", "failed", "the same seed gave other samples", _BROKEN)
    return Check("self-test", "ok", f"{detail}, the same twice")


def _agrees_with_torch(model: str) -> Check:
    from mynah.backends.registry import WEIGHTS, load_backend
    from mynah.hub import find_model

    name = "onnx against torch"
    folder = find_model(model)
    if find_spec("torch") is None:
        return Check(name, "missing", "torch is not installed", "pip install 'mynah-tts[torch]'")
    if WEIGHTS not in folder.files:
        return Check(name, "missing", "the model comes without weights for torch")
    config = folder.config()
    backends = [load_backend(folder.path, config, backend=backend) for backend in ("onnx", "torch")]
    results = [_probe(backend, config) for backend in backends]
    found = {key: _correlation(results[0][key], results[1][key]) for key in results[0]}
    detail = ", ".join(f"{key} {value:.5f}" for key, value in found.items())
    if min(found.values()) < LEAST_AGREEMENT:
        return Check(name, "failed", f"correlation {detail}", _BROKEN)
    return Check(name, "ok", f"correlation {detail}")


def _probe(backend: Backend, config: ModelConfig) -> dict[str, FloatArray]:
    """One call of each network on made-up input."""
    rng = np.random.default_rng(0)
    flow = backend.flow
    embedding = rng.standard_normal(config.flow.speaker_dim).astype(np.float32)
    text = rng.integers(1, config.lm.text_vocab_size, 12)
    prompt = LMPrompt("cross_lingual", text, speaker=embedding)
    cursor = Cursor(0, 0) if config.lm.pointer else None
    logits, _ = backend.lm.prefill(build_segments(prompt, config.lm), None, cursor)
    tokens = rng.integers(0, config.lm.speech_vocab_size, 25)
    frames = flow.encode(tokens, None, flow.new_encoder_state())
    noise = rng.standard_normal((50, config.flow.n_mels)).astype(np.float32)
    velocity, _ = flow.velocity(
        flow.to_device(noise),
        0.5,
        frames,
        flow.speaker(embedding),
        flow.to_device(np.zeros_like(noise)),
        flow.new_velocity_state(),
    )
    mel = (noise * 0.5 - 5.0).astype(np.float32)
    state = vocoder.new_state(config.vocoder, config.sample_rate)
    fixed = _FixedPitch(backend.vocoder)
    return {
        "language model": logits,
        "encoder": flow.to_numpy(frames),
        "velocity": flow.to_numpy(velocity),
        "f0": backend.vocoder.f0(mel),
        "vocoder": vocoder.advance(fixed, config.vocoder, mel, state, final=True),
    }


@dataclass(frozen=True)
class _FixedPitch:
    """A vocoder network at 120 Hz: tiny differences in pitch would shift whole waves."""

    network: VocoderNetwork

    def f0(self, mel: FloatArray) -> FloatArray:
        return np.full(len(mel), 120.0, np.float32)

    def excitation(self, harmonics: FloatArray) -> FloatArray:
        return self.network.excitation(harmonics)

    def decode(
        self, mel: FloatArray, source: FloatArray, crops: CropArray | None = None
    ) -> FloatArray:
        return self.network.decode(mel, source, crops)


def _correlation(a: FloatArray, b: FloatArray) -> float:
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale else float(np.array_equal(a, b))


_BROKEN = "install onnxruntime and mynah again; if it stays, report it with `mynah doctor --json`"
