"""Export of speech tokenizer and speaker encoder, with the inputs of the official files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mynah.backends.encoders import SPEAKER_GRAPHS, TOKENIZER_GRAPH
from mynah.export.graph import export_graph

_FRAMES = 92  # a multiple of four that no layer size equals


class _Tokenizer(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, feats: Tensor, feats_length: Tensor) -> Tensor:
        frames = feats[:, :, : feats_length[0].long()]
        tokens: Tensor = self.network(frames.transpose(1, 2))
        return tokens


def export_speech_tokenizer(network: nn.Module, folder: Path, n_mels: int = 128) -> None:
    """Write feats (1, n_mels, T), feats_length (1,) int32 -> tokens (1, T // 4).

    ``network`` maps (B, T, n_mels) to tokens.
    """
    inputs = {
        "feats": torch.zeros(1, n_mels, _FRAMES),
        "feats_length": torch.tensor([_FRAMES], dtype=torch.int32),
    }
    dynamic = {"feats": {2: "frames"}, "tokens": {1: "tokens"}}
    export_graph(_Tokenizer(network), inputs, ["tokens"], folder / TOKENIZER_GRAPH, dynamic)


def export_speaker_encoder(network: nn.Module, folder: Path, bands: int = 80) -> None:
    """Write input (1, T, bands) -> output (1, speaker_dim)."""
    inputs = {"input": torch.zeros(1, _FRAMES, bands)}
    path = folder / SPEAKER_GRAPHS[0]
    export_graph(network, inputs, ["output"], path, {"input": {1: "frames"}})
