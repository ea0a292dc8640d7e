"""Speech to words with pocketsphinx and its bundled American English model, offline.

It is a weak judge (about 27 % word errors on clean human speech), but a free, small and
repeatable one: figures are only comparable with figures of the same recogniser.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mynah.audio.resample import resample
from mynah.errors import BackendUnavailableError
from mynah.types import Audio

RATE = 16000
"""Sample rate in Hz that the acoustic model was trained on."""
PEAK = 0.5
PAUSE_S = 0.2
"""Silence put before and after a recording, so that the first word is not cut."""


class Recognizer:
    """The default pocketsphinx decoder: large trigram language model, no adaptation between clips.

    Raises:
        BackendUnavailableError: if pocketsphinx is not installed.
    """

    name = "pocketsphinx en-us"

    def __init__(self) -> None:
        """Load acoustic and language model (about a second)."""
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise BackendUnavailableError(
                "the recogniser pocketsphinx is not installed",
                hint="pip install 'mynah-tts[eval]'",
            ) from error
        self._decoder: Any = Decoder(loglevel="FATAL")
        self._initial_mean = self._decoder.get_cmn()

    def transcribe(self, audio: Audio) -> str:
        """Return the words heard, in lower case; "" for silence."""
        samples = resample(audio.samples, audio.sample_rate, RATE)
        peak = float(np.abs(samples).max(initial=0.0))
        if peak < 1e-4:
            return ""
        padded = np.pad(samples * (PEAK / peak), round(PAUSE_S * RATE))
        data = np.clip(padded * 32767.0, -32768.0, 32767.0).astype(np.int16).tobytes()
        # The running cepstral mean would make a result depend on the clips heard before.
        self._decoder.set_cmn(self._initial_mean)
        self._decoder.start_utt()
        try:
            self._decoder.process_raw(data, full_utt=True)
        finally:
            self._decoder.end_utt()
        best = self._decoder.hyp()
        return best.hypstr if best else ""
