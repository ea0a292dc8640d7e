"""Reading a released folder: its generation, its configuration, and its weights, all as data."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from mynah.config import (
    InstructConfig,
    MelConfig,
    ModelConfig,
    PromptTemplates,
    SamplingConfig,
)
from mynah.errors import ModelFormatError, ModelNotFoundError
from mynah.export.official_yaml import Labelled, read_official_yaml, without_labels
from mynah.hub.catalogue import WHISPER_VOCABULARY, official_model
from mynah.hub.download import read_source
from mynah.hub.releases import (
    QWEN_FOLDER,
    YAML_NAMES,
    find_yaml,
    speech_tokenizer_name,
    tokenizer_files,
    used_files,
    weights_name,
)
from mynah.networks.build import build_module
from mynah.networks.checkpoint import KeyTable, load_strict, read_tensors
from mynah.networks.keys_flow import flow_keys
from mynah.networks.keys_lm import lm_keys
from mynah.networks.keys_vocoder import vocoder_keys
from mynah.networks.official import model_config_from_golden
from mynah.text.special_tokens import COSYVOICE2, COSYVOICE3, WHISPER

_GENERATOR_PREFIX = "generator."
_ID = re.compile(r"[^a-z0-9.]+")

# What the classes of the release take where the file is silent (older files are).
_LM_DEFAULTS = {"mix_ratio": [5, 15]}
_FLOW_DEFAULTS = {"token_mel_ratio": 2, "pre_lookahead_len": 3}
_ENCODER_DEFAULTS = {"static_chunk_size": 25}
_QWEN_DEFAULTS = {"rope_theta": 1e6, "rms_norm_eps": 1e-6}

_STARTER = "You are a helpful assistant."
_LANGUAGES = ("zh", "en", "ja", "ko", "yue")


@dataclass(frozen=True)
class _Rules:
    """What no file of a generation says."""

    special_tokens: tuple[str, ...] | None = None
    languages: tuple[str, ...] = _LANGUAGES
    templates: PromptTemplates | None = None
    instruct: InstructConfig | None = None


_RULES: Mapping[int, _Rules] = {
    1: _Rules(
        instruct=InstructConfig(speaker_in_lm=False, prompt_in_flow=False, styles="cosyvoice1")
    ),
    2: _Rules(special_tokens=COSYVOICE2, instruct=InstructConfig(styles="cosyvoice2")),
    3: _Rules(
        special_tokens=COSYVOICE3,
        languages=(*_LANGUAGES, "de", "es", "fr", "it", "ru"),
        templates=PromptTemplates(
            transcript=f"{_STARTER}<|endofprompt|>{{text}}",
            no_transcript=f"{_STARTER}<|endofprompt|>",
            instruction=f"{_STARTER} {{text}}<|endofprompt|>",
        ),
        instruct=InstructConfig(styles="cosyvoice3"),
    ),
}


@dataclass(frozen=True)
class OfficialFolder:
    """A released folder whose configuration was read."""

    path: Path
    generation: int
    yaml_name: str
    config: ModelConfig
    source: Mapping[str, Any]
    """Where it was downloaded from, if that is known."""

    def weights(self, *, rl: bool = False) -> str:
        """File of the language model's weights."""
        return weights_name(rl=rl)

    @property
    def speech_tokenizer(self) -> str:
        """File of the speech tokenizer."""
        return speech_tokenizer_name(self.generation)

    def tokenizer_files(self) -> dict[str, Path]:
        """See ``mynah.hub.releases.tokenizer_files``."""
        return tokenizer_files(self.path, self.generation)

    def used_files(self, *, rl: bool = False) -> dict[str, Path]:
        """See ``mynah.hub.releases.used_files``."""
        return used_files(self.path, rl=rl)

    def check_vocabulary(self) -> None:
        """Compare the text tokenizer with the size of the text embedding.

        Raises:
            ModelNotFoundError: if the tokenizer is missing.
            ModelFormatError: if its ids do not fit the embedding.
        """
        files = self.tokenizer_files()
        rows, special = self.config.lm.text_vocab_size, self.config.special_tokens or WHISPER
        try:
            if self.generation == 1:
                lines = files[WHISPER_VOCABULARY].read_bytes().splitlines()
                needed = sum(bool(line.strip()) for line in lines) + len(special)
            elif "vocab.json" in files:
                base = json.loads(files["vocab.json"].read_text(encoding="utf-8"))
                needed = len(base) + len(special)
            else:
                return  # the reader of tokenizer.json checks it when the model is loaded
        except (OSError, ValueError, TypeError) as error:
            raise ModelFormatError(
                f"cannot read the text vocabulary of {self.path}: {error}",
                hint="download the folder again",
            ) from error
        # The first generation's table has a row for every id, the others' have spare ones.
        if needed > rows or (self.generation == 1 and needed != rows):
            raise ModelFormatError(
                f"the text vocabulary in {self.path} has {needed} ids, the model has {rows} rows",
                hint="use the vocabulary that belongs to this release",
            )

    def load_stage(self, stage: str, *, rl: bool = False) -> nn.Module:
        """Build ``lm``, ``flow`` or ``vocoder`` and fill it with the released weights.

        Raises:
            ModelNotFoundError: if the file is missing.
            ModelFormatError: if it is damaged, or tensors are missing, left over or of a wrong
                shape; it names them.
        """
        name = {"lm": self.weights(rl=rl), "flow": "flow.pt", "vocoder": "hift.pt"}[stage]
        path = self.path / name
        tensors = _float32(read_tensors(path))
        if stage == "vocoder":
            # The release is sometimes cut out of a training checkpoint, whose keys have a prefix.
            tensors = {key.replace(_GENERATOR_PREFIX, ""): v for key, v in tensors.items()}
        # Fresh weights are drawn only to be overwritten; the caller's generator stays as it is.
        with torch.random.fork_rng(devices=[]):
            module = build_module(stage, self.config)
        try:
            ours = _KEYS[stage](self.config).to_ours(tensors)
            load_strict(module, ours, str(path), assign=True)
        except ModelFormatError as error:
            raise ModelFormatError(f"{path}: {error.message}", hint=error.hint) from error
        return module.eval()


