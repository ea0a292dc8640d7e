"""Stage 1: speech tokenizer and speaker encoder, trained together.

    python -m recipes.nano.train_tokenizer CACHE RUN --minutes 20

The tokens must tell the phonemes (CTC and frame-wise cross-entropy from the alignments) and, with
the speaker vector of another stretch of the same speaker, the mel. Resumes from RUN.pt.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mynah.networks.convnext import ConvNeXtBlock
from mynah.networks.speaker_encoder import SpeakerEncoder
from mynah.networks.speech_tokenizer import SpeechTokenizer, SpeechTokenizerSize
from mynah.text.symbols import END_ID, PAUSE_IDS, SYMBOLS
from recipes.nano.loop import Loop
from recipes.nano.store import Clip, Corpus

MEL_MEAN, MEL_STD = -5.5, 2.3
TOKENS = 75  # per training crop
LETTER_CLASSES = sorted({s.lstrip("_") for s in SYMBOLS if s.lstrip("_")[0].isupper()})
CLASS_OF = np.zeros(len(SYMBOLS), np.int64)  # symbol id -> phoneme class; 1 = silence
for _index, _symbol in enumerate(SYMBOLS):
    if _symbol.lstrip("_") in LETTER_CLASSES:
        CLASS_OF[_index] = 2 + LETTER_CLASSES.index(_symbol.lstrip("_"))
    elif _index in PAUSE_IDS or _index == END_ID:
        CLASS_OF[_index] = 1


class Reconstruction(torch.nn.Module):
    """Digits and speaker vector -> mel; exists only to keep sound in the tokens."""

    def __init__(self, num_digits: int, dim: int = 192) -> None:
        super().__init__()
        self.up = torch.nn.Linear(num_digits, dim)
        self.speaker = torch.nn.Linear(192, dim)
        self.blocks = torch.nn.ModuleList(ConvNeXtBlock(dim, expansion=2) for _ in range(3))
        self.out = torch.nn.Linear(dim, 160)

    def forward(self, digits: torch.Tensor, speaker: torch.Tensor) -> torch.Tensor:
        """(B, T, L), (B, 192) -> (B, 2T, 80)."""
        h = self.up(digits) + self.speaker(speaker * 8)[:, None]
        for block in self.blocks:
            h = block(h)
        return self.out(h).reshape(h.shape[0], -1, 80)


class Model(torch.nn.Module):
    """Everything that is trained in this stage."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = SpeechTokenizer(
            SpeechTokenizerSize(num_phonemes=2 + len(LETTER_CLASSES), dim=224, num_blocks=5)
        )
        self.speaker = SpeakerEncoder()
        self.reconstruction = Reconstruction(self.tokenizer.size.num_digits)


def frame_labels(clip: Clip) -> np.ndarray:
    """Phoneme class of each 20 ms half-token; -1 where nothing is known."""
    if not clip.symbols:
        return np.full(2 * clip.num_tokens, -1, np.int64)
    centres = 20.0 * np.arange(2 * clip.num_tokens) + 10.0
    index = np.searchsorted(np.asarray(clip.ends_ms), centres, side="right")
    symbols = np.asarray(clip.symbols)[np.minimum(index, len(clip.symbols) - 1)]
    return CLASS_OF[symbols]


