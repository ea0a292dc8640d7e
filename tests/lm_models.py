"""Tiny random language models for tests, in both backends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mynah.backends.base import SpeechLM
from mynah.backends.onnx.language_model import OnnxSpeechLM
from mynah.backends.torch.language_model import TorchSpeechLM
from mynah.config import LMConfig, PointerConfig
from mynah.export.lm import export_lm
from mynah.networks.language_model import SpeechLanguageModel
from mynah.pipeline.prompt import LMPrompt

KINDS = ("plain", "speaker", "pointer", "pointer-speaker")
BACKENDS = ("torch", "onnx")
SPEAKER_DIM = 12


def tiny_config(kind: str) -> LMConfig:
    """A two-layer model; grouped keys without a pointer, equal heads with one."""
    pointer = "pointer" in kind
    return LMConfig(
        text_vocab_size=40,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=4 if pointer else 2,
        head_dim=8,
        intermediate_size=48,
        speech_vocab_size=50,
        speaker_dim=SPEAKER_DIM if "speaker" in kind else None,
        reads_prompt_speech=not pointer,
        pointer=PointerConfig(forced_advance=5, forced_advance_pause=8) if pointer else None,
    )


def tiny_module(kind: str) -> SpeechLanguageModel:
    """Random weights, the same at every call."""
    torch.manual_seed(3)
    return SpeechLanguageModel(tiny_config(kind)).eval()


def tiny_backends(kind: str, folder: Path) -> dict[str, SpeechLM]:
    """The same weights behind both backends."""
    module = tiny_module(kind)
    export_lm(module, folder)
    return {"torch": TorchSpeechLM(module), "onnx": OnnxSpeechLM(folder, module.config, 1)}


def tiny_prompt(kind: str, seed: int, num_text: int = 6) -> LMPrompt:
    """A prompt with everything that this kind of model can read."""
    rng = np.random.default_rng(seed)
    speaker = rng.standard_normal(SPEAKER_DIM).astype(np.float32)
    return LMPrompt(
        mode="cross_lingual" if "pointer" in kind else "zero_shot",
        text=rng.integers(0, 40, num_text),
        prompt_text=rng.integers(0, 40, 4),
        prompt_speech=rng.integers(0, 50, 7),
        speaker=speaker if "speaker" in kind else None,
    )
