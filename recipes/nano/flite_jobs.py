"""Sentences -> jobs for flite_corpus: voice, rate and pitch of each at random.

python -m recipes.nano.flite_jobs sentences.txt jobs.tsv
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

VOICES = {"slt": (6.0, 172), "rms": (2.5, 95), "awb": (1.5, 130)}
"""Share, and mean F0 in Hz."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sentences", type=Path)
    parser.add_argument("jobs", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    shares = [share for share, _ in VOICES.values()]
    lines = []
    for sentence in options.sentences.read_text(encoding="utf-8").splitlines():
        voice = rng.choices(list(VOICES), shares)[0]
        stretch = rng.uniform(0.85, 1.2)
        f0 = VOICES[voice][1] * rng.uniform(0.92, 1.12)
        lines.append(f"{voice}\t{stretch:.2f}\t{f0:.0f}\t{sentence}\n")
    options.jobs.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
