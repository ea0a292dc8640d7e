"""A tiny random flow of CosyVoice 1's kind, behind both backends."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from mynah.backends.base import FloatArray, RegulatedFlowNetwork, TokenArray
from mynah.backends.onnx.regulated_flow import OnnxRegulatedFlow
from mynah.backends.torch.flow import TorchRegulatedFlow
from mynah.config import (
    FlowConfig,
    LMConfig,
    MelConfig,
    ModelConfig,
    RegulatedEncoderConfig,
    VelocityConfig,
    VocoderConfig,
)
from mynah.export.flow_regulated import export_regulated_flow
from mynah.networks.flow import Flow
from mynah.pipeline.flow import FlowPrompt
from mynah.pipeline.noise import SeededNoise
from mynah.pipeline.windowed_flow import WindowedFlowStage

VOCABULARY = 50
FIRST, CHUNK, OVERLAP = 9, 14, 4
BACKENDS = ("torch", "onnx")

CONFIG = ModelConfig(
    model_id="tiny-windows",
    family="cosyvoice1",
    languages=("en",),
    text_frontend="whisper-bpe",
    token_rate=50,
    sample_rate=22050,
    lm=LMConfig(
        text_vocab_size=10,
        hidden_size=8,
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
        head_dim=8,
        intermediate_size=8,
        speech_vocab_size=VOCABULARY,
    ),
    flow=FlowConfig(
        speech_vocab_size=VOCABULARY,
        input_size=16,
        n_mels=8,
        speaker_dim=12,
        encoder=RegulatedEncoderConfig(
            kind="regulated_conformer",
            dim=16,
            num_heads=2,
            feed_forward=24,
            num_blocks=2,
            num_regulator_convs=2,
            edge_tokens=OVERLAP,
            first_chunk_tokens=FIRST,
            chunk_tokens=CHUNK,
            overlap_tokens=OVERLAP,
        ),
        velocity=VelocityConfig(
            is_causal=False,
            channels=16,
            num_heads=2,
            head_dim=12,
            transformers_per_block=1,
            num_mid_blocks=1,
        ),
        token_mel_ratio=None,
        num_steps=3,
        mel_mean=-4.0,
        mel_std=2.0,
        noise="numpy",
    ),
    vocoder=VocoderConfig(
        n_mels=8,
        base_channels=16,
        upsample_rates=(8, 8),
        upsample_kernel_sizes=(16, 16),
        source_resblock_kernel_sizes=(3, 3),
        source_resblock_dilations=((1,), (1,)),
        sine_phase="sample",
    ),
    mel=MelConfig(sample_rate=22050, n_fft=1024, hop_length=256, win_length=1024, n_mels=8),
)
NOISE = SeededNoise(CONFIG.flow.n_mels)


@cache
def flow() -> Flow:
    """Random weights; the library's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return Flow(CONFIG.flow).eval()


@cache
def network(backend: str) -> RegulatedFlowNetwork:
    if backend == "torch":
        return TorchRegulatedFlow(flow())
    with TemporaryDirectory() as name:
        export_regulated_flow(flow(), Path(name))
        return OnnxRegulatedFlow(Path(name), threads=1)


def stage(backend: str) -> WindowedFlowStage:
    return WindowedFlowStage(network(backend), CONFIG, NOISE)


def tokens(count: int, seed: int = 0) -> TokenArray:
    return np.random.default_rng(seed).integers(0, VOCABULARY, count)


def prompt(count: int, seed: int = 1) -> FlowPrompt:
    """A voice with ``count`` tokens of speech."""
    generator = np.random.default_rng(seed)
    speaker = generator.standard_normal(CONFIG.flow.speaker_dim).astype(np.float32)
    shape = (CONFIG.num_frames(count), CONFIG.flow.n_mels)
    mel: FloatArray = generator.standard_normal(shape).astype(np.float32) * 2 - 4
    return FlowPrompt(speaker, tokens(count, seed), mel)
