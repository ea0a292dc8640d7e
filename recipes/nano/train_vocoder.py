"""Vocoder: F0 predictor, then the source-filter HiFT on spectral losses and small discriminators.

    python -m recipes.nano.train_vocoder CACHE RUN --minutes 40

Reads corpora with waveforms. F0 targets come from WORLD's DIO and StoneMask (pyworld, MIT).
Losses: multi-resolution STFT (Yamamoto et al. 2020) with short windows too, because the phase of
the filter shows only there; least-squares GAN (Mao et al. 2017) on spectrogram columns.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mynah.config import VocoderConfig
from mynah.networks.vocoder import HiFT
from mynah.pipeline.pulses import pulses
from recipes.nano.loop import Loop
from recipes.nano.store import Corpus

CONFIG = VocoderConfig(
    head="source_filter", mel_mean=-5.5, mel_std=2.3, base_channels=256, num_harmonics=0,
    sine_amplitude=0.05, noise_std=0.1, upsample_rates=(4,), upsample_kernel_sizes=(8,),
    n_fft=480, hop_length=120, resblock_kernel_sizes=(3, 7), f0_channels=128,
    resblock_dilations=((1, 3, 5), (1, 3, 5)), source_resblock_kernel_sizes=(7,),
    source_resblock_dilations=((1,),),
)  # fmt: skip
FRAMES = 64
RESOLUTIONS = (128, 256, 512, 1024, 2048)


def track_f0(samples: np.ndarray, num_frames: int) -> np.ndarray:
    """F0 in Hz at the centre of each 20 ms mel frame, 0 where unvoiced."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pyworld

    signal = samples.astype(np.float64)
    rough, times = pyworld.dio(signal, 24000, f0_floor=60.0, f0_ceil=500.0, frame_period=10.0)
    f0 = pyworld.stonemask(signal, rough, times, 24000)[1::2]
    return np.pad(f0, (0, max(0, num_frames - len(f0))))[:num_frames].astype(np.float32)


