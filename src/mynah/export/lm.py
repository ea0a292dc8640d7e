"""Export of the speech language model: the trunk as a graph, embedding tables as tensors.

Embeddings stay outside the graph: a lookup is one line of NumPy, and a mapped file needs no memory
for rows that are never read.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mynah.export.graph import export_graph
from mynah.networks.language_model import PAST, SpeechLanguageModel, TextPointer

LM_GRAPH = "lm.onnx"
LM_EMBEDDINGS = "lm_embeddings.safetensors"
POINTER_FEATURES_GRAPH = "lm_pointer_features.onnx"
POINTER_ADVANCE_GRAPH = "lm_pointer_advance.onnx"

_TABLES = ("text_embedding.", "speech_embedding.", "marker_embedding.", "speaker_affine.")


class _Trunk(nn.Module):
    """The trunk with the state as a tensor, scoring only the last position."""

    def __init__(self, lm: SpeechLanguageModel) -> None:
        super().__init__()
        self.lm = lm

    def forward(self, inputs_embeds: Tensor, past: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden, new = self.lm(inputs_embeds, {PAST: past})
        last = hidden[:, -1]
        return self.lm.logits(last), last, new[PAST]


class _PointerFeatures(nn.Module):
    def __init__(self, pointer: TextPointer) -> None:
        super().__init__()
        self.pointer = pointer

    def forward(self, text_embeddings: Tensor, position: Tensor, dwell: Tensor) -> Tensor:
        return self.pointer.features(text_embeddings, position, dwell)


class _PointerAdvance(nn.Module):
    def __init__(self, pointer: TextPointer) -> None:
        super().__init__()
        self.pointer = pointer

    def forward(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        return self.pointer.advance_logits(hidden, tokens)


def export_lm(
    module: SpeechLanguageModel, folder: Path, table_dtype: torch.dtype = torch.float32
) -> None:
    """Write everything the ONNX backend needs of a language model into ``folder``."""
    export_lm_graph(module, folder / LM_GRAPH)
    export_lm_embeddings(module, folder / LM_EMBEDDINGS, table_dtype)
    if module.pointer is not None:
        export_lm_pointer_features(module, folder / POINTER_FEATURES_GRAPH)
        export_lm_pointer_advance(module, folder / POINTER_ADVANCE_GRAPH)


def export_lm_graph(module: SpeechLanguageModel, path: Path) -> None:
    """Write the trunk.

    inputs_embeds (1, T, D) and past_kv -> logits (1, V) and hidden (1, D) of the last position,
    new_past_kv.
    """
    width = module.config.hidden_size
    with torch.no_grad():
        _, past = module(torch.zeros(1, 3, width))
    export_graph(
        _Trunk(module),
        {"inputs_embeds": torch.zeros(1, 2, width), PAST: past[PAST]},
        ["logits", "hidden", f"new_{PAST}"],
        path,
        {"inputs_embeds": {1: "time"}, PAST: {0: "past"}, f"new_{PAST}": {0: "time"}},
    )


def export_lm_embeddings(
    module: SpeechLanguageModel, path: Path, dtype: torch.dtype = torch.float32
) -> None:
    """Write the embedding tables and the speaker projection; ``dtype`` float32 or float16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tables = {
        key: value.detach().to(dtype).contiguous()
        for key, value in module.state_dict().items()
        if key.startswith(_TABLES)
    }
    save_file(tables, str(path))


def export_lm_pointer_features(module: SpeechLanguageModel, path: Path) -> None:
    """Write text_embeddings (1, N, D), position (1, T), dwell (1, T) -> features (1, T, D)."""
    index = torch.zeros(1, 2, dtype=torch.int64)
    export_graph(
        _PointerFeatures(_pointer(module)),
        {
            "text_embeddings": torch.zeros(1, 5, module.config.hidden_size),
            "position": index,
            "dwell": index.clone(),
        },
        ["features"],
        path,
        {
            "text_embeddings": {1: "text"},
            "position": {1: "time"},
            "dwell": {1: "time"},
            "features": {1: "time"},
        },
    )


def export_lm_pointer_advance(module: SpeechLanguageModel, path: Path) -> None:
    """Write hidden (B, D), tokens (B,) -> logits (B, max_advance + 2)."""
    export_graph(
        _PointerAdvance(_pointer(module)),
        {
            "hidden": torch.zeros(2, module.config.hidden_size),
            "tokens": torch.zeros(2, dtype=torch.int64),
        },
        ["logits"],
        path,
        {"hidden": {0: "batch"}, "tokens": {0: "batch"}, "logits": {0: "batch"}},
    )


def _pointer(module: SpeechLanguageModel) -> TextPointer:
    if module.pointer is None:
        raise ValueError("this language model has no pointer")
    return module.pointer
