"""How long an English sentence should take, from its phonemes and pauses.

The three numbers are a least-squares fit to 600 recordings of the CC0 corpus "kathleen" (American
English, read sentences, silence cut to 0.1 s at both ends); nine in ten of those last 0.85 to 1.17
times the estimate.
"""

from __future__ import annotations

from mynah.text.english import phonemize_english
from mynah.text.normalize import complete_punctuation, normalize
from mynah.text.symbols import PAUSE_IDS, SYMBOL_IDS

SECONDS_PER_PHONEME = 0.0694
SECONDS_PER_PAUSE = 0.274
EDGES_S = 0.741
"""Quiet before the first and after the last word, and the drawn-out last syllable."""


def expected_duration_s(text: str) -> float:
    """Estimate the length of an English sentence spoken at normal speed."""
    symbols = phonemize_english(complete_punctuation(normalize(text, "en")))
    is_pause = [SYMBOL_IDS[symbol] in PAUSE_IDS for symbol in symbols]
    spoken = [index for index, silent in enumerate(is_pause) if not silent]
    if not spoken:
        return EDGES_S
    num_pauses = sum(is_pause[spoken[0] : spoken[-1]])
    return SECONDS_PER_PHONEME * len(spoken) + SECONDS_PER_PAUSE * num_pauses + EDGES_S
