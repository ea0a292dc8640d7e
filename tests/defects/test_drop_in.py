"""Defects of the official interface that a drop-in could easily inherit (complaint 2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mynah.api import TTS
from mynah.backends.fake import fake_config, load_fake_encoders
from mynah.compat import CosyVoice2
from mynah.compat.options import Options
from mynah.types import Audio
from tests.fake_model import fake_model, fake_tts


class CountingTokenizer:
    """The fake model's tokenizer, counting."""

    calls = 0

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def tokens(self, mel: Any) -> Any:
        self.calls += 1
        return self._tokenizer.tokens(mel)


def test_a_recording_becomes_a_voice_once(tmp_path: Path, speechlike: Audio) -> None:
    """The official front end runs tokenizer, speaker model and mel for the prompt of every request.

    That is most of the time to the first sound of a short text, and is the same work every time.
    """
    model = fake_model(fake_config(pointer=False))
    tokenizer, speaker = load_fake_encoders(model.config)
    counting = CountingTokenizer(tokenizer)
    store = fake_tts(tmp_path, model).voices
    cosyvoice = CosyVoice2.__new__(CosyVoice2)
    cosyvoice._adopt("folder", TTS(model, store, lambda: (counting, speaker)), Options())
    path = speechlike.save(tmp_path / "prompt.wav")
    for _ in range(3):
        assert list(cosyvoice.inference_zero_shot("Hi.", "a few words", path))
        assert list(cosyvoice.inference_zero_shot("Hi.", "a few words", path.read_bytes()))
    assert counting.calls == 1
    assert list(cosyvoice.inference_cross_lingual("Hi.", path))
    assert counting.calls == 2, "without a transcript the recording is cut in another way"
