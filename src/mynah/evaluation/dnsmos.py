"""DNSMOS P.835: a network that predicts how people would rate speech, noise and the whole.

The network is the file ``sig_bak_ovr.onnx`` inside the package ``speechmos`` (MIT). Only that file
is used: importing the package would need librosa. Reddy, Gopal, Cutler: "DNSMOS P.835", 2022.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mynah.audio.resample import resample
from mynah.backends.onnx.graph import Graph
from mynah.errors import BackendUnavailableError, InvalidRequestError
from mynah.types import Audio, FloatArray

RATE = 16000
WINDOW_SAMPLES = 144160
"""9.01 s, the length the network was trained on."""
HOP_SAMPLES = RATE

# Raw outputs to the scale of people's ratings, highest power first.
_SPEECH = (-0.08397278, 1.22083953, 0.0052439)
_BACKGROUND = (-0.13166888, 1.60915514, -0.39604546)
_OVERALL = (-0.06766283, 1.11546468, 0.04602535)


@dataclass(frozen=True, slots=True)
class Scores:
    """Mean opinion scores, 1 (bad) to 5 (excellent)."""

    overall: float
    speech: float
    background: float


class Dnsmos:
    """The loaded network.

    Raises:
        BackendUnavailableError: if speechmos is not installed.
    """

    def __init__(self, threads: int = 1) -> None:
        """Load the network; ``threads`` = 0 lets ONNX Runtime choose."""
        self._graph = Graph(_network_path(), threads)
        self._input = next(iter(self._graph.inputs))

    def score(self, audio: Audio) -> Scores:
        """Rate a recording: windows of 9.01 s every second, averaged; shorter ones are repeated.

        Raises:
            InvalidRequestError: for a recording without samples.
        """
        if not len(audio):
            raise InvalidRequestError("cannot rate a recording without samples")
        samples = resample(audio.samples, audio.sample_rate, RATE)
        rated = [self._rate(window) for window in windows(samples)]
        speech, background, overall = np.mean(rated, axis=0)
        return Scores(float(overall), float(speech), float(background))

    def _rate(self, window: FloatArray) -> tuple[float, float, float]:
        (raw,) = self._graph.run({self._input: window[None]}).values()
        speech, background, overall = raw[0]
        return (
            float(np.polyval(_SPEECH, speech)),
            float(np.polyval(_BACKGROUND, background)),
            float(np.polyval(_OVERALL, overall)),
        )


def windows(samples: FloatArray) -> list[FloatArray]:
    """Cut samples at 16 kHz into windows (WINDOW_SAMPLES,); a short recording is doubled first."""
    while len(samples) < WINDOW_SAMPLES:
        samples = np.concatenate([samples, samples])
    starts = range(0, len(samples) - WINDOW_SAMPLES + 1, HOP_SAMPLES)
    return [samples[start : start + WINDOW_SAMPLES] for start in starts]


def _network_path() -> Path:
    spec = importlib.util.find_spec("speechmos")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "dnsmos_models" / "sig_bak_ovr.onnx"
        if path.is_file():
            return path
    raise BackendUnavailableError(
        "the DNSMOS network (package speechmos) is not installed",
        hint="pip install 'mynah-tts[eval]'",
    )
