"""A listener: asks for a stream, plays it as it comes, and notes when there was nothing to play."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import httpx

TOLERANCE_S = 0.02
"""A gap below that is not heard: a sound card takes blocks of that length."""
_BYTES_PER_SAMPLE = 2
_SHAPES = ((1, 0.5), (2, 0.3), (5, 0.2))
"""Sentences in one text, and how often."""


@dataclass
class Playback:
    """What is heard by who plays from the first audio on, without waiting for a reserve."""

    first_at: float | None = None
    dry_at: float = 0.0
    audio_s: float = 0.0
    underruns: int = 0
    underrun_s: float = 0.0

    def take(self, seconds: float, now: float) -> None:
        """Note that audio came."""
        if seconds <= 0.0:
            return
        if self.first_at is None:
            self.first_at = self.dry_at = now
        elif now > self.dry_at:
            late = now - self.dry_at
            if late > TOLERANCE_S:
                self.underruns += 1
                self.underrun_s += late
            self.dry_at = now
        self.dry_at += seconds
        self.audio_s += seconds


@dataclass(frozen=True)
class Heard:
    """One request as its listener saw it."""

    status: int
    """Of HTTP; 0 = the connection broke."""
    asked_at: float
    first_s: float | None
    total_s: float
    audio_s: float = 0.0
    underruns: int = 0
    underrun_s: float = 0.0
    is_cancelled: bool = False
    retry_after_s: float | None = None
    """What a refusal said; None = nothing."""

    @property
    def is_done(self) -> bool:
        """Whether it was heard to its end."""
        return self.status == 200 and not self.is_cancelled


@dataclass(frozen=True)
class Order:
    """What a listener will ask for."""

    text: str
    seed: int
    leaves_after: float | None = None
    """Share of the expected audio after which it leaves; None = it stays."""
    options: dict[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """The request of ``POST /tts``."""
        return {
            "text": self.text,
            "seed": self.seed,
            "stream": True,
            "response_format": "pcm",
            **self.options,
        }


def orders(seed: int, cancels: float = 0.2) -> Callable[[], Order]:
    """Return a source of orders: texts of mixed lengths, a share of which is not heard out."""
    choices = random.Random(seed)
    sentences = (
        resources.files("mynah.evaluation").joinpath("sentences_en.txt").read_text("utf-8")
    ).splitlines()
    counts, weights = zip(*_SHAPES, strict=True)

    def next_order() -> Order:
        (count,) = choices.choices(counts, weights)
        leaves = choices.random() if choices.random() < cancels else None
        text = " ".join(choices.sample(sentences, count))
        return Order(text, choices.randrange(1 << 31), leaves)

    return next_order


def expected_s(text: str) -> float:
    """Rough length of a text's audio, in seconds."""
    return len(text) / 14.0


async def listen(client: httpx.AsyncClient, order: Order) -> Heard:
    """Ask, and play until the end, or until the order says to leave."""
    asked_at = time.monotonic()
    playback = Playback()
    limit_s = None if order.leaves_after is None else order.leaves_after * expected_s(order.text)
    status, retry_after, left = 0, None, False
    try:
        async with client.stream("POST", "/tts", json=order.body()) as answer:
            status = answer.status_code
            if status != 200:
                given = answer.headers.get("Retry-After")
                retry_after = None if given is None else float(given)
                await answer.aread()
            else:
                per_s = int(answer.headers["X-Sample-Rate"]) * _BYTES_PER_SAMPLE
                async for piece in answer.aiter_raw():
                    playback.take(len(piece) / per_s, time.monotonic())
                    if limit_s is not None and playback.audio_s >= limit_s:
                        left = True
                        break
    except httpx.TransportError:
        status = 0
    first = None if playback.first_at is None else playback.first_at - asked_at
    return Heard(
        status=status,
        asked_at=asked_at,
        first_s=first,
        total_s=time.monotonic() - asked_at,
        audio_s=playback.audio_s,
        underruns=playback.underruns,
        underrun_s=playback.underrun_s,
        is_cancelled=left,
        retry_after_s=retry_after,
    )
