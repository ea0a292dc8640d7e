"""Export of the speech language model: the trunk as a graph, embedding tables as tensors.

Embeddings stay outside the graph: a lookup is one line of NumPy, and a mapped file needs no memory
for rows that are never read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mynah.export.blocks import Array
from mynah.export.graph import export_graph
from mynah.export.lm_graph import LMVariant, write_lm_graph
from mynah.networks.language_model import SpeechLanguageModel, TextPointer

LM_GRAPH = "lm.onnx"
LM_EMBEDDINGS = "lm_embeddings.safetensors"
POINTER_FEATURES_GRAPH = "lm_pointer_features.onnx"
POINTER_ADVANCE_GRAPH = "lm_pointer_advance.onnx"

_TABLES = ("text_embedding.", "speech_embedding.", "marker_embedding.", "speaker_affine.")
_TEXT_TABLE, _TEXT_SCALE = "text_embedding.weight", "text_embedding.scale"
_SMALL_TABLES = ("int8", "int8_rows", "int4")
_CODE_MAX = 127
_TINY = 1e-12


class _Arrays(Mapping[str, Array]):
    """A module's tensors as arrays, one at a time."""

    def __init__(self, module: nn.Module) -> None:
        self._tensors = module.state_dict()

    def __getitem__(self, name: str) -> Array:
        array: Array = self._tensors[name].detach().float().cpu().numpy()
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


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


def export_lm(module: SpeechLanguageModel, folder: Path, variant: LMVariant = "float32") -> None:
    """Write everything the ONNX backend needs of a language model into ``folder``."""
    export_lm_graph(module, folder / LM_GRAPH, variant)
    export_lm_embeddings(module, folder / LM_EMBEDDINGS, table_dtype(variant))
    if module.pointer is not None:
        export_lm_pointer_features(module, folder / POINTER_FEATURES_GRAPH)
        export_lm_pointer_advance(module, folder / POINTER_ADVANCE_GRAPH)


def export_lm_graph(
    module: SpeechLanguageModel, path: Path, variant: LMVariant = "float32"
) -> None:
    """Write the trunk and the speech head; see ``write_lm_graph``."""
    write_lm_graph(_Arrays(module), module.config, path, variant)


def table_dtype(variant: str) -> torch.dtype:
    """How embedding tables are stored beside a graph in ``variant``."""
    if variant in _SMALL_TABLES:
        return torch.int8
    return torch.float32 if variant == "float32" else torch.float16


def export_lm_embeddings(module: nn.Module, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the embedding tables and the speaker projection.

    ``dtype``: float32, float16, or int8, which means the text table in eight bits with one scale
    per row and the others in float16: most of its rows are never used, but all are downloaded.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tables = {
        key: value.detach().cpu()
        for key, value in module.state_dict().items()
        if key.startswith(_TABLES)
    }
    if dtype == torch.int8:
        rows = tables.pop(_TEXT_TABLE).float()
        scale = rows.abs().amax(dim=1).clamp(min=_TINY) / _CODE_MAX
        tables = {key: value.half() for key, value in tables.items()}
        tables[_TEXT_TABLE] = (rows / scale[:, None]).round().to(torch.int8)
        tables[_TEXT_SCALE] = scale
    else:
        tables = {key: value.to(dtype) for key, value in tables.items()}
    save_file({key: value.contiguous() for key, value in tables.items()}, str(path))


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
