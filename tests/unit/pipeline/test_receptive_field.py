"""The computed fields are exact: gradients reach their edges and not one frame further."""

from __future__ import annotations

import pytest
import torch

from mynah.config import VocoderConfig
from mynah.networks.vocoder import HiFT, Snake
from mynah.pipeline.receptive_field import (
    Field,
    decode_fields,
    f0_field,
    lookahead_frames,
    receptive_field,
)
from tests.property.vocoder_model import CONFIGS

TINY = {"base_channels": 8, "n_mels": 4, "f0_channels": 4, "num_harmonics": 1}
CASES = {
    **CONFIGS,
    "released layout": VocoderConfig().model_copy(update=TINY),
    "released causal layout": VocoderConfig().model_copy(
        update=TINY | {"is_causal": True, "lookahead_frames": 4}
    ),
    "long window": CONFIGS["source_filter"].model_copy(
        update={"n_fft": 64, "hop_length": 16, "upsample_rates": (4,)}
        | {"upsample_kernel_sizes": (8,), "resblock_kernel_sizes": (3, 7)}
        | {"resblock_dilations": ((1, 3), (1, 3, 5))}
    ),
}


def reached(gradient: torch.Tensor, frame: int) -> tuple[int, int]:
    """Frames to the left and right of ``frame`` with a gradient."""
    frames = torch.nonzero(gradient.abs().flatten(1).sum(dim=1)).flatten()
    return frame - int(frames[0]), int(frames[-1]) - frame


def double(config: VocoderConfig) -> HiFT:
    module = HiFT(config).double().requires_grad_(False)
    for snake in module.modules():
        if isinstance(snake, Snake):
            snake.alpha.uniform_(0.5, 1.5)
    return module


@pytest.mark.parametrize("name", CASES)
def test_fields_of_decode(name: str) -> None:
    config = CASES[name]
    module, (mel_field, source_field) = double(config), decode_fields(config)
    left, right = receptive_field(config)
    frame, size = left + 2, config.samples_per_frame
    frames = frame + right + 3
    mel = torch.randn(1, frames, config.n_mels, dtype=torch.float64, requires_grad=True)
    channels = [] if config.head == "polar" else [2]
    source = torch.randn(1, frames * size, *channels, dtype=torch.float64, requires_grad=True)
    samples = module.decode(mel, source)[0, frame * size : (frame + 1) * size]
    score = (samples * torch.randn_like(samples)).sum()
    of_mel, of_source = torch.autograd.grad(score, [mel, source])
    assert reached(of_mel[0], frame) == mel_field
    assert reached(of_source[0].reshape(frames, -1), frame) == source_field
    assert (left, right) == tuple(map(max, mel_field, source_field))


@pytest.mark.parametrize(("kind", "field"), [("polar", Field(5, 5)), ("causal", Field(8, 3))])
def test_field_of_f0(kind: str, field: Field) -> None:
    mel = torch.randn(1, 20, 8, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(double(CONFIGS[kind]).f0(mel)[0, 9], mel)
    assert reached(gradient[0], 9) == f0_field(CONFIGS[kind]) == field


def test_how_far_released_vocoders_look_ahead() -> None:
    causal = {"is_causal": True, "lookahead_frames": 4, "f0_lookahead_frames": 3}
    assert lookahead_frames(VocoderConfig()) == 21
    assert lookahead_frames(VocoderConfig(**causal, sine_phase="frame_hold")) == 5
