"""Base of every configuration part."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Base of every configuration part: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
