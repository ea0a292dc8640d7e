"""Reads golden directories: outputs of the official code on small random weights.

``MYNAH_GOLDEN`` names another directory of the same form (``v2``, ``features``, ``sampling``).
Sizes, names and cases come from the files; tests hold none of them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch_file

from mynah.config import FlowConfig, LMConfig, VocoderConfig
from mynah.networks.official import model_config_from_golden

_FIXTURES = Path(__file__).parents[1] / "fixtures"


def golden_dir() -> Path:
    """The directory in use: ``MYNAH_GOLDEN``, or the fixtures of this repository."""
    return Path(os.environ.get("MYNAH_GOLDEN") or _FIXTURES / "golden")


def load(version: str, name: str) -> dict[str, npt.NDArray[Any]]:
    """Arrays of one file, e.g. ``load("v2", "lm_io")``."""
    return dict(load_file(golden_dir() / version / f"{name}.safetensors"))


def load_tensors(version: str, name: str) -> dict[str, torch.Tensor]:
    """The same as torch tensors, e.g. the state dict ``load_tensors("v2", "llm")``."""
    return dict(load_torch_file(golden_dir() / version / f"{name}.safetensors"))


def facts(version: str, name: str) -> dict[str, Any]:
    """The JSON beside a file: chunk sizes, call lists, margins."""
    text = (golden_dir() / version / f"{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def config(version: str) -> dict[str, Any]:
    """Official constructor values of one version."""
    return facts(version, "config")


def model_configs(version: str = "v2") -> tuple[LMConfig, FlowConfig, VocoderConfig]:
    """Our configurations of the golden networks."""
    return model_config_from_golden(config(version))


def contract(stage: str, generation: int = 2) -> dict[str, tuple[int, ...]]:
    """Key -> shape of the released full-size checkpoint; stage is llm, flow or hift."""
    return {key: tuple(shape) for key, shape in _contract(generation)[stage].items()}


def contract_config(generation: int = 2) -> dict[str, Any]:
    """Official constructor values of the released full-size model."""
    return dict(_contract(generation)["config"])


def _contract(generation: int) -> dict[str, Any]:
    path = _FIXTURES / f"contract_cosyvoice{generation}.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))
