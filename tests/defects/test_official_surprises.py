"""Surprises of the official code (facts in docs/models/differences.md), each as a rule of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.audio import features
from mynah.audio.resample import sinc_resample
from mynah.backends.fake import fake_config, load_fake_encoders
from mynah.config import LMConfig, MelConfig, SamplingConfig
from mynah.errors import GenerationLimitError
from mynah.pipeline.flow import advance, prefix_state
from mynah.pipeline.noise import ArrayNoise
from mynah.pipeline.prompt import LMPrompt
from mynah.pipeline.speech_lm import SpeechLMStage
from mynah.pipeline.synthesizer import join
from mynah.pipeline.voices import VoiceEncoder
from mynah.types import Audio, FloatArray
from tests.fake_model import SHORT, TEXT, fake_tts
from tests.lm_models import tiny_config
from tests.property import flow_model
from tests.property.flow_model import CHUNK, CONFIG, NOISE, prompt, tokens
from tests.unit.pipeline.test_speech_lm import ScriptedLM

NUM_TEXT = 4
RULES = SamplingConfig(
    top_k=1, repetition_window=0, min_token_text_ratio=2, max_token_text_ratio=20
)


def generation_3() -> LMConfig:
    config = tiny_config("plain")
    changes = {"num_control_tokens": 200, "eos_offset": 1, "fill_offset": 3}
    return config.model_copy(update=changes)


@pytest.mark.parametrize("offset", [0, 1, 2, 3, 199], ids=lambda offset: f"S+{offset}")
def test_no_control_token_ends_speech_before_the_minimum(offset: int) -> None:
    """The official minimum length masks one id, which in generation 3 is not the end of speech.

    Short texts then ended after a token or two, so words were missing.
    """
    config = generation_3()
    network = ScriptedLM(config, config.speech_vocab_size + offset)
    stage = SpeechLMStage(network, config, RULES)
    state = stage.start(LMPrompt("cross_lingual", np.arange(NUM_TEXT)), np.random.default_rng(0))
    while not state.is_finished:
        stage.next_token(state)
    assert len(state.tokens) == 2 * NUM_TEXT
    assert not state.hit_limit


class RestlessLM(ScriptedLM):
    """Likes any control token best, another one at every step, and never the end of speech."""

    def _scores(self, step: int) -> FloatArray:
        scores = super()._scores(step)
        first = self.config.speech_vocab_size
        scores[first:] = np.random.default_rng(self.num_calls).random(len(scores) - first) + 9
        scores[self.config.eos] = -9.0
        return scores


@pytest.mark.parametrize("quiet", [True, False], ids=["speech only", "control tokens"])
def test_text_in_pieces_ends_within_the_limit_whatever_is_drawn(quiet: bool) -> None:
    """While text arrives, any control token but ``fill`` raises in the official loop.

    And once the text has ended there is no limit at all: a model that goes on goes on for ever.
    """
    config = generation_3().model_copy(update={"text_speech_mix": (5, 15)})
    network = (ScriptedLM if quiet else RestlessLM)(config, favourite=7)
    stage = SpeechLMStage(network, config, RULES)
    prompt = LMPrompt("cross_lingual", np.zeros(0, np.int64))
    state = stage.start_turns(prompt, np.random.default_rng(0))
    num_text = 23
    for _ in range(num_text):
        stage.add_text(state, np.array([3]))
        while not state.needs_text and not state.is_finished:
            stage.next_token(state)
    stage.end_text(state)
    steps = 0
    while not state.is_finished:
        assert steps < 30 * num_text, "no end in sight"
        stage.next_token(state)
        steps += 1
    assert state.hit_limit is quiet
    assert 0 < len(state.tokens) <= 20 * num_text + 100
    assert max(state.tokens) < config.speech_vocab_size


def test_prompts_of_generation_1_are_analysed_at_their_own_rate(speechlike: Audio) -> None:
    """The official code resamples every prompt to 24 kHz, also where the mel is of 22.05 kHz.

    The voice then sounds a semitone and a half too low, and has nine per cent too many frames.
    """
    mel = MelConfig(sample_rate=22050, n_fft=1024, hop_length=256, win_length=1024, fmax=8000)
    config = fake_config(pointer=False)
    flow = config.flow.model_copy(update={"token_mel_ratio": None})
    config = config.model_copy(
        update={"mel": mel, "sample_rate": 22050, "token_rate": 50, "flow": flow}
    )
    voice = VoiceEncoder(*load_fake_encoders(config), config).encode(speechlike, name="v")
    assert len(voice.mel) == config.num_frames(len(voice.speech_tokens))
    right = features.log_mel(sinc_resample(speechlike.samples, 24000, 22050), mel)
    wrong = features.log_mel(speechlike.samples, mel)
    assert distance(voice.mel, right) < 1e-3 < 0.1 < distance(voice.mel, wrong)


def distance(part: Any, whole: Any) -> float:
    """Mean difference at the place where ``part`` fits best into ``whole``."""
    places = range(len(whole) - len(part) + 1)
    return min(float(np.abs(whole[i : i + len(part)] - part).mean()) for i in places)


def test_speech_beyond_the_noise_is_a_typed_error() -> None:
    """The noise of released models has 300 s; a longer utterance died with a size mismatch."""
    noise = ArrayNoise(np.zeros((100, 80), np.float32))
    assert noise.frames(90, 100).shape == (10, 80)
    with pytest.raises(GenerationLimitError, match=r"100 frames, frame 101 .*shorter parts"):
        noise.frames(90, 101)


def test_speed_works_in_a_stream(tmp_path: Path) -> None:
    """Speed is asserted to be one as soon as an official request is streamed (complaint 20)."""
    with fake_tts(tmp_path) as tts:
        for speed in (0.5, 1.3, 2.0):
            streamed = join(list(tts.stream(TEXT, seed=3, speed=speed)))
            np.testing.assert_array_equal(
                streamed.samples, tts.synthesize(TEXT, seed=3, speed=speed).samples
            )
        normal = tts.synthesize(SHORT, seed=3)
        assert len(tts.synthesize(SHORT, seed=3, speed=2.0)) == pytest.approx(
            len(normal) / 2, abs=480
        )


def test_the_last_chunk_is_computed_like_all_others() -> None:
    """The official last chunk is made again with full attention, so the end does not fit.

    89 of 100 streamed outputs had noise in their last 40 ms. A frame whose look-ahead is known must
    be the same whether speech ends soon after it or goes on: with full attention it is not.
    """
    network, voice, speech = flow_model.network("torch"), prompt(CHUNK + 3), tokens(5 * CHUNK)
    made = []
    for count in (2 * CHUNK, 5 * CHUNK):
        state = prefix_state(network, CONFIG, voice, NOISE)
        made.append(advance(network, CONFIG, speech[:count], state, final=True))
    certain = 2 * (2 * CHUNK - (CHUNK + 3 + 2 * CHUNK) % CHUNK)
    np.testing.assert_allclose(made[0][:certain], made[1][:certain], atol=1e-5)
    assert np.abs(made[0][certain:] - made[1][certain : 4 * CHUNK]).max() > 1e-3
