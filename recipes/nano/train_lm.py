"""Stage 4: text-speech language model with a monotonic text pointer.

    python -m recipes.nano.train_lm CACHE RUN --minutes 40

The pointer follows the alignment: at each token it stands on the symbol spoken at the token's
centre. Synthetic speech teaches pronunciation first, its share falls while training goes on.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mynah.config import LMConfig, PointerConfig
from mynah.networks.language_model import SpeechLanguageModel
from mynah.text.symbols import NUM_SYMBOLS
from recipes.nano.loop import Loop
from recipes.nano.store import Clip, Corpus
from recipes.nano.train_flow import NUM_DIGITS, NUM_LEVELS, DigitEmbedding

CONFIG = LMConfig(
    text_vocab_size=NUM_SYMBOLS, hidden_size=256, num_layers=6, num_heads=4, num_kv_heads=2,
    head_dim=64, intermediate_size=768, rope_theta=10000.0,
    speech_vocab_size=NUM_LEVELS**NUM_DIGITS, num_control_tokens=3, speaker_dim=192,
    reads_prompt_speech=False, pointer=PointerConfig(),
)  # fmt: skip
HUMAN = {"kathleen": 2.0, "ljspeech": 1.5}


@dataclass
class Row:
    """One training sequence."""

    symbols: np.ndarray
    tokens: np.ndarray
    position: np.ndarray
    dwell: np.ndarray
    advance: np.ndarray
    speaker: str


def pointer_path(clip: Clip, config: PointerConfig) -> tuple[np.ndarray, ...] | None:
    """Position, dwell and advance class of every token; None when the alignment is unusable."""
    centres = 40.0 * np.arange(clip.num_tokens) + 20.0
    position = np.searchsorted(np.asarray(clip.ends_ms), centres, side="right")
    position = np.minimum(position, len(clip.symbols) - 1)
    position[0], position[-1] = 0, len(clip.symbols) - 1
    moves = np.diff(position)
    if moves.min(initial=0) < 0 or moves.max(initial=0) > config.max_advance:
        return None
    started = np.maximum.accumulate(np.where(np.r_[True, moves > 0], np.arange(len(position)), 0))
    return position, np.arange(len(position)) - started, np.r_[moves, config.max_advance + 1]


class Data:
    """Sequences of all transcribed corpora, and speaker vectors to go with them."""

    def __init__(self, cache: Path, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.speakers: dict[str, np.ndarray] = {}
        rows: dict[str, list[Row]] = {"human": [], "synthetic": [], "test": []}
        vectors: dict[str, list[np.ndarray]] = {}
        weight: list[float] = []
        for path in sorted(cache.glob("*.json")):
            corpus = Corpus(cache, path.stem)
            known = np.load(cache / f"{path.stem}.speakers.npz")["vectors"]
            for index, clip in enumerate(corpus.clips):
                if not clip.symbols:
                    continue
                found = pointer_path(clip, CONFIG.pointer or PointerConfig())
                if found is None:
                    continue
                tokens = corpus.get(clip, "tokens").astype(np.int64)
                row = Row(np.array(clip.symbols), tokens, *found, clip.corpus + clip.speaker)
                vectors.setdefault(row.speaker, []).append(known[index])
                kind = "human" if clip.corpus in HUMAN else "synthetic"
                rows["test" if clip.split == "test" else kind].append(row)
                if kind == "human" and clip.split != "test":
                    weight.append(HUMAN[clip.corpus])
        self.rows = rows
        self.vectors = {key: np.stack(values) for key, values in vectors.items()}
        self.weight = np.array(weight) / sum(weight)
        print({key: len(value) for key, value in rows.items()}, flush=True)

    def batches(self, synthetic_share: float, budget: int = 2600) -> list[list[Row]]:
        """About 200 sequences grouped by length, at most ``budget`` padded positions each."""
        chosen = []
        for _ in range(200):
            if self.rng.random() < synthetic_share:
                pool = self.rows["synthetic"]
                chosen.append(pool[int(self.rng.integers(len(pool)))])
            else:
                pool = self.rows["human"]
                chosen.append(pool[int(self.rng.choice(len(pool), p=self.weight))])
        return group(chosen, budget, self.rng)

    def speaker(self, row: Row) -> np.ndarray:
        """Speaker vector of a random clip of the same voice."""
        own = self.vectors[row.speaker]
        return own[int(self.rng.integers(len(own)))]


def group(rows: list[Row], budget: int, rng: np.random.Generator) -> list[list[Row]]:
    """Neighbours in length together."""
    rows = sorted(rows, key=lambda row: len(row.symbols) + len(row.tokens))
    batches: list[list[Row]] = [[]]
    for row in rows:
        size = len(row.symbols) + len(row.tokens) + 3
        if batches[-1] and size * (len(batches[-1]) + 1) > budget:
            batches.append([])
        batches[-1].append(row)
    return [batches[i] for i in rng.permutation(len(batches))]


def build() -> SpeechLanguageModel:
    """The model with the training-time speech embedding."""
    model = SpeechLanguageModel(CONFIG)
    for table in (model.text_embedding, model.marker_embedding, model.pointer.dwell):
        nn.init.normal_(table.weight, std=0.05)
    model.speech_embedding = DigitEmbedding(CONFIG.hidden_size)
    model.pointer.token = DigitEmbedding(CONFIG.hidden_size)
    for layer in model.trunk.parameters():
        if layer.dim() == 2:
            nn.init.normal_(layer, std=0.05)
    return model


def padded(arrays: list[np.ndarray]) -> torch.Tensor:
    """Ragged int arrays -> (B, longest) int64, zeros at the end."""
    out = torch.zeros(len(arrays), max(map(len, arrays)), dtype=torch.long)
    for row, array in enumerate(arrays):
        out[row, : len(array)] = torch.from_numpy(array.astype(np.int64))
    return out


def objective(
    model: SpeechLanguageModel, rows: list[Row], speakers: np.ndarray, drop: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cross-entropy of tokens and of pointer moves, and the token accuracy."""
    symbols, tokens = padded([r.symbols for r in rows]), padded([r.tokens for r in rows])
    position, dwell = padded([r.position for r in rows]), padded([r.dwell for r in rows])
    moves = padded([r.advance for r in rows])
    num_text = torch.tensor([len(r.symbols) for r in rows])
    num_speech = torch.tensor([len(r.tokens) for r in rows])
    batch, longest = tokens.shape
    text = model.embed_text(symbols)
    near = model.pointer.features(text, position, dwell, num_text)
    history = tokens[:, :-1]
    if drop > 0:
        # A clean history names the utterance, and a small corpus is learned by heart. Wrong and
        # missing tokens force the model to the text, and are what it meets when it speaks.
        wrong = torch.rand(history.shape) < drop
        history = torch.where(wrong, torch.randint_like(history, CONFIG.speech_vocab_size), history)
    previous = model.embed_speech(history)
    if drop > 0:
        previous = previous * (torch.rand(batch, longest - 1, 1) >= drop)
    task = model.embed_marker(torch.ones(batch, 1, dtype=torch.long))
    speech = torch.cat([task, previous], dim=1) + near
    head = torch.cat(
        [model.embed_marker(torch.zeros(batch, 1, dtype=torch.long)),
         model.embed_speaker(torch.from_numpy(speakers))], dim=1,
    )  # fmt: skip
    sequences = [
        torch.cat([head[b], text[b, : num_text[b]], speech[b, : num_speech[b]]])
        for b in range(batch)
    ]
    inputs = nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    inputs = F.dropout(inputs, drop)  # 0 when evaluating
    hidden, _ = model(inputs)
    where = (2 + num_text)[:, None] + torch.arange(longest)[None]
    where = where.clamp(max=inputs.shape[1] - 1)
    hidden = hidden.gather(1, where[..., None].expand(-1, -1, hidden.shape[-1]))
    mask = torch.arange(longest)[None] < num_speech[:, None]
    hidden, target, move = hidden[mask], tokens[mask], moves[mask]
    logits = model.logits(hidden).float()
    advance = model.pointer.advance_logits(hidden, target).float()
    accuracy = (logits.argmax(-1) == target).float().mean()
    return F.cross_entropy(logits, target), F.cross_entropy(advance, move), accuracy


