"""The closed-form velocity that small flows only correct."""

from __future__ import annotations

import pytest
import torch

from mynah.networks.unet import gaussian_velocity
from mynah.pipeline.solver import euler_steps


@pytest.mark.parametrize("std", [0.05, 0.3, 1.0])
def test_it_carries_the_noise_to_the_target_distribution(std: float) -> None:
    """Integrating it from N(0, 1) must end at N(mu, std^2), whatever mu is."""
    generator = torch.Generator().manual_seed(0)
    mu = torch.full((1, 20000, 1), 1.7)
    x = torch.randn(mu.shape, generator=generator)
    for t, dt in euler_steps(200):
        x = x + dt * gaussian_velocity(x, mu, torch.tensor([t]), std)
    assert x.mean().item() == pytest.approx(1.7, abs=0.02)
    assert x.std().item() == pytest.approx(std, rel=0.1)
