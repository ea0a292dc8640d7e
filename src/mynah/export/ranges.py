"""Ranges of keys and values in a velocity network's attention, for keeping them in eight bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mynah.export.attention import HeadRange
from mynah.networks.flow import Flow
from mynah.pipeline.solver import euler_steps

_TOKENS = 100
MARGIN = 1.5
"""Room for utterances that go further than the measured one."""


@torch.inference_mode()
def attention_ranges(flow: Flow) -> list[HeadRange]:
    """Ranges of each attention layer, in the order of the forward pass.

    Measured on one utterance of random tokens and noise, through all Euler steps and both
    guidance branches; half of its frames are given as a prompt would be.
    """
    config, device = flow.config, flow.speaker_affine.weight.device
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(config.speech_vocab_size, (1, _TOKENS), generator=generator)
    embedding = torch.randn(1, config.speaker_dim, generator=generator)
    mu, _ = flow.encoder(tokens.to(device))
    x = torch.randn(mu.shape, generator=generator).to(mu) * config.temperature
    cond = mu.clone()
    cond[:, mu.shape[1] // 2 :] = 0
    speaker = flow.speaker(embedding.to(mu))
    rate = config.cfg_rate
    with measured_attention(flow.velocity) as found:
        for t, dt in euler_steps(config.num_steps):
            at = x.new_full((1,), t)
            velocity, _ = flow.velocity(x, mu, speaker, cond, at)
            if rate:
                nothing = torch.zeros_like(mu)
                free, _ = flow.velocity(x, nothing, torch.zeros_like(speaker), nothing, at)
                velocity = (1 + rate) * velocity - rate * free
            x = x + dt * velocity
    return [HeadRange.of(keys, values, heads, MARGIN) for keys, values, heads in found]


@contextmanager
def measured_attention(network: nn.Module) -> Iterator[list[tuple[Tensor, Tensor, int]]]:
    """Largest absolute key and value for each channel, and number of heads, by layer.

    They grow with every forward pass while the context lasts.
    """
    layers: list[Any] = [part for part in network.modules() if hasattr(part, "key")]
    found = []
    with ExitStack() as stack:
        for layer in layers:
            peaks = [torch.full((part.out_features,), 1e-6) for part in (layer.key, layer.value)]
            for part, peak in zip((layer.key, layer.value), peaks, strict=True):
                stack.enter_context(_watch(part, peak))
            found.append((*peaks, layer.num_heads))
        yield found


@contextmanager
def _watch(linear: nn.Module, peak: Tensor) -> Iterator[None]:
    def note(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        torch.maximum(peak, output.detach().abs().flatten(0, -2).amax(dim=0).cpu(), out=peak)

    handle = linear.register_forward_hook(note)
    try:
        yield
    finally:
        handle.remove()
