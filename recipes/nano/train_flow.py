"""Stage 3: flow matching decoder, tokens and speaker vector -> mel.

    python -m recipes.nano.train_flow CACHE RUN --minutes 60

Chunk masks throughout, so that the streamed model is the trained model. The token embedding is
learned as a function of the FSQ digits plus a table (`materialise` writes the plain table that
the package loads). The encoder's output is also drawn to the mel itself.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mynah.config import FlowConfig, TokenEncoderConfig, VelocityConfig
from mynah.networks.flow import Flow
from mynah.networks.masks import chunk_mask
from mynah.networks.speech_tokenizer import FSQ
from recipes.nano.loop import Loop
from recipes.nano.store import Corpus

NUM_LEVELS, NUM_DIGITS = 3, 7
CONFIG = FlowConfig(
    speech_vocab_size=NUM_LEVELS**NUM_DIGITS, input_size=192,
    encoder=TokenEncoderConfig(dim=192, num_heads=3, feed_forward=576, num_blocks=3,
                               num_up_blocks=2),
    velocity=VelocityConfig(channels=192, num_heads=4, head_dim=48, transformers_per_block=1,
                            num_mid_blocks=4, prior_std=0.3),
    mel_mean=-5.5, mel_std=2.3, noise="numpy", cfg_rate=0.0, temperature=0.6, num_steps=6,
)  # fmt: skip


class DigitEmbedding(nn.Module):
    """Token embedding from FSQ digits, with a table for what the digits cannot say."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fsq = FSQ(NUM_LEVELS, NUM_DIGITS)
        self.digits = nn.Sequential(nn.Linear(NUM_DIGITS, dim), nn.GELU(), nn.Linear(dim, dim))
        self.table = nn.Embedding(NUM_LEVELS**NUM_DIGITS, dim)
        nn.init.zeros_(self.table.weight)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(...,) -> (..., dim)."""
        return self.digits(self.fsq.digits(tokens)) + self.table(tokens)

    def materialise(self) -> nn.Embedding:
        """The same mapping as a plain embedding table."""
        with torch.no_grad():
            table = self(torch.arange(NUM_LEVELS**NUM_DIGITS))
        return nn.Embedding.from_pretrained(table)


def build(config: FlowConfig = CONFIG) -> Flow:
    """The flow with the training-time embedding."""
    flow = Flow(config)
    flow.encoder.embedding = DigitEmbedding(config.input_size)
    nn.init.zeros_(flow.velocity.projection.weight)
    return flow


class Data:
    """Crops with speaker vectors of other clips of the same speaker."""

    def __init__(self, cache: Path, weights: dict[str, float], seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.items: list[tuple[Corpus, int]] = []
        self.speakers: dict[str, list[np.ndarray]] = {}
        weight: list[float] = []
        for path in sorted(cache.glob("*.json")):
            corpus = Corpus(cache, path.stem)
            vectors = np.load(cache / f"{path.stem}.speakers.npz")["vectors"]
            for index, clip in enumerate(corpus.clips):
                share = weights.get(clip.corpus, 0.0)
                if clip.split == "train" and share > 0:
                    self.items.append((corpus, index))
                    weight.append(share * clip.num_tokens)
                    self.speakers.setdefault(clip.corpus + clip.speaker, []).append(vectors[index])
        self.weight = np.array(weight) / sum(weight)

    def __call__(self, size: int, length: int) -> dict[str, torch.Tensor]:
        """``size`` crops of ``length`` tokens."""
        tokens = np.zeros((size, length), np.int64)
        mel = np.full((size, 2 * length, 80), math.log(1e-5), np.float32)
        mask = np.zeros((size, length), bool)
        speaker = np.zeros((size, 192), np.float32)
        for row, item in enumerate(self.rng.choice(len(self.items), size, p=self.weight)):
            corpus, index = self.items[item]
            clip = corpus.clips[index]
            start = int(self.rng.integers(0, max(1, clip.num_tokens - length + 1)))
            stop = min(start + length, clip.num_tokens)
            tokens[row, : stop - start] = corpus.get(clip, "tokens", start, stop)
            mel[row, : 2 * (stop - start)] = corpus.get(clip, "mel", start, stop)
            mask[row, : stop - start] = True
            own = self.speakers[clip.corpus + clip.speaker]
            speaker[row] = own[int(self.rng.integers(len(own)))]
        arrays = {"tokens": tokens, "mel": mel, "mask": mask, "speaker": speaker}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def objective(
    flow: Flow, batch: dict[str, torch.Tensor], rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow-matching loss (Lipman et al. 2023) and L1 of the encoder's mel."""
    config = flow.config
    size, length = batch["tokens"].shape
    frames = 2 * length
    frame_mask = batch["mask"].repeat_interleave(2, dim=1)
    target = (batch["mel"] - config.mel_mean) / config.mel_std
    chunk = config.encoder.chunk_tokens
    with torch.autocast("cpu", torch.bfloat16):
        mu, _ = flow.encoder(
            batch["tokens"], mask=batch["mask"], chunk_mask=chunk_mask(length, length, chunk)
        )
        speaker = flow.speaker(batch["speaker"])
    mu, speaker = mu.float(), speaker.float()
    weight = frame_mask[..., None].float()
    prior = ((mu - target).abs() * weight).sum() / weight.sum() / 80
    # half of the rows know a prefix of the mel, and are not judged on it
    prefix = rng.integers(10, max(11, int(frames * 0.6)), size) * (rng.random(size) < 0.5)
    known = torch.arange(frames)[None] < torch.from_numpy(prefix)[:, None]
    cond = target * known[..., None]
    judged = weight * (~known[..., None])
    t = 1 - torch.cos(torch.rand(size) * math.pi / 2)
    noise = torch.randn_like(target)
    at = t[:, None, None]
    x = (1 - at) * noise + at * target
    with torch.autocast("cpu", torch.bfloat16):
        velocity, _ = flow.velocity(
            x, mu, speaker, cond, t, mask=frame_mask,
            chunk_mask=chunk_mask(frames, frames, 2 * chunk),
        )  # fmt: skip
    error = (velocity.float() - (target - noise)) ** 2
    return (error * judged).sum() / judged.sum() / 80, prior


def main() -> None:
    """Train until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--init", type=Path, help="checkpoint to start from")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(0)
    data = Data(
        options.cache, {"kathleen": 6.0, "ljspeech": 2.0, "librispeech": 1.5, "flite": 0.15}
    )
    flow = build()
    if options.init:
        flow.load_state_dict(torch.load(options.init, weights_only=True)["average"])
        nn.init.zeros_(flow.velocity.projection.weight)
    loop = Loop(flow, options.run, minutes=options.minutes, rate=1.5e-3, threads=options.threads,
                ema=0.999)  # fmt: skip
    for _ in loop:
        long = data.rng.random() < 0.25
        batch = data(options.batch // 2, 150) if long else data(options.batch, 75)
        loss, prior = objective(flow, batch, data.rng)
        loop.step(loss + 0.5 * prior, flow=loss.detach(), prior=prior.detach())


if __name__ == "__main__":
    main()
