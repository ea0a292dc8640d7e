"""Train the letter-to-sound network on the package's lexicon (one thread, about ten minutes).

    python -m recipes.nano.train_letter_to_sound src/mynah/text/data/letter_to_sound_en.npz

5 % of the words (chosen by a hash of the word) are held out; phoneme error and word accuracy on
them are printed at the end, measured with the NumPy code that ships.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from mynah.text.letter_to_sound import LETTERS, MAX_STRESSES, PREVIOUS_CHUNKS, LetterToSound
from mynah.text.lexicon import Lexicon, Pronunciation
from recipes.nano.align_letters import Alignment, align_all

DILATIONS = (1, 2, 1, 2, 1)
WIDTH = 5


def held_out(word: str) -> bool:
    """Whether a word belongs to the 5 % that are never trained on."""
    return zlib.crc32(word.encode()) % 20 == 0


class Network(nn.Module):
    """The torch twin of ``mynah.text.letter_to_sound.LetterToSound``."""

    def __init__(self, chunks: int, channels: int = 160, hidden: int = 256) -> None:
        """Build for a number of output chunks."""
        super().__init__()
        self.letters = nn.Embedding(1 + len(LETTERS), channels, padding_idx=0)
        self.conv = nn.ModuleList(nn.Linear(WIDTH * channels, channels) for _ in DILATIONS)
        self.mix = nn.ModuleList(nn.Linear(channels, channels, bias=False) for _ in DILATIONS)
        self.features = nn.Linear(channels, hidden)
        self.stress = nn.Embedding(MAX_STRESSES + 1, hidden)
        self.previous = nn.ModuleList(nn.Embedding(chunks, hidden) for _ in range(PREVIOUS_CHUNKS))
        self.out = nn.Linear(hidden, chunks)
        self.dropout = nn.Dropout(0.1)
        for table in (self.stress, *self.previous):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, letters: Tensor, previous: Tensor, stresses: Tensor) -> Tensor:
        """Logits (B, L, chunks) from letters (B, L), earlier chunks (B, L, 3), stresses (B, L)."""
        mask = (letters > 0).unsqueeze(-1).float()
        x = self.letters(letters)
        for dilation, conv, mix in zip(DILATIONS, self.conv, self.mix, strict=True):
            reach = dilation * (WIDTH // 2)
            padded = functional.pad(_norm(x) * mask, (0, 0, reach, reach))
            wide = padded.unfold(1, 1 + 2 * reach, 1)[..., ::dilation]
            wide = wide.transpose(-1, -2).flatten(-2)
            x = x + mix(self.dropout(functional.gelu(conv(wide), approximate="tanh")))
        hidden = self.features(self.dropout(_norm(x))) + self.stress(stresses)
        for index, table in enumerate(self.previous):
            hidden = hidden + table(previous[..., index])
        logits: Tensor = self.out(self.dropout(functional.gelu(hidden, approximate="tanh")))
        return logits


def _norm(x: Tensor) -> Tensor:
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def pack(network: Network, chunks: Sequence[Pronunciation]) -> bytes:
    """The file that ships: int8 matrices with one scale per row."""
    names = {
        "letters": "letters.weight",
        "head.features": "features.weight",
        "head.bias": "features.bias",
        "head.stress": "stress.weight",
        "head.out": "out.weight",
        "head.out_bias": "out.bias",
        **{f"head.previous.{i}": f"previous.{i}.weight" for i in range(PREVIOUS_CHUNKS)},
    }
    for index in range(len(DILATIONS)):
        names[f"blocks.{index}.conv"] = f"conv.{index}.weight"
        names[f"blocks.{index}.bias"] = f"conv.{index}.bias"
        names[f"blocks.{index}.out"] = f"mix.{index}.weight"
    arrays: dict[str, npt.NDArray[Any]] = {
        "dilations": np.array(DILATIONS, np.int32),
        "chunks": np.frombuffer(json.dumps([" ".join(c) for c in chunks]).encode(), np.uint8),
    }
    weights = network.state_dict()
    for name, key in names.items():
        weight = weights[key].numpy()
        if weight.ndim == 1:
            arrays[name] = weight.astype(np.float16)
            continue
        scale = np.maximum(np.abs(weight).max(1, keepdims=True) / 127, 1e-8).astype(np.float32)
        arrays[name] = np.round(weight / scale).astype(np.int8)
        arrays[f"{name}.scale"] = scale
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def batches(
    words: Sequence[str], aligned: dict[str, Alignment], ids: dict[Pronunciation, int], size: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Shuffled batches of similar word lengths: letters, earlier chunks, stresses, targets."""
    rng = np.random.default_rng(int(torch.randint(1 << 30, ())))
    order = sorted(range(len(words)), key=lambda i: len(words[i]) + rng.random() * 2)
    starts = rng.permutation(range(0, len(order), size))
    for start in starts:
        group = [words[i] for i in order[start : start + size]]
        longest = max(map(len, group))
        letters = np.zeros((len(group), longest), np.int64)
        targets = np.zeros((len(group), longest), np.int64)
        stresses = np.zeros((len(group), longest), np.int64)
        for row, word in enumerate(group):
            chunks = aligned[word]
            letters[row, : len(word)] = [1 + LETTERS.index(c) for c in word]
            targets[row, : len(word)] = [ids[chunk] for chunk in chunks]
            counts = np.cumsum([sum(p.endswith("1") for p in chunk) for chunk in chunks])
            stresses[row, 1 : len(word)] = np.minimum(counts[:-1], MAX_STRESSES)
        padded = np.pad(targets, ((0, 0), (PREVIOUS_CHUNKS, 0)))
        previous = np.stack(
            [padded[:, PREVIOUS_CHUNKS - 1 - k :][:, :longest] for k in range(PREVIOUS_CHUNKS)], -1
        )
        previous[rng.random(previous.shape[:2]) < 0.05] = 0
        yield (
            torch.from_numpy(letters),
            torch.from_numpy(previous),
            torch.from_numpy(stresses),
            torch.from_numpy(targets),
        )


def edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Levenshtein distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def evaluate(model: LetterToSound, lexicon: Lexicon, words: Sequence[str]) -> dict[str, float]:
    """Error rates on words, against the nearest pronunciation of the dictionary."""
    errors = total = right = right_unstressed = 0
    for word in words:
        guess = model(word)
        truth = min(lexicon.pronunciations(word), key=lambda p: edit_distance(guess, p))
        errors += edit_distance(guess, truth)
        total += len(truth)
        right += guess == truth
        bare = [p.rstrip("01") for p in guess]
        variants = lexicon.pronunciations(word)
        right_unstressed += any(bare == [p.rstrip("01") for p in v] for v in variants)
    return {
        "words": len(words),
        "phoneme_error": errors / total,
        "word_accuracy": right / len(words),
        "word_accuracy_without_stress": right_unstressed / len(words),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--limit", type=int, default=0, help="use only so many words (smoke test)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    lexicon = Lexicon.english()
    words = [w for w in lexicon if re.fullmatch(r"[a-z][a-z']+", w) and set(w) & set("aeiouy")]
    words = words[:: max(1, len(words) // arguments.limit)] if arguments.limit else words
    train = [word for word in words if not held_out(word)]
    test = [word for word in words if held_out(word)]
    aligned = align_all([(word, lexicon.pronunciations(word)[0]) for word in train])
    chunks: list[Pronunciation] = [()]
    chunks += sorted({chunk for word in aligned.values() for chunk in word})
    ids = {chunk: index for index, chunk in enumerate(chunks) if index}
    train = list(aligned)
    network = Network(len(chunks))
    optimizer = torch.optim.AdamW(network.parameters(), 1.0, (0.9, 0.98), weight_decay=0.01)
    steps = arguments.epochs * (-(-len(train) // arguments.batch))
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, arguments.rate, total_steps=steps, pct_start=0.1
    )
    print(f"{len(train)} words, {len(test)} held out, {len(chunks)} chunks, {steps} steps")
    start = time.monotonic()
    for epoch in range(arguments.epochs):
        losses = []
        for letters, previous, stresses, targets in batches(train, aligned, ids, arguments.batch):
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(letters, previous, stresses)
            loss = functional.cross_entropy(
                logits.float().flatten(0, 1),
                targets.flatten(),
                ignore_index=0,
                label_smoothing=0.05,
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            losses.append(float(loss.detach()))
        print(f"epoch {epoch} loss {np.mean(losses):.4f} {time.monotonic() - start:.0f} s")
        data = pack(network, chunks)
        arguments.output.write_bytes(data)
        model = LetterToSound.from_bytes(data)
        last = epoch == arguments.epochs - 1
        print(json.dumps(evaluate(model, lexicon, test if last else test[::20])), flush=True)


if __name__ == "__main__":
    main()
