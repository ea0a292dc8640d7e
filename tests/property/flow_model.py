"""Tiny random flows, both backends on them, and the oracle: one masked pass per Euler step."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from mynah.backends.base import FloatArray, TokenArray
from mynah.backends.onnx.flow import OnnxFlow
from mynah.backends.torch.flow import TorchFlow
from mynah.config import (
    DiTConfig,
    FlowConfig,
    LookaheadEncoderConfig,
    TokenEncoderConfig,
    VelocityConfig,
)
from mynah.export.flow import export_flow
from mynah.networks.flow import Flow
from mynah.networks.masks import chunk_mask
from mynah.pipeline.flow import FlowPrompt
from mynah.pipeline.noise import SeededNoise
from mynah.pipeline.solver import euler_steps

CHUNK = 5
VOCABULARY = 50
BACKENDS = ("torch", "onnx")

CONFIG = FlowConfig(
    speech_vocab_size=VOCABULARY,
    input_size=16,
    n_mels=8,
    speaker_dim=12,
    encoder=TokenEncoderConfig(
        dim=16, num_heads=2, feed_forward=24, num_blocks=2, num_up_blocks=1, chunk_tokens=CHUNK
    ),
    velocity=VelocityConfig(
        channels=16, num_heads=2, head_dim=12, transformers_per_block=1, num_mid_blocks=1
    ),
    num_steps=3,
    mel_mean=-4.0,
    mel_std=2.0,
    noise="numpy",
)
CONFIGS = {
    "unet": CONFIG,
    "dit": CONFIG.model_copy(
        update={
            "input_size": CONFIG.n_mels,
            "encoder": LookaheadEncoderConfig(kind="lookahead", channels=24, chunk_tokens=CHUNK),
            "velocity": DiTConfig(
                kind="dit",
                dim=16,
                depth=2,
                num_heads=2,
                head_dim=12,
                conv_kernel=5,
                conv_groups=4,
            ),
        }
    ),
}
KINDS = tuple(CONFIGS)
NOISE = SeededNoise(CONFIG.n_mels)


@cache
def flow(kind: str = "unet") -> Flow:
    """Random weights; the library's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return Flow(CONFIGS[kind]).eval()


@cache
def network(backend: str, kind: str = "unet") -> TorchFlow | OnnxFlow:
    if backend == "torch":
        return TorchFlow(flow(kind))
    with TemporaryDirectory() as name:
        export_flow(flow(kind), Path(name))
        return OnnxFlow(Path(name), threads=1)


def tokens(count: int, seed: int = 0) -> TokenArray:
    return np.random.default_rng(seed).integers(0, VOCABULARY, count)


def prompt(count: int, seed: int = 1) -> FlowPrompt:
    """A voice with ``count`` tokens of speech."""
    generator = np.random.default_rng(seed)
    speaker = generator.standard_normal(CONFIG.speaker_dim).astype(np.float32)
    mel = generator.standard_normal((2 * count, CONFIG.n_mels)).astype(np.float32) * 2 - 4
    return FlowPrompt(speaker, tokens(count, seed), mel)


@torch.inference_mode()
def oracle(
    voice: FlowPrompt, speech: TokenArray, left_chunks: int | None = None, kind: str = "unet"
) -> FloatArray:
    """Frames of a whole utterance with streaming masks for every chunk, the last one too."""
    ids = torch.tensor(np.concatenate([voice.tokens, speech]))[None]
    count = ids.shape[1]
    masks = [chunk_mask(r * count, r * count, r * CHUNK, left_chunks) for r in (1, 2)]
    mu, _ = flow(kind).encoder(ids, chunk_mask=masks[0])
    assert voice.mel is not None
    cond = torch.zeros_like(mu)
    cond[0, : len(voice.mel)] = torch.tensor((voice.mel - CONFIG.mel_mean) / CONFIG.mel_std)
    speaker = flow(kind).speaker(torch.tensor(voice.speaker)[None])
    x = torch.tensor(NOISE.frames(0, 2 * count))[None]
    zero = torch.zeros_like(mu)
    for t, dt in euler_steps(CONFIG.num_steps):
        velocity, _ = flow(kind).velocity(
            x.expand(2, -1, -1),
            torch.cat([mu, zero]),
            torch.cat([speaker, torch.zeros_like(speaker)]),
            torch.cat([cond, zero]),
            torch.full((2,), t),
            chunk_mask=masks[1],
        )
        guided = (1 + CONFIG.cfg_rate) * velocity[:1] - CONFIG.cfg_rate * velocity[1:]
        x = x + dt * guided
    mel = x[0, len(voice.mel) :] * CONFIG.mel_std + CONFIG.mel_mean
    return np.asarray(mel)
