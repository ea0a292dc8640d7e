from __future__ import annotations

import numpy as np
import pytest

from mynah.backends.base import Cursor, Segment
from mynah.backends.fake import (
    FakeFlow,
    FakeSpeechLM,
    fake_config,
    fake_voice,
    load_fake_backend,
    load_fake_encoders,
)
from mynah.errors import BackendError

CONFIG = fake_config()


def text(*ids: int) -> list[Segment]:
    return [Segment("text", np.array(ids))]


def test_scores_depend_on_everything_read_and_on_its_order() -> None:
    lm = FakeSpeechLM(CONFIG.lm)
    first, state = lm.prefill(text(1, 2), cursor=Cursor(0, 0))
    assert first.shape == (CONFIG.lm.head_size,)
    np.testing.assert_array_equal(first, lm.prefill(text(1, 2), cursor=Cursor(0, 0))[0])
    for other in (lm.prefill(text(2, 1))[0], lm.prefill(text(1, 2), cursor=Cursor(1, 0))[0]):
        assert np.abs(first - other).max() > 0
    copy = lm.fork(state)
    step = lm.step(np.array([3]), [state], [Cursor(0, 1)])
    np.testing.assert_array_equal(step, lm.step(np.array([3]), [copy], [Cursor(0, 1)]))
    moves = lm.advance_logits(np.array([3]), [state])
    assert moves.shape == (1, 6)
    with pytest.raises(BackendError, match="no pointer"):
        FakeSpeechLM(fake_config(pointer=False).lm).advance_logits(np.array([3]), [state])


def test_the_flow_remembers_and_looks_ahead() -> None:
    flow = FakeFlow(CONFIG.flow)
    tokens = np.arange(12)
    whole = flow.encode(tokens, None, flow.new_encoder_state())
    assert whole.shape == (24, 80)
    state = flow.new_encoder_state()
    first = flow.encode(tokens[:5], tokens[5:8], state)
    rest = flow.encode(tokens[5:], None, state)
    np.testing.assert_allclose(np.concatenate([first, rest]), whole, atol=1e-6)
    assert np.abs(flow.encode(tokens[:5], None, flow.new_encoder_state()) - first).max() > 0.01


def test_voices_and_encoders_have_the_sizes_of_the_model() -> None:
    voice = fake_voice(CONFIG)
    assert voice.mel.shape == (2 * len(voice.speech_tokens), 80)
    tokenizer, speaker = load_fake_encoders(CONFIG)
    rng = np.random.default_rng(0)
    tokens = tokenizer.tokens(rng.standard_normal((100, 128)).astype(np.float32))
    assert tokens.shape == (25,)
    assert tokens.max() < CONFIG.lm.speech_vocab_size
    fbank = rng.standard_normal((100, 80)).astype(np.float32)
    assert speaker.embed(fbank).shape == voice.speaker_embedding.shape
    assert load_fake_backend(CONFIG).name == "fake"
