"""Tiny random models of every family on the torch backend, without a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch

from mynah.backends.base import Backend
from mynah.backends.registry import STAGES, build_torch_backend
from mynah.networks.build import build_module
from mynah.pipeline.model import SpeechModel, build_model
from tests.fake_model import reader_for
from tests.tiny_model import tiny_config


@cache
def torch_backend(family: str) -> Backend:
    """Networks that share calls, as they would on a graphics card."""
    config = tiny_config(family)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        modules: dict[str, Any] = {name: build_module(name, config) for name in STAGES}
        if config.lm.num_control_tokens == 1:  # one must end speech as often as three do
            with torch.no_grad():
                modules["lm"].speech_head.bias[config.lm.eos] += 1.5
    backend = build_torch_backend(modules, torch.device("cpu"))
    return replace(backend, batches_rendering=True)


def torch_model(family: str, change: Callable[[Backend], Backend] | None = None) -> SpeechModel:
    """A model; ``change`` may break its networks."""
    config, backend = tiny_config(family), torch_backend(family)
    noise = None
    if config.flow.noise == "torch":
        rng = np.random.default_rng(2)
        noise = rng.standard_normal((3000, config.flow.n_mels)).astype(np.float32)
    changed = backend if change is None else change(backend)
    return build_model(config, changed, reader_for(config), noise=noise)