class Batches:
    """Random crops, human speech weighted up."""

    def __init__(self, corpora: list[Corpus], size: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.size = size
        self.items = [(c, clip) for c in corpora for clip in c.clips if clip.split == "train"]
        weight = {"kathleen": 3.0, "ljspeech": 3.0, "librispeech": 1.0, "flite": 0.6}
        w = np.array([weight[clip.corpus] * clip.num_tokens for _, clip in self.items])
        self.weight = w / w.sum()
        self.by_speaker: dict[str, list[int]] = {}
        for index, (_, clip) in enumerate(self.items):
            self.by_speaker.setdefault(clip.corpus + clip.speaker, []).append(index)

    def crop(self, index: int, key: str, tokens: int) -> np.ndarray:
        """A random stretch of one clip, repeated if the clip is shorter."""
        corpus, clip = self.items[index]
        start = int(self.rng.integers(0, max(1, clip.num_tokens - tokens + 1)))
        rows = corpus.get(clip, key, start, min(start + tokens, clip.num_tokens))
        need = tokens * corpus.rows_per_token(key)
        return np.resize(rows, (need, rows.shape[1]))

    def __call__(self) -> dict[str, torch.Tensor]:
        """The next batch."""
        whisper = np.full((self.size, 4 * TOKENS, 128), -1.0, np.float32)
        mel = np.full((self.size, 2 * TOKENS, 80), -11.5, np.float32)
        labels = np.full((self.size, 2 * TOKENS), -1, np.int64)
        valid = np.zeros((self.size, TOKENS), np.float32)
        fbank = np.zeros((self.size, 250, 80), np.float32)
        for row, index in enumerate(self.rng.choice(len(self.items), self.size, p=self.weight)):
            corpus, clip = self.items[index]
            start = int(self.rng.integers(0, max(1, clip.num_tokens - TOKENS + 1)))
            stop = min(start + TOKENS, clip.num_tokens)
            n = stop - start
            gain = self.rng.normal() * 0.05
            whisper[row, : 4 * n] = corpus.get(clip, "whisper", start, stop) + gain
            mel[row, : 2 * n] = corpus.get(clip, "mel", start, stop)
            labels[row, : 2 * n] = frame_labels(clip)[2 * start : 2 * stop]
            valid[row, :n] = 1
            other = self.rng.choice(self.by_speaker[clip.corpus + clip.speaker])
            fbank[row] = self.crop(int(other), "fbank", 63)[:250]
        for row in range(
            self.size
        ):  # a little SpecAugment keeps the encoder from relying on a band
            band = self.rng.integers(0, 112)
            width = self.rng.integers(0, 16)
            whisper[row, :, band : band + width] = whisper[row].mean()
        arrays = {"whisper": whisper, "mel": (mel - MEL_MEAN) / MEL_STD, "labels": labels}
        arrays |= {"valid": valid, "fbank": fbank}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def ctc(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """CTC loss per phoneme; targets are the runs of the frame labels, silence left out."""
    rows = torch.nonzero(labels[:, 0] >= 0)[:, 0]
    targets, sizes = [], []
    for row in rows.tolist():
        runs = torch.unique_consecutive(labels[row])
        runs = runs[runs > 1]
        targets.append(runs)
        sizes.append(len(runs))
    log_probs = logits[rows].float().log_softmax(-1).transpose(0, 1)
    lengths = (labels[rows] >= 0).sum(1)
    total = F.ctc_loss(
        log_probs, torch.cat(targets), lengths, torch.tensor(sizes), reduction="sum",
        zero_infinity=True,
    )  # fmt: skip
    return total / max(sum(sizes), 1)


def main() -> None:
    """Train until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    names = [p.stem for p in options.cache.glob("*.json")]
    batches = Batches([Corpus(options.cache, n) for n in sorted(names)], options.batch, 0)
    model = Model()
    loop = Loop(model, options.run, minutes=options.minutes, rate=2e-3, threads=options.threads)
    for progress in loop:
        batch = batches()
        soft = torch.rand(options.batch) < 0.9 * max(0.0, 1 - progress / 0.15)
        with torch.autocast("cpu", torch.bfloat16):
            values = model.tokenizer.encode(batch["whisper"])
            digits, tokens = model.tokenizer.fsq(values.float(), soft)
            ctc_logits, frame_logits = model.tokenizer.phonemes(digits)
            speaker = model.speaker(batch["fbank"])
            mel = model.reconstruction(digits, speaker)
        labels, valid = batch["labels"], batch["valid"]
        ce = F.cross_entropy(frame_logits.float().flatten(0, 1), labels.flatten(), ignore_index=-1)
        weight = valid.repeat_interleave(2, 1)[..., None]
        l1 = ((mel.float() - batch["mel"]).abs() * weight).sum() / weight.sum() / 80
        connectionist = ctc(ctc_logits, labels)
        loss = ce + 0.3 * connectionist + 4.0 * l1
        accuracy = (frame_logits.argmax(-1) == labels)[labels >= 0].float().mean()
        codes = torch.unique(tokens[valid > 0]).numel()
        loop.step(loss, ce=ce, ctc=connectionist, mel=l1, accuracy=accuracy, codes=float(codes))


if __name__ == "__main__":
    main()
