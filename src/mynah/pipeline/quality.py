"""Named trades of exactness for speed in the flow: data, applied to a model's configuration.

``exact`` is the released model. What the others cost is measured by ``benchmarks/flow.py``: on the
embedded voice 4 of 6 Euler steps change the mel by 5 % of its standard deviation, 3 by 18 %. A
two-step solver (Adams-Bashforth) was worse at every number of steps: released velocities are
trained for their own grid and are not smooth in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mynah.config import FlowConfig, ModelConfig
from mynah.errors import InvalidRequestError


@dataclass(frozen=True)
class Quality:
    """How much of the flow is computed."""

    steps: float = 1.0
    """Share of the model's Euler steps that are made."""
    guided: float = 1.0
    """Share of the steps made, the first ones, that are guided."""

    def flow(self, config: FlowConfig) -> FlowConfig:
        """The configuration of a flow at this quality."""
        if self == EXACT:
            return config
        steps = max(1, round(self.steps * config.num_steps))
        changes: dict[str, object] = {"num_steps": steps}
        if self.guided < 1 and config.cfg_rate:
            changes["guided_steps"] = max(1, round(self.guided * steps))
        return config.model_copy(update=changes)

    def apply(self, config: ModelConfig) -> ModelConfig:
        """The configuration of a model at this quality."""
        return config.model_copy(update={"flow": self.flow(config.flow)})


EXACT = Quality()
QUALITIES: Mapping[str, Quality] = {
    "exact": EXACT,
    "balanced": Quality(steps=0.7),
    "fast": Quality(steps=0.5, guided=0.6),
}
"""By name, from the slowest to the fastest."""


def find_quality(name: str) -> Quality:
    """The quality of that name.

    Raises:
        InvalidRequestError: if there is none.
    """
    if name not in QUALITIES:
        raise InvalidRequestError(
            f"there is no quality {name!r}", hint=f"choose one of {', '.join(QUALITIES)}"
        )
    return QUALITIES[name]
