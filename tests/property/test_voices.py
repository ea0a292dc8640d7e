"""Voices survive their file, whatever they hold."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynah.errors import InvalidRequestError
from mynah.pipeline.voices import load_voice, save_voice
from mynah.types import Voice

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def _voice(length: int, seed: int, **texts: str) -> Voice:
    rng = np.random.default_rng(seed)
    return Voice(
        name="anna",
        model_id="nano-1",
        speech_tokens=rng.integers(0, 6561, length),
        mel=rng.standard_normal((2 * length, 80), dtype=np.float32),
        speaker_embedding=rng.standard_normal(192, dtype=np.float32),
        **texts,  # type: ignore[arg-type]  # texts only
    )


@given(st.integers(0, 60), st.integers(0, 2**31), words, words, words)
def test_save_and_load(length: int, seed: int, transcript: str, licence: str, consent: str) -> None:
    voice = _voice(length, seed, transcript=transcript, licence=licence, consent=consent)
    with tempfile.TemporaryDirectory() as folder:
        back = load_voice(save_voice(voice, Path(folder) / "anna.safetensors"))
    assert (back.transcript, back.licence, back.consent) == (transcript, licence, consent)
    for key in ("speech_tokens", "mel", "speaker_embedding"):
        np.testing.assert_array_equal(getattr(back, key), getattr(voice, key))


@given(st.integers(0, 2**31), st.floats(0, 1, exclude_max=True), st.binary(max_size=9))
def test_damage_is_a_typed_error_or_harmless(seed: int, share: float, junk: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = save_voice(_voice(5, seed), Path(folder) / "anna.safetensors")
        data = path.read_bytes()
        at = int(share * len(data))
        path.write_bytes(data[:at] + junk + data[at + len(junk) :])
        with suppress(InvalidRequestError):
            load_voice(path)
        path.write_bytes(data[:at])
        with pytest.raises(InvalidRequestError, match="cannot use the voice file"):
            load_voice(path)