def evaluate(model: SpeechLanguageModel, data: Data) -> dict[str, float]:
    """Losses on held-out human speech."""
    rng = np.random.default_rng(0)
    totals = np.zeros(3)
    batches = group(data.rows["test"], 2600, rng)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for rows in batches:
            speakers = np.stack([data.vectors[row.speaker][0] for row in rows])
            totals += [float(x) for x in objective(model, rows, speakers)]
    token, move, accuracy = totals / len(batches)
    return {"test_token": token, "test_move": move, "test_accuracy": accuracy}


def main() -> None:
    """Train until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(0)
    data = Data(options.cache)
    model = build()
    loop = Loop(model, options.run, minutes=options.minutes, rate=2e-3, threads=options.threads,
                weight_decay=0.05, ema=0.999)  # fmt: skip
    queue: list[list[Row]] = []
    for progress in loop:
        if not queue:
            queue = data.batches(0.8 - 0.35 * progress)
        rows = queue.pop()
        speakers = np.stack([data.speaker(row) for row in rows])
        with torch.autocast("cpu", torch.bfloat16):
            token, move, accuracy = objective(model, rows, speakers, drop=0.15)
        loop.step(token + 0.5 * move, token=token.detach(), move=move.detach(), accuracy=accuracy)
        if loop.steps % 400 == 0:
            model.eval()
            print(evaluate(model, data), flush=True)
            model.train()


if __name__ == "__main__":
    main()
