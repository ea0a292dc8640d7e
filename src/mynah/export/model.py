"""From trained modules to a complete model folder: graphs, tables, weights, manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from torch import nn

from mynah.config import ModelConfig
from mynah.export.shrink import Variant
from mynah.export.writer import ModelWriter, WeightsType
from mynah.networks.flow import Flow
from mynah.networks.language_model import SpeechLanguageModel
from mynah.networks.vocoder import HiFT
from mynah.types import Voice


def export_model(
    folder: Path,
    config: ModelConfig,
    lm: SpeechLanguageModel,
    flow: Flow,
    vocoder: HiFT,
    tokenizer: nn.Module | None = None,
    speaker_encoder: nn.Module | None = None,
    *,
    weights: bool | Literal["float16"] = True,
    variants: Mapping[str, Variant] | None = None,
    voices: Iterable[Voice] = (),
    files: Mapping[str, Path] | None = None,
) -> dict[str, float]:
    """Write a model folder; it is complete or as it was before.

    Args:
        folder: where to; an existing model there is replaced.
        config: of the model.
        lm: language model.
        flow: token encoder and velocity network.
        vocoder: mel to waveform.
        tokenizer: (B, T, 128) log-mel -> tokens (B, T // 4); None = the model makes no voices.
        speaker_encoder: (B, T, 80) filter bank -> (B, speaker_dim); None = the same.
        weights: also write what the torch backend reads, in float32 or float16.
        variants: how a graph is stored, by file name without suffix (``flow_velocity``), by its
            first word (``flow``), or ``*``; float32 where nothing matches. Under ``lm``, float16
            and int8 also store the embedding tables as float16.
        voices: come with the model, under their names.
        files: more files, by the name they get.

    Returns:
        largest absolute difference to torch on random input, for each graph; it is kept in
        ``manifest.json`` as ``max_abs_error`` beside ``variant``.

    Raises:
        InvalidRequestError: if ``variants`` names no graph.
        ModelFormatError: if a graph that was written cannot be loaded.
        OSError: if the folder cannot be written.
    """
    kept: WeightsType | None = "float32" if weights is True else weights or None
    errors: dict[str, float] = {}
    with ModelWriter(folder, config, variants=variants, weights=kept) as writer:
        for stage, module in (("lm", lm), ("flow", flow), ("vocoder", vocoder)):
            found = writer.add_stage(stage, module)
            errors |= {
                name: deviation.max_abs
                for name, deviation in found.items()
                if name.endswith(".onnx")
            }
        writer.add_encoders(tokenizer, speaker_encoder)
        writer.add_noise()
        writer.add_voices(voices)
        writer.add_files(files or {})
    return errors