_KEYS: Mapping[str, Callable[[ModelConfig], KeyTable]] = {
    "lm": lambda config: lm_keys(config.lm),
    "flow": lambda config: flow_keys(config.flow),
    "vocoder": lambda config: vocoder_keys(config.vocoder),
}


def read_official_folder(path: Path, name: str | None = None) -> OfficialFolder:
    """Read the configuration of a released folder; nothing in it is run or changed.

    Args:
        path: the folder.
        name: model id; None = from where it was downloaded, else from the folder's name.

    Raises:
        ModelNotFoundError: if it holds no configuration of a release.
        ModelFormatError: if that configuration is damaged or of an unknown kind.
    """
    yaml_name = find_yaml(path)
    generation = YAML_NAMES[yaml_name]
    content = read_official_yaml(path / yaml_name)
    source = read_source(path)
    model_id = name or str(source.get("name") or _model_id(path))
    try:
        values = _values(content, path, generation)
        config = _config(values, generation, model_id)
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        raise ModelFormatError(
            f"{path / yaml_name}: missing or wrong value {error}",
            hint="use the file of the release as it is",
        ) from error
    return OfficialFolder(path, generation, yaml_name, config, source)


def _values(content: Mapping[str, Any], path: Path, generation: int) -> dict[str, Any]:
    """Constructor values by part, in the layout that ``networks.official`` reads."""
    for part in ("llm", "flow", "hift", "feat_extractor"):
        if not isinstance(content.get(part), Labelled):
            raise ModelFormatError(f"{path} describes no {part}", hint="use the released file")
    values: dict[str, Any] = without_labels(dict(content))
    values["version"] = generation
    solver = values["flow"]["decoder"]["cfm_params"]
    values["flow"]["decoder"]["cfm_params"] = solver.get("content", solver)
    values["flow"] = _FLOW_DEFAULTS | values["flow"]
    if generation > 1:
        values["llm"] = _LM_DEFAULTS | values["llm"] | {"llm": _qwen(path)}
        if "encoder" in values["flow"]:
            values["flow"]["encoder"] = _ENCODER_DEFAULTS | values["flow"]["encoder"]
    return values


def _qwen(path: Path) -> dict[str, Any]:
    """Sizes of the text model, from the Hugging Face folder inside the release."""
    file = path / QWEN_FOLDER / "config.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        rope = content.get("rope_parameters") or {}
    except (OSError, ValueError, AttributeError) as error:
        raise ModelFormatError(
            f"cannot read {file}: {error}", hint="download the folder again"
        ) from error
    return {**_QWEN_DEFAULTS, **rope, **content}


def _config(values: Mapping[str, Any], generation: int, model_id: str) -> ModelConfig:
    lm, flow, vocoder = model_config_from_golden(values)
    rules, mel, sampling = _RULES[generation], values["feat_extractor"], values["llm"]["sampling"]
    # Of the first generation only the weights called Instruct follow instructions.
    follows = generation > 1 or "instruct" in model_id
    return ModelConfig.model_validate(
        {
            "model_id": model_id,
            "family": f"cosyvoice{generation}",
            "languages": rules.languages,
            "text_frontend": "whisper-bpe" if generation == 1 else "qwen2-bpe",
            "special_tokens": rules.special_tokens,
            "templates": rules.templates or PromptTemplates(),
            "token_rate": values["flow"]["input_frame_rate"],
            "sample_rate": values["sample_rate"],
            "lm": lm,
            "flow": flow,
            "vocoder": vocoder,
            "mel": MelConfig(
                sample_rate=mel["sampling_rate"],
                n_fft=mel["n_fft"],
                hop_length=mel["hop_size"],
                win_length=mel["win_size"],
                n_mels=mel["num_mels"],
                fmin=mel["fmin"],
                fmax=mel["fmax"],
            ),
            "sampling": SamplingConfig(
                top_p=sampling["top_p"],
                top_k=sampling["top_k"],
                repetition_window=sampling["win_size"],
                repetition_threshold=sampling["tau_r"],
            ),
            "instruct": rules.instruct if follows else None,
        }
    )


def _model_id(path: Path) -> str:
    name = path.resolve().name
    try:
        return official_model(name).name
    except ModelNotFoundError:
        return _ID.sub("-", name.lower()).strip("-.") or "model"


def _float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights that were stored in half precision are computed with in single, like all others."""
    return {
        key: value.float() if value.is_floating_point() else value for key, value in tensors.items()
    }
