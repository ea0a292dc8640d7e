"""From trained modules to a complete model folder: graphs, tables, weights, manifest."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mynah.backends.registry import NOISE, WEIGHTS, build_torch_backend, load_backend
from mynah.config import ModelConfig
from mynah.errors import InvalidRequestError
from mynah.export.compare import compare_backends
from mynah.export.encoders import export_speaker_encoder, export_speech_tokenizer
from mynah.export.flow import export_flow
from mynah.export.lm import export_lm
from mynah.export.shrink import Variant, shrink
from mynah.export.vocoder import export_vocoder
from mynah.hub import CONFIG_NAME, write_manifest
from mynah.networks.flow import Flow
from mynah.networks.language_model import SpeechLanguageModel
from mynah.networks.vocoder import HiFT
from mynah.pipeline.voices import VOICE_SUFFIX, save_voice
from mynah.types import Voice

NOISE_SECONDS = 300
"""Length of the noise that the released models were made for."""


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
    folder.parent.mkdir(parents=True, exist_ok=True)
    modules: dict[str, nn.Module] = {"lm": lm, "flow": flow, "vocoder": vocoder}
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name:
        part = Path(name) / folder.name
        part.mkdir()
        (part / CONFIG_NAME).write_text(config.model_dump_json(indent=1) + "\n", encoding="utf-8")
        stored = _write_graphs(part, lm, flow, vocoder, tokenizer, speaker_encoder, variants or {})
        _write_tensors(part, config, modules if weights else {}, half=weights == "float16")
        for voice in voices:
            (part / "voices").mkdir(exist_ok=True)
            save_voice(voice, part / "voices" / f"{voice.name}{VOICE_SUFFIX}")
        for target, source in (files or {}).items():
            (part / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, part / target)
        errors = _errors(part, config, modules)
        _describe(part, stored, errors)
        for path in part.rglob("*"):  # safetensors makes its files private
            path.chmod(0o755 if path.is_dir() else 0o644)
        part.chmod(0o755)
        _replace(folder, part, Path(name) / "old")
    return errors


def _write_graphs(
    part: Path,
    lm: SpeechLanguageModel,
    flow: Flow,
    vocoder: HiFT,
    tokenizer: nn.Module | None,
    speaker_encoder: nn.Module | None,
    variants: Mapping[str, Variant],
) -> dict[str, Variant]:
    """Export and shrink; returns how each graph is stored."""
    half = _variant("lm", variants) != "float32"
    export_lm(lm, part, torch.float16 if half else torch.float32)
    export_flow(flow, part)
    export_vocoder(vocoder, part)
    if tokenizer is not None:
        export_speech_tokenizer(tokenizer, part)
    if speaker_encoder is not None:
        export_speaker_encoder(speaker_encoder, part)
    graphs = sorted(part.glob("*.onnx"))
    names = {path.stem for path in graphs}
    known = {"*", *names, *(name.split("_")[0] for name in names)}
    if unknown := sorted(set(variants) - known):
        raise InvalidRequestError(
            f"there are no graphs {', '.join(unknown)}", hint=f"known: {', '.join(sorted(known))}"
        )
    stored = {path.name: _variant(path.stem, variants) for path in graphs}
    for path in graphs:
        shrink(path, stored[path.name])
    return stored


def _variant(stem: str, variants: Mapping[str, Variant]) -> Variant:
    for key in (stem, stem.split("_")[0], "*"):
        if key in variants:
            return variants[key]
    return "float32"


def _write_tensors(
    part: Path, config: ModelConfig, modules: Mapping[str, nn.Module], *, half: bool
) -> None:
    if modules:
        tensors = {
            f"{stage}.{key}": _storable(value, half=half)
            for stage, module in modules.items()
            for key, value in module.state_dict().items()
        }
        save_file(tensors, part / WEIGHTS)
    if config.flow.noise == "torch":
        save_file({"noise": official_noise(config)}, part / NOISE)


def _storable(value: Tensor, *, half: bool) -> Tensor:
    value = value.detach().cpu().clone().contiguous()
    return value.half() if half and value.dtype == torch.float32 else value


def official_noise(config: ModelConfig) -> Tensor:
    """Noise as the official code draws it: torch's generator with seed 0, (frames, n_mels)."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, config.flow.n_mels, int(config.mel_rate * NOISE_SECONDS))
    return torch.randn(shape, generator=generator)[0].T.contiguous()


def _errors(part: Path, config: ModelConfig, modules: Mapping[str, nn.Module]) -> dict[str, float]:
    training = {name: module.training for name, module in modules.items()}
    devices = {name: next(module.parameters()).device for name, module in modules.items()}
    exact = build_torch_backend(dict(modules), torch.device("cpu"))
    try:
        return compare_backends(exact, load_backend(part, config), config)
    finally:
        for name, module in modules.items():
            module.to(devices[name]).train(training[name])


def _describe(part: Path, stored: Mapping[str, Variant], errors: Mapping[str, float]) -> None:
    """Write the manifest, with what is known about each graph."""
    path = write_manifest(part)
    entries = json.loads(path.read_text(encoding="utf-8"))
    for name, variant in stored.items():
        entries[name]["variant"] = variant
        if name in errors:
            entries[name]["max_abs_error"] = float(np.format_float_scientific(errors[name], 3))
    path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def _replace(folder: Path, part: Path, old: Path) -> None:
    if folder.exists():
        folder.rename(old)
    try:
        part.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