class Data:
    """Crops of mel, F0 and waveform."""

    def __init__(self, cache: Path, size: int) -> None:
        self.rng, self.size = np.random.default_rng(0), size
        self.items: list[tuple[Corpus, int, np.ndarray]] = []
        for name in ("kathleen", "ljspeech"):
            corpus = Corpus(cache, name)
            path = cache / f"{name}.f0.npz"
            known = dict(np.load(path)) if path.exists() else {}
            for index, clip in enumerate(corpus.clips):
                if str(index) not in known:
                    samples = corpus.get(clip, "samples")
                    known[str(index)] = track_f0(samples, 2 * clip.num_tokens)
                if clip.split == "train":
                    self.items.append((corpus, index, known[str(index)]))
            if not path.exists():
                np.savez(path, **known)
        weight = np.array([c.clips[i].num_tokens * (2.0 if c.name == "kathleen" else 1.0)
                           for c, i, _ in self.items])  # fmt: skip
        self.weight = weight / weight.sum()

    def __call__(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """mel (B, F, 80), f0 (B, F), source (B, N, 2), samples (B, N)."""
        mels, f0s, sources, waves = [], [], [], []
        tokens = FRAMES // 2
        for item in self.rng.choice(len(self.items), self.size, p=self.weight):
            corpus, index, f0 = self.items[item]
            clip = corpus.clips[index]
            if clip.num_tokens < tokens:
                continue
            start = int(self.rng.integers(0, clip.num_tokens - tokens + 1))
            gain = float(np.exp(self.rng.normal() * 0.25)) * 0.8
            stop = start + tokens
            mels.append(corpus.get(clip, "mel", start, stop) + np.float32(np.log(gain)))
            f0s.append(f0[2 * start : 2 * stop])
            sources.append(pulses(CONFIG, f0s[-1], 24000, self.rng))
            waves.append(corpus.get(clip, "samples", start, stop) * gain)
        return tuple(torch.from_numpy(np.stack(x).astype(np.float32))
                     for x in (mels, f0s, sources, waves))  # fmt: skip


def magnitude(signal: torch.Tensor, n_fft: int) -> torch.Tensor:
    """(B, N) -> (B, bins, T)."""
    window = torch.hann_window(n_fft)
    spectrum = torch.stft(signal, n_fft, n_fft // 4, n_fft, window, return_complex=True)
    return torch.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-8)


def spectral_loss(made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Mean over resolutions of log-magnitude and relative magnitude distance."""
    total = torch.zeros(())
    for n_fft in RESOLUTIONS:
        a, b = magnitude(made, n_fft), magnitude(real, n_fft)
        total = total + (torch.log(a + 1e-4) - torch.log(b + 1e-4)).abs().mean()
        total = total + (a - b).norm() / b.norm()
    return total / len(RESOLUTIONS)


class Discriminator(torch.nn.Module):
    """Judges short runs of spectrogram columns, one network per resolution."""

    def __init__(self, resolutions: tuple[int, ...] = (256, 512, 1024), dim: int = 96) -> None:
        super().__init__()
        self.resolutions = resolutions
        self.first = torch.nn.ModuleList(
            torch.nn.Conv1d(n // 2 + 1, dim, 5, padding=2) for n in resolutions
        )
        self.rest = torch.nn.ModuleList(
            torch.nn.ModuleList(torch.nn.Conv1d(dim, dim, 5, padding=2, groups=2) for _ in "ab")
            for _ in resolutions
        )
        self.last = torch.nn.ModuleList(torch.nn.Conv1d(dim, 1, 3, padding=1) for _ in resolutions)

    def forward(self, signal: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """(B, N) -> scores and features per resolution."""
        scores, features = [], []
        for index, n_fft in enumerate(self.resolutions):
            h = torch.log(magnitude(signal, n_fft) + 1e-3)
            h = F.leaky_relu(self.first[index](h), 0.1)
            features.append(h)
            for conv in self.rest[index]:
                h = F.leaky_relu(conv(h), 0.1)
                features.append(h)
            scores.append(self.last[index](h))
        return scores, features


def main() -> None:
    """Train until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--gan-from", type=float, default=0.5, help="share of the time before")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    data = Data(options.cache, options.batch)
    model = HiFT(CONFIG)
    judge = Discriminator()
    judge_optimizer = torch.optim.AdamW(judge.parameters(), 4e-4, betas=(0.8, 0.99))
    loop = Loop(
        model, options.run, minutes=options.minutes, rate=8e-4, betas=(0.8, 0.99), ema=0.999,
        threads=options.threads,
    )  # fmt: skip
    for progress in loop:
        mel, f0, source, real = data()
        with torch.autocast("cpu", torch.bfloat16):
            predicted = model.f0(mel)
            spectrum_source = torch.cat([model.stft(part) for part in source.unbind(2)], 1)
            features = model._features(mel, spectrum_source)
        made = model.inverse_stft(model.head(features.float(), spectrum_source.float()))
        spectral = spectral_loss(made, real)
        pitch = (predicted.float() - f0).abs().mean() / 100
        loss = spectral + pitch
        figures = {"spectral": spectral, "pitch": pitch}
        if progress > options.gan_from:
            real_scores, real_features = judge(real)
            fake_scores, _ = judge(made.detach())
            judged = sum(((1 - r) ** 2).mean() + (f**2).mean()
                         for r, f in zip(real_scores, fake_scores, strict=True))  # fmt: skip
            judge_optimizer.zero_grad(set_to_none=True)
            judged.backward()
            judge_optimizer.step()
            scores, features = judge(made)
            fool = sum(((1 - s) ** 2).mean() for s in scores)
            match = sum((a - b.detach()).abs().mean()
                        for a, b in zip(features, real_features, strict=True))  # fmt: skip
            loss = loss + 0.1 * fool + 0.2 * match
            figures |= {"judge": judged.detach(), "fool": fool.detach()}
        loop.step(loss, **{k: v.detach() for k, v in figures.items()})


if __name__ == "__main__":
    main()
