"""Prepared corpora on disk: flat arrays of features and an index of clips.

One corpus NAME is ``NAME.json`` (list of clips), ``NAME.whisper.npy`` (100 Hz, 128),
``NAME.fbank.npy`` (100 Hz, 80), ``NAME.mel.npy`` (50 Hz, 80), ``NAME.samples.npy`` (24 kHz int16,
optional). All lengths follow from the number of 25 Hz tokens of a clip, so one offset addresses
every array.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

RATES = {"whisper": (4, 128), "fbank": (4, 80), "mel": (2, 80)}  # rows per token, columns
SAMPLES_PER_TOKEN = 960


@dataclass
class Clip:
    """One utterance: where it lies and what is said when."""

    corpus: str
    speaker: str
    split: str
    text: str
    num_tokens: int
    start: int = 0  # in tokens, into the flat arrays
    symbols: list[int] = field(default_factory=list)
    ends_ms: list[float] = field(default_factory=list)  # end of each symbol


class Writer:
    """Collects clips in memory and writes the flat arrays once."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.clips: list[Clip] = []
        self.arrays: dict[str, list[np.ndarray]] = {}
        self.position = 0

    def add(self, clip: Clip, **arrays: np.ndarray) -> None:
        """Append a clip and its features, cut to the length of its tokens."""
        clip.start, self.position = self.position, self.position + clip.num_tokens
        self.clips.append(clip)
        for key, array in arrays.items():
            per_token = SAMPLES_PER_TOKEN if key == "samples" else RATES[key][0]
            rows = per_token * clip.num_tokens
            if len(array) < rows:  # features of the last fraction of a frame
                pad = [(0, rows - len(array))] + [(0, 0)] * (array.ndim - 1)
                array = np.pad(array, pad, mode="edge")
            kind = np.int16 if key == "samples" else np.float16
            self.arrays.setdefault(key, []).append(array[:rows].astype(kind))

    def close(self) -> None:
        """Write everything; the index last, so that a corpus with an index is complete."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for key, parts in self.arrays.items():
            np.save(self.folder / f"{self.name}.{key}.npy", np.concatenate(parts))
        index = [asdict(clip) for clip in self.clips]
        (self.folder / f"{self.name}.json").write_text(json.dumps(index), encoding="utf-8")


class Corpus:
    """Read access to a prepared corpus by memory map."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        rows: list[dict[str, Any]] = json.loads((folder / f"{name}.json").read_text("utf-8"))
        self.clips = [Clip(**row) for row in rows]
        self.arrays = {
            path.name.split(".")[-2]: np.load(path, mmap_mode="r")
            for path in folder.glob(f"{name}.*.npy")
        }

    def get(self, clip: Clip, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows of tokens ``start:stop`` of a clip as float32 (samples in [-1, 1])."""
        stop = clip.num_tokens if stop is None else stop
        per_token = SAMPLES_PER_TOKEN if key == "samples" else self.rows_per_token(key)
        first = (clip.start + start) * per_token
        rows = self.arrays[key][first : (clip.start + stop) * per_token]
        return rows.astype(np.float32) / (32768.0 if key == "samples" else 1.0)

    @staticmethod
    def rows_per_token(key: str) -> int:
        """Rows per token of a feature; token ids are stored one by one."""
        return RATES[key][0] if key in RATES else 1
