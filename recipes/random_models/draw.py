"""Random values for official tensors: audible, voiced and unvoiced, and with an end of speech.

Every tensor has its own generator, seeded by its name, so values do not depend on their order.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recipes.random_models import tensors
from recipes.random_models.tensors import Spec

TIED = ("llm.model.lm_head.weight", "llm.model.model.embed_tokens.weight")
_NEW_STYLE = (".parametrizations.weight.original0", ".parametrizations.weight.original1")
_OLD_STYLE = (".weight_g", ".weight_v")

# A logit beside those of normally distributed speech tokens, so that the end of speech is drawn
# every 30 tokens or so once it is allowed.
_END_BIAS = 3.0
# F0 = |classifier|: most of it below 300 Hz, some of it below the threshold of voicing.
_F0_SCALE = 120.0
# Magnitudes are exp(conv_post); these keep the waveform below its limit.
_MAGNITUDE_BIAS, _MAGNITUDE_GAIN = -2.0, 0.3


def language_model(values: Mapping[str, Any], seed: int) -> dict[str, Tensor]:
    """``llm.pt``; the unused text head shares the storage of the text embedding."""
    drawn = {
        spec.key: _draw(spec, seed)
        for spec in tensors.language_model(values)
        if spec.key != TIED[0]
    }
    if TIED[1] in drawn:
        drawn[TIED[0]] = drawn[TIED[1]]
    speech = values["speech_vocabulary"]
    if "llm_decoder.bias" in drawn:
        drawn["llm_decoder.bias"][speech:] = -_END_BIAS
        drawn["llm_decoder.bias"][speech] = _END_BIAS
    else:  # 200 rows end speech; together they are as likely as the one above
        drawn["llm_decoder.weight"][speech:] *= 0.9
    return drawn


def flow(values: Mapping[str, Any], seed: int) -> dict[str, Tensor]:
    """``flow.pt``."""
    return {spec.key: _draw(spec, seed) for spec in tensors.flow(values)}


def vocoder(
    values: Mapping[str, Any], seed: int, *, old_style: bool = False, prefix: str = ""
) -> dict[str, Tensor]:
    """``hift.pt``, with weight norm as before torch 2.0 if asked, and keys behind ``prefix``."""
    drawn = {spec.key: _draw(spec, seed) for spec in tensors.vocoder(values)}
    drawn["f0_predictor.classifier.weight"] *= _F0_SCALE
    bins = values["hift"]["istft_params"]["n_fft"] // 2 + 1
    drawn["conv_post.parametrizations.weight.original0"][:bins] *= _MAGNITUDE_GAIN
    drawn["conv_post.bias"][:bins] += _MAGNITUDE_BIAS
    if old_style:
        for new, old in zip(_NEW_STYLE, _OLD_STYLE, strict=True):
            drawn = {key.replace(new, old): value for key, value in drawn.items()}
    return {prefix + key: value for key, value in drawn.items()}


def _draw(spec: Spec, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{spec.key}".encode()))
    shape = spec.shape
    match spec.kind:
        case "matrix":
            fan_in = max(1, torch.Size(shape[1:]).numel())
            return torch.randn(shape, generator=generator).mul_(fan_in**-0.5)
        case "embedding" | "direction":
            return torch.randn(shape, generator=generator)
        case "bias":
            return 0.2 * torch.randn(shape, generator=generator)
        case "norm":
            return 1 + 0.2 * torch.randn(shape, generator=generator)
        case "alpha":
            return 0.5 + torch.rand(shape, generator=generator)
        case "gain":
            return 0.7 + 0.6 * torch.rand(shape, generator=generator)
        case "position":
            return 0.3 * torch.randn(shape, generator=generator)
        case "frequencies":
            return 10000.0 ** (-torch.arange(shape[0]) / shape[0])
