"""Export of CosyVoice 1's language model: text encoder and trunk as graphs, tables as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mynah.export.graph import export_graph
from mynah.export.lm import LM_EMBEDDINGS, LM_GRAPH, export_lm_embeddings
from mynah.networks.relative_language_model import RelativeLanguageModel
from mynah.networks.state import Tape

TEXT_ENCODER_GRAPH = "lm_text_encoder.onnx"

_ROW_PARTS = ("key", "value", "distance")

# Example sizes differ from each other and from 1, so that the tracer takes none for another.
_TEXT, _NEW, _PAST_ROWS = 6, 2, 3


class _Parts(Tape):
    """Rows layer by layer and part by part, (positions, B, H, head_dim): no copies in a graph."""

    def __init__(self, past: Sequence[Tensor]) -> None:
        super().__init__(None)
        self._past = past
        self.made: list[Tensor] = []

    def extend(self, name: str, *parts: Tensor) -> tuple[Tensor, ...]:
        first = len(self.made)
        self.made += [part.transpose(0, 1) for part in parts]
        pairs = zip(self._past[first:], self.made[first:], strict=False)
        return tuple(torch.cat(pair).permute(1, 2, 0, 3) for pair in pairs)

    def past_length(self, name: str) -> int:
        return self._past[0].shape[0]


class _Trunk(nn.Module):
    """The trunk with a layer's state as three tensors, scoring only the last position."""

    def __init__(self, lm: RelativeLanguageModel) -> None:
        super().__init__()
        self.lm = lm

    def forward(self, inputs_embeds: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        tape = _Parts(past)
        last = self.lm.trunk(inputs_embeds, tape)[:, -1]
        return self.lm.logits(last), last, *tape.made


def export_relative_lm(
    module: RelativeLanguageModel, folder: Path, table_dtype: torch.dtype = torch.float32
) -> None:
    """Write everything the ONNX backend needs of a language model into ``folder``."""
    export_text_encoder(module, folder / TEXT_ENCODER_GRAPH)
    export_relative_trunk(module, folder / LM_GRAPH)
    export_lm_embeddings(module, folder / LM_EMBEDDINGS, table_dtype)


def export_text_encoder(module: RelativeLanguageModel, path: Path) -> None:
    """Write embedded (1, N, input_size), rows of the text table -> text (1, N, D)."""
    export_graph(
        module.text_encoder,
        {"embedded": torch.zeros(1, _TEXT, module.text_embedding.embedding_dim)},
        ["text"],
        path,
        {"embedded": {1: "length"}, "text": {1: "length"}},
    )


def export_relative_trunk(module: RelativeLanguageModel, path: Path) -> None:
    """Write the trunk.

    inputs_embeds (1, T, D) and, for each layer, past_key_00, past_value_00 and past_distance_00
    (S, 1, heads, head_dim) -> logits (1, V) and hidden (1, D) of the last position, new_past_...
    """
    config = module.config
    weight = module.speech_head.weight
    size = config.hidden_size // config.num_heads
    rows = weight.new_zeros(_PAST_ROWS, 1, config.num_heads, size)
    layers = range(config.num_layers)
    keys = [f"past_{part}_{layer:02}" for layer in layers for part in _ROW_PARTS]
    export_graph(
        _Trunk(module),
        {"inputs_embeds": weight.new_zeros(1, _NEW, config.hidden_size)}
        | {key: rows.clone() for key in keys},
        ["logits", "hidden", *(f"new_{key}" for key in keys)],
        path,
        {"inputs_embeds": {1: "time"}}
        | {key: {0: "past"} for key in keys}
        | {f"new_{key}": {0: "time"} for key in keys},
    )
