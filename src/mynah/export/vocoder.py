"""Export of the vocoder: F0 predictor and decoder as graphs, the source filter as tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mynah.backends.native.vocoder_weights import numbered_decode_names, numbered_f0_names
from mynah.export.graph import export_graph, name_weights
from mynah.export.vocoder_f0 import F0InDouble
from mynah.networks.harmonic_source import Excitation
from mynah.networks.vocoder import HiFT

VOCODER_F0_GRAPH = "vocoder_f0.onnx"
VOCODER_DECODE_GRAPH = "vocoder_decode.onnx"
VOCODER_SOURCE = "vocoder_source.safetensors"

# Different from every layer size that could stand in for it.
_EXAMPLE_FRAMES = 9


class _F0(nn.Module):
    def __init__(self, vocoder: HiFT) -> None:
        super().__init__()
        self.vocoder = vocoder

    def forward(self, mel: Tensor, mask: Tensor) -> Tensor:
        return self.vocoder.f0(mel, mask)


def export_vocoder(module: HiFT, folder: Path) -> None:
    """Write everything the ONNX backend needs of a vocoder into ``folder``."""
    export_vocoder_f0(module, folder / VOCODER_F0_GRAPH)
    export_vocoder_decode(module, folder / VOCODER_DECODE_GRAPH)
    export_vocoder_source(module, folder / VOCODER_SOURCE)


def export_vocoder_f0(module: HiFT, path: Path) -> None:
    """Write mel (1, F, n_mels), mask (1, F) of frames that exist -> f0 (1, F) in Hz."""
    mel = torch.zeros(1, _EXAMPLE_FRAMES, module.config.n_mels)
    network = F0InDouble(module.f0_predictor) if module.config.f0_float64 else _F0(module)
    inputs = {"mel": mel, "mask": torch.ones(1, _EXAMPLE_FRAMES)}
    dynamic = {name: {1: "frames"} for name in ("mel", "mask", "f0")}
    export_graph(network, inputs, ["f0"], path, dynamic)
    name_weights(path, numbered_f0_names(module.config))


def export_vocoder_decode(module: HiFT, path: Path) -> None:
    """Write mel (1, F, n_mels), source (1, N) or (1, N, 2), crops -> audio (1, N).

    ``crops`` is an input of networks with several stages, see ``HiFT.decode``.
    """
    config = module.config
    samples = _EXAMPLE_FRAMES * config.samples_per_frame
    shape = (1, samples) if config.head == "polar" else (1, samples, 2)
    inputs = {"mel": torch.zeros(1, _EXAMPLE_FRAMES, config.n_mels), "source": torch.zeros(shape)}
    ends = np.cumprod(config.upsample_rates)[:-1] * _EXAMPLE_FRAMES
    if len(ends):
        inputs["crops"] = torch.tensor([[0, end] for end in ends.tolist()])
    export_graph(
        module,
        inputs,
        ["audio"],
        path,
        {"mel": {1: "frames"}, "source": {1: "samples"}, "audio": {1: "samples"}},
    )
    name_weights(path, numbered_decode_names(config))


def export_vocoder_source(module: HiFT, path: Path) -> None:
    """Write the mix of harmonics: weight (1, num_harmonics + 1), bias (1,).

    A head that keeps pulses and noise apart has no such weights: the file holds no tensors.
    """
    tensors = {}
    if isinstance(module.source_filter, Excitation):
        linear = module.source_filter.linear
        tensors = {"weight": linear.weight, "bias": linear.bias}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, path)
