"""Tiny random vocoders of both kinds, all backends on them, and the oracle: one whole decode."""

from __future__ import annotations

import atexit
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch

from mynah.backends.base import FloatArray
from mynah.backends.native.kernels import Threads, instruction_sets
from mynah.backends.native.vocoder import NativeVocoder, load_native_vocoder
from mynah.backends.onnx.vocoder import OnnxVocoder
from mynah.backends.torch.vocoder import TorchVocoder
from mynah.config import VocoderConfig
from mynah.export.vocoder import export_vocoder
from mynah.networks.vocoder import HiFT
from mynah.pipeline.harmonics import harmonics
from mynah.pipeline.pulses import pulses

SAMPLE_RATE = 8000
# the kernels are optional; tests/unit/backends/test_native_vocoder.py says so when they are missing
BACKENDS = ("torch", "onnx", *(("native",) if instruction_sets() else ()))
CONFIGS = {
    "polar": VocoderConfig(
        n_mels=8,
        base_channels=16,
        num_harmonics=3,
        upsample_rates=(3, 2),
        upsample_kernel_sizes=(7, 4),
        n_fft=16,
        hop_length=4,
        resblock_kernel_sizes=(3, 5),
        resblock_dilations=((1, 2), (1, 3)),
        source_resblock_kernel_sizes=(5, 3),
        source_resblock_dilations=((1,), (1, 2)),
        f0_channels=12,
    ),
    "source_filter": VocoderConfig(
        head="source_filter",
        mel_mean=-4.0,
        mel_std=2.0,
        n_mels=8,
        base_channels=16,
        num_harmonics=0,
        sine_amplitude=0.05,
        noise_std=0.1,
        upsample_rates=(2,),
        upsample_kernel_sizes=(4,),
        n_fft=32,
        hop_length=16,
        resblock_kernel_sizes=(3,),
        resblock_dilations=((1, 2),),
        source_resblock_kernel_sizes=(3,),
        source_resblock_dilations=((1,),),
        f0_channels=12,
    ),
}
CONFIGS["causal"] = CONFIGS["polar"].model_copy(
    update={
        "is_causal": True,
        "lookahead_frames": 4,
        "f0_lookahead_frames": 3,
        "f0_float64": True,
        "sine_phase": "frame_hold",
        "sine_noise": "uniform",
    }
)
CONFIGS["sample"] = CONFIGS["polar"].model_copy(update={"sine_phase": "sample"})
KINDS = tuple(CONFIGS)


@cache
def vocoder(kind: str) -> HiFT:
    """Random weights that make voiced and unvoiced frames and quiet sound."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        module = HiFT(CONFIGS[kind])
        module.f0_predictor.output.weight *= 2500
        module.f0_predictor.output.bias.fill_(20.0)
        module.source_filter.apply(_louder)
        module.head.apply(_louder)
        return module.eval().requires_grad_(False)


def _louder(module: torch.nn.Module) -> None:
    if isinstance(module, (torch.nn.Conv1d, torch.nn.Linear)):
        module.weight *= 3


@cache
def network(kind: str, backend: str) -> TorchVocoder | OnnxVocoder | NativeVocoder:
    if backend == "torch":
        return TorchVocoder(vocoder(kind))
    return native(kind) if backend == "native" else OnnxVocoder(exported(kind), threads=1)


@cache
def native(kind: str, instruction_set: str = "") -> NativeVocoder:
    """With two threads, and kernels for the processor or for less."""
    return load_native_vocoder(exported(kind), CONFIGS[kind], Threads(2, instruction_set))


@cache
def exported(kind: str) -> Path:
    """Folder with the graphs; nobody writes into it."""
    folder = Path(mkdtemp())
    atexit.register(shutil.rmtree, folder)
    export_vocoder(vocoder(kind), folder)
    return folder


def mel(kind: str, frames: int, seed: int = 0) -> FloatArray:
    noise = np.random.default_rng(seed).standard_normal((frames, CONFIGS[kind].n_mels))
    return (noise * 2 - 4).astype(np.float32)


def oracle(kind: str, backend: str, frames: FloatArray, seed: int | None) -> FloatArray:
    """Samples of a whole utterance, every network run once on all of it."""
    net, config = network(kind, backend), CONFIGS[kind]
    if not len(frames):
        return np.zeros(0, np.float32)
    noise = None if seed is None else np.random.default_rng(seed)
    make = harmonics if config.head == "polar" else pulses
    waves = make(config, net.f0(frames), SAMPLE_RATE, noise)
    return net.decode(frames, net.excitation(waves))
