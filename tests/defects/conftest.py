"""Tiny random models of every kind, built once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from mynah.backends.registry import load_backend, load_noise
from mynah.config import ModelConfig
from mynah.pipeline.model import SpeechModel, build_model
from tests.fake_model import reader_for
from tests.tiny_model import build_tiny_model

TinyModels = Callable[[str, str], SpeechModel]


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Gives the model of a family on a backend."""

    @cache
    def folder(family: str) -> Path:
        path = tmp_path_factory.mktemp("tiny") / family
        build_tiny_model(path, family)
        return path

    @cache
    def load(family: str, backend: str) -> SpeechModel:
        path = folder(family)
        config = ModelConfig.load(path / "config.json")
        networks = load_backend(path, config, backend=backend, threads=1)
        return build_model(config, networks, reader_for(config), noise=load_noise(path))

    return load
