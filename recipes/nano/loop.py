"""One training loop for all stages: AdamW, warm-up and cosine by wall time, EMA, resume, curves."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch


class Loop:
    """Iterate over it for the progress in [0, 1); call `step` once per iteration.

    The budget is time, so that the same recipe fits any machine; time spent before a resume
    counts. ``RUN.pt`` holds weights, averaged weights and optimiser, ``RUN.jsonl`` the curves.
    """

    def __init__(
        self, model: torch.nn.Module, run: Path, *, minutes: float, rate: float, threads: int = 1,
        weight_decay: float = 0.01, clip: float = 1.0, ema: float = 0.998, warmup: int = 100,
        betas: tuple[float, float] = (0.9, 0.98), log_every: int = 50,
    ) -> None:  # fmt: skip
        torch.set_num_threads(threads)
        self.model, self.run, self.seconds, self.rate = model, run, 60 * minutes, rate
        self.clip, self.decay, self.warmup, self.log_every = clip, ema, warmup, log_every
        self.optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad],
            rate, betas=betas, weight_decay=weight_decay,
        )  # fmt: skip
        self.steps, self.used = 0, 0.0
        self.average = {k: v.detach().clone() for k, v in model.state_dict().items()}
        run.parent.mkdir(parents=True, exist_ok=True)
        if run.with_suffix(".pt").exists():
            saved = torch.load(run.with_suffix(".pt"), weights_only=True)
            model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.average, self.steps, self.used = saved["average"], saved["steps"], saved["used"]
        size = sum(p.numel() for p in model.parameters()) / 1e6
        print(f"{run.name}: {size:.2f} M parameters, from step {self.steps}", flush=True)
        self.sums: dict[str, float] = {}
        self.counted = 0

    def __iter__(self) -> Iterator[float]:
        self.clock = time.monotonic()
        saved_at = self.clock
        while self.elapsed() < self.seconds:
            self.progress = self.elapsed() / self.seconds
            warm = min(1.0, (self.steps + 1) / self.warmup)
            scale = warm * max(0.02, 0.5 * (1 + math.cos(math.pi * self.progress)))
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * scale
            yield self.progress
            if time.monotonic() - saved_at > 60:
                self.save()
                saved_at = time.monotonic()
        self.save()

    def elapsed(self) -> float:
        """Seconds of training, earlier runs included."""
        return self.used + time.monotonic() - self.clock

    def step(self, loss: torch.Tensor, **figures: torch.Tensor | float) -> None:
        """Backward, clip, update, average; figures go to the curves."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.steps += 1
        if self.steps % 4 == 0:
            decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) ** 4
            with torch.no_grad():
                for key, value in self.model.state_dict().items():
                    if value.is_floating_point():
                        self.average[key].lerp_(value, 1 - decay)
                    else:
                        self.average[key].copy_(value)
        for key, value in {"loss": loss, **figures}.items():
            number = value.item() if isinstance(value, torch.Tensor) else value
            self.sums[key] = self.sums.get(key, 0.0) + number
        self.counted += 1
        if self.counted == self.log_every:
            means = {key: round(total / self.counted, 4) for key, total in self.sums.items()}
            row = {"step": self.steps, "seconds": round(self.elapsed()), **means}
            with self.run.with_suffix(".jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)
            self.sums, self.counted = {}, 0

    def save(self) -> None:
        """Write the checkpoint atomically."""
        path = self.run.with_suffix(".pt")
        saved = {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "average": self.average, "steps": self.steps, "used": self.elapsed(),
        }  # fmt: skip
        torch.save(saved, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
