"""Writing a model folder stage by stage: never more than one stage in memory."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mynah.backends.registry import (
    NOISE,
    STAGES,
    WEIGHTS,
    native_stage,
    onnx_stages,
    torch_stage,
)
from mynah.config import ModelConfig
from mynah.errors import ConversionError, InvalidRequestError
from mynah.export.compare import Deviation, Probe, deviations, probe
from mynah.export.encoders import export_speaker_encoder, export_speech_tokenizer
from mynah.export.merge import merge_safetensors
from mynah.export.shrink import Variant, shrink
from mynah.export.stages import export_any_flow, export_language_model
from mynah.export.vocoder import export_vocoder
from mynah.hub import CONFIG_NAME, CONVERSION, MANIFEST_NAME, write_manifest
from mynah.pipeline.voices import VOICE_SUFFIX, save_voice
from mynah.types import Voice

NOISE_SECONDS = 300
"""Length of the noise that the released models were made for."""

WeightsType: TypeAlias = Literal["float32", "float16", "bfloat16"]

LIMITS: Mapping[str, float] = {
    "float32": 2e-3,
    "float16": 3e-2,
    "bfloat16": 1e-1,
    "int8": 0.3,
    "int8_rows": 0.3,
    "int8_weights": 0.3,
    "int4": 0.6,
}
"""Largest relative deviation from torch that still is a rounding error, by the way of storing."""

_log = logging.getLogger(__name__)
_DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


class ModelWriter:
    """Makes a model folder beside its final place; it takes that place when the block ends well.

    Example:
        >>> with ModelWriter(folder, config) as writer:
        ...     writer.add_stage("lm", language_model)
        ...     writer.add_stage("flow", flow)
        ...     writer.add_stage("vocoder", vocoder)
    """

    def __init__(
        self,
        folder: Path,
        config: ModelConfig,
        *,
        variants: Mapping[str, Variant] | None = None,
        graphs: bool = True,
        weights: WeightsType | None = "float32",
        limits: Mapping[str, float] | None = None,
        threads: int = 1,
    ) -> None:
        """Choose what is written.

        Args:
            folder: where to; an existing model there is replaced.
            config: of the model.
            variants: how a graph is stored, see ``export_model``.
            graphs: write what the ONNX backend reads.
            weights: write what the torch backend reads, in this type.
            limits: largest relative deviation by variant; None = any.
            threads: for running the graphs that are checked.
        """
        self.config = config
        self._folder = folder
        self._variants = dict(variants or {})
        self._graphs = graphs
        self._weights = weights
        self._limits = limits
        self._threads = threads
        self._entries: dict[str, dict[str, Any]] = {}
        self._conversion: Mapping[str, Any] | None = None

    def __enter__(self) -> Self:
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._scratch = tempfile.TemporaryDirectory(
            prefix=f".{self._folder.name}.", dir=self._folder.parent
        )
        self.part = Path(self._scratch.name) / self._folder.name
        self.part.mkdir()
        self._write_config()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._scratch:
            if kind is None:
                self._finish()

    def set_config(self, config: ModelConfig) -> None:
        """Replace the configuration, by one that differs in what stages do not read."""
        self.config = config
        self._write_config()

    def set_conversion(self, record: Mapping[str, Any]) -> None:
        """Note in the manifest what the model was made from."""
        self._conversion = record

    def add_stage(self, stage: str, module: nn.Module) -> dict[str, Deviation]:
        """Write ``lm``, ``flow`` or ``vocoder``, and measure how far the result is from torch.

        Raises:
            ConversionError: if a result is farther than ``limits`` allow.
            ModelFormatError: if a graph that was written cannot be loaded.
        """
        with _unchanged(module), torch.no_grad():
            exact = probe(stage, torch_stage(stage, module.cpu()), self.config)
            found: dict[str, Deviation] = {}
            if self._graphs:
                found = self._add_graphs(stage, module, exact)
            if self._weights is not None:
                rounded = self._add_weights(stage, module, exact)
                found = {**rounded, **found}
        return found

    def add_encoders(self, tokenizer: nn.Module | None, speaker_encoder: nn.Module | None) -> None:
        """Write the networks that make voices, from torch modules."""
        if tokenizer is not None:
            export_speech_tokenizer(tokenizer, self.part)
        if speaker_encoder is not None:
            export_speaker_encoder(speaker_encoder, self.part)
        for path in sorted(self.part.glob("*.onnx")):
            if path.name not in self._entries:
                self._store(path)

    def add_noise(self) -> None:
        """Write the flow's initial noise, if this model has it in a file."""
        if self.config.flow.noise == "torch":
            save_file({"noise": official_noise(self.config)}, self.part / NOISE)

    def add_voices(self, voices: Iterable[Voice]) -> None:
        """Write voices that come with the model."""
        for voice in voices:
            (self.part / "voices").mkdir(exist_ok=True)
            save_voice(voice, self.part / "voices" / f"{voice.name}{VOICE_SUFFIX}")

    def add_files(self, files: Mapping[str, Path]) -> None:
        """Copy files, by the name they get."""
        for target, source in files.items():
            (self.part / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, self.part / target)

    def check_variants(self) -> None:
        """Refuse variants of graphs that were not written.

        Raises:
            InvalidRequestError: naming them.
        """
        names = {path.stem for path in self.part.glob("*.onnx")}
        known = {"*", *names, *(name.split("_")[0] for name in names)}
        if unknown := sorted(set(self._variants) - known):
            raise InvalidRequestError(
                f"there are no graphs {', '.join(unknown)}",
                hint=f"known: {', '.join(sorted(known))}",
            )

    def _write_config(self) -> None:
        text = self.config.model_dump_json(indent=1) + "\n"
        (self.part / CONFIG_NAME).write_text(text, encoding="utf-8")

    def _add_graphs(self, stage: str, module: nn.Module, exact: Probe) -> dict[str, Deviation]:
        before = set(self.part.glob("*.onnx"))
        _EXPORTERS[stage](module, self.part, self._variant(_LARGEST[stage]))
        for path in sorted(set(self.part.glob("*.onnx")) - before):
            self._store(path)
        load = onnx_stages(self.part, self.config, self._threads)[stage]
        found = deviations(exact, probe(stage, load(), self.config))
        for name, deviation in found.items():
            entry = self._entries[name]
            self._note(name, entry, deviation)
        self._note_native(stage, exact)
        return found

    def _note_native(self, stage: str, exact: Probe) -> None:
        """The same for the native kernels, where they run the stage: their sums are others."""
        load = native_stage(stage, self.part, self.config, self._threads)
        if load is None:
            return
        for name, deviation in deviations(exact, probe(stage, load(), self.config)).items():
            _log.info("%s, native: %s", name, deviation)
            entry = self._entries[name]
            entry["native_relative_error"] = _rounded(deviation.relative)
            if deviation.same_token is not None:
                entry["native_token_agreement"] = _rounded(deviation.same_token)

    def _store(self, path: Path) -> None:
        variant = self._variant(path.stem)
        shrink(path, variant)
        self._entries[path.name] = {"variant": variant}

    def _variant(self, stem: str) -> Variant:
        for key in (stem, stem.split("_")[0], "*"):
            if key in self._variants:
                return self._variants[key]
        return "float32"

    def _add_weights(self, stage: str, module: nn.Module, exact: Probe) -> dict[str, Deviation]:
        """Store the weights; returns what their rounding changes, nothing for float32."""
        assert self._weights is not None
        # Errors of F0 and of the phase add up, and the vocoder is a small part: never rounded.
        dtype = torch.float32 if stage == "vocoder" else _DTYPES[self._weights]
        tensors = {
            f"{stage}.{key}": _storable(value, dtype) for key, value in module.state_dict().items()
        }
        save_file(tensors, self._stage_weights(stage))
        entry = self._entries.setdefault(WEIGHTS, {"variant": self._weights})
        if dtype == torch.float32:
            return {}
        module.load_state_dict({key.removeprefix(f"{stage}."): v for key, v in tensors.items()})
        found = deviations(exact, probe(stage, torch_stage(stage, module), self.config))
        for name, deviation in found.items():
            self._note(f"{WEIGHTS} ({name})", entry, deviation)
        return {f"{WEIGHTS}:{stage}": value for value in found.values()}

    def _note(self, name: str, entry: dict[str, Any], deviation: Deviation) -> None:
        """Keep the larger deviation of an entry, and refuse one that is no rounding error."""
        _log.info("%s: %s", name, deviation)
        for key, value in (
            ("max_abs_error", deviation.max_abs),
            ("relative_error", deviation.relative),
        ):
            entry[key] = max(entry.get(key, 0.0), _rounded(value))
        if deviation.same_token is not None:
            entry["token_agreement"] = _rounded(deviation.same_token)
        if self._limits is None:
            return
        limit = self._limits[entry["variant"]]
        if not deviation.relative <= limit:  # not a number is refused, too
            raise ConversionError(
                f"{name} as {entry['variant']} deviates from the released weights by "
                f"{deviation.relative:.3g} of their output, more than {limit:g}",
                hint="convert with --variant float32, and report this model and this message",
            )

    def _stage_weights(self, stage: str) -> Path:
        return self.part / f".{stage}.safetensors"

    def _finish(self) -> None:
        self.check_variants()
        parts = [path for name in STAGES if (path := self._stage_weights(name)).exists()]
        if parts:
            merge_safetensors(parts, self.part / WEIGHTS)
        for path in parts:
            path.unlink()
        self._write_manifest()
        for path in self.part.rglob("*"):  # safetensors makes its files private
            path.chmod(0o755 if path.is_dir() else 0o644)
        self.part.chmod(0o755)
        _replace(self._folder, self.part, Path(self._scratch.name) / "old")

    def _write_manifest(self) -> None:
        path = write_manifest(self.part)
        entries = json.loads(path.read_text(encoding="utf-8"))
        for name, facts in self._entries.items():
            entries[name] |= facts
        if self._conversion is not None:
            entries[CONVERSION] = dict(self._conversion)
        target = self.part / MANIFEST_NAME
        target.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def official_noise(config: ModelConfig) -> Tensor:
    """Noise as the official code draws it: torch's generator with seed 0, (frames, n_mels)."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, config.flow.n_mels, int(config.mel_rate * NOISE_SECONDS))
    return torch.randn(shape, generator=generator)[0].T.contiguous()


def _export_lm(module: Any, folder: Path, variant: Variant) -> None:
    export_language_model(module, folder, variant)


def _export_flow(module: Any, folder: Path, variant: Variant) -> None:
    export_any_flow(module, folder, variant)


def _export_vocoder(module: Any, folder: Path, variant: Variant) -> None:
    export_vocoder(module, folder)


_EXPORTERS: Mapping[str, Callable[[Any, Path, Variant], None]] = {
    "lm": _export_lm,
    "flow": _export_flow,
    "vocoder": _export_vocoder,
}


_LARGEST = {"lm": "lm", "flow": "flow_velocity", "vocoder": "vocoder_decode"}
"""The graph of each stage that may be written in its variant."""


class _unchanged:  # noqa: N801 - used like a function
    """Puts a module back to where it was: device and training mode."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __enter__(self) -> None:
        self._device = next(self._module.parameters()).device
        self._training = self._module.training

    def __exit__(self, *error: object) -> None:
        self._module.to(self._device).train(self._training)


def _storable(value: Tensor, dtype: torch.dtype) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.to(dtype) if value.dtype == torch.float32 else value


def _rounded(value: float) -> float:
    return float(np.format_float_scientific(value, 3))


def _replace(folder: Path, part: Path, old: Path) -> None:
    if folder.exists():
        folder.rename(old)
    try:
        part.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
