"""Stages that read only what the wanted samples depend on give the samples of the whole window.

Once they read too little of the source: its own residual block saw zeros behind the crop's edge.
"""

from __future__ import annotations

import numpy as np
import pytest

from mynah.config import VocoderConfig
from mynah.pipeline.receptive_field import first_sample, receptive_field, stage_crops
from tests.property.vocoder_model import BACKENDS, CONFIGS, mel, network

FRAMES = 48


def wanted(config: VocoderConfig) -> list[tuple[int, int]]:
    """Frames at the start, in the middle, at the end, everything."""
    left, right = receptive_field(config)
    middle = min(left, FRAMES // 2)
    return [
        (0, 3),
        (middle, middle + 1),
        (middle, FRAMES - right),
        (FRAMES - 2, FRAMES),
        (0, FRAMES),
    ]


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_cropped_samples_are_the_same(kind: str, backend: str) -> None:
    config, net = CONFIGS[kind], network(kind, backend)
    size = config.samples_per_frame
    shape = (FRAMES * size, 2) if config.head == "source_filter" else (FRAMES * size,)
    source = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    frames = mel(kind, FRAMES)
    whole = net.decode(frames, source)
    for first, stop in wanted(config):
        crops = stage_crops(config, first, stop, FRAMES)
        samples = net.decode(frames, source, crops)[first * size - first_sample(config, crops) :]
        np.testing.assert_allclose(
            samples[: (stop - first) * size], whole[first * size : stop * size], rtol=0, atol=1e-5
        )


def test_crops_of_the_released_vocoder_are_short() -> None:
    config = VocoderConfig()
    left, right = receptive_field(config)
    crops = stage_crops(config, left, left + 50, left + 50 + right)
    frames = [(stop - first) / rate for (first, stop), rate in zip(crops, (8, 40), strict=True)]
    assert 50 < frames[1] < 51.5
    assert 52 < frames[0] < 55


def test_one_stage_is_not_cropped() -> None:
    config = CONFIGS["source_filter"]
    crops = stage_crops(config, 3, 5, 20)
    assert crops.shape == (0, 2)
    assert first_sample(config, crops) == 0
