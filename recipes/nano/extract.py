"""Stage 2: tokens and speaker vectors of every prepared clip, with the trained tokenizer.

python -m recipes.nano.extract CACHE RUN
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from recipes.nano.store import Corpus
from recipes.nano.train_tokenizer import Model, frame_labels


def load(run: Path) -> Model:
    """The averaged weights of the tokenizer run, ready for use."""
    model = Model()
    model.load_state_dict(torch.load(run.with_suffix(".pt"), weights_only=True)["average"])
    return model.eval()


@torch.inference_mode()
def extract(model: Model, cache: Path, name: str) -> dict[str, float]:
    """Write NAME.tokens.npy and NAME.speakers.npz; return quality figures."""
    corpus = Corpus(cache, name)
    size = sum(clip.num_tokens for clip in corpus.clips)
    tokens = np.zeros(size, np.int16)
    speakers = np.zeros((len(corpus.clips), 192), np.float32)
    right: dict[str, list[int]] = {"train": [0, 0], "test": [0, 0]}
    for index, clip in enumerate(corpus.clips):
        log_mel = torch.from_numpy(corpus.get(clip, "whisper"))[None]
        fbank = torch.from_numpy(corpus.get(clip, "fbank"))[None]
        with torch.autocast("cpu", torch.bfloat16):
            values = model.tokenizer.encode(log_mel)
            digits, ids = model.tokenizer.fsq(values.float())
            _, frames = model.tokenizer.phonemes(digits)
            speakers[index] = model.speaker(fbank)[0].float().numpy()
        tokens[clip.start : clip.start + clip.num_tokens] = ids[0].numpy()
        labels = frame_labels(clip)
        count = right[clip.split]
        count[0] += int(((frames[0].argmax(-1).numpy() == labels) & (labels >= 0)).sum())
        count[1] += int((labels >= 0).sum())
    np.save(cache / f"{name}.tokens.npy", tokens)
    np.savez(cache / f"{name}.speakers.npz", vectors=speakers)
    used = np.bincount(tokens, minlength=model.tokenizer.size.codebook_size) / max(size, 1)
    entropy = -(used[used > 0] * np.log(used[used > 0])).sum()
    return {
        "clips": len(corpus.clips),
        "codes": int((used > 0).sum()),
        "perplexity": round(float(np.exp(entropy)), 1),
        **{f"{k}_accuracy": round(a / b, 4) for k, (a, b) in right.items() if b},
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load(options.run)
    for path in sorted(options.cache.glob("*.json")):
        if not options.only or path.stem in options.only:
            print(path.stem, json.dumps(extract(model, options.cache, path.stem)), flush=True)


if __name__ == "__main__":
    main()
